"""What axe-core finds on a page that keeps people out who see, hear or move otherwise."""

from . import paths

#: The rules of WCAG 2.1, levels A and AA.
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
_FIND = """async ([rules, ours, theirs]) => {
    const { violations } = await axe.run(document, {
        runOnly: rules, resultTypes: ["violations"],
    });
    const isOurs = ({ target }) => {
        const element = document.querySelector(target.at(-1));
        return element?.closest(ours) && !element.closest(theirs);
    };
    return violations.flatMap(({ id, nodes }) =>
        nodes
            .filter(isOurs)
            .map(({ html, any }) => `${id}: ${html.slice(0, 200)} ${any[0]?.message || ""}`)
    );
}"""


def violations(page, ours, theirs):
    """Return a line for each element that breaks a rule.

    :param str ours: the selector of what is looked at
    :param str theirs: that of what is within it and drawn by others
    """
    page.add_script_tag(path=paths.cache() / "node" / "node_modules" / "axe-core" / "axe.min.js")
    return page.evaluate(_FIND, [_RULES, ours, theirs])
