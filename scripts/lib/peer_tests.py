"""The tests of our bridge to queue_job, on a database that has both."""

from types import SimpleNamespace

from . import odoo_tests, peer

DATABASE = "bridge"


def split(tags):
    """Return the tags for our ordinary databases, and those that name a bridge; '' for none.

    >>> split("/llm:TestLlm,/llm_tool")
    ('/llm:TestLlm,/llm_tool', '')
    """
    all_tags = [tag for tag in (tags or "").split(",") if tag]
    names = peer.bridges()
    apart = [tag for tag in all_tags if tag.partition("/")[2].partition(":")[0] in names]
    rest = [tag for tag in all_tags if tag not in apart]
    return ",".join(rest), ",".join(apart)


def run(lab, tally, stack, tags=""):
    """Test the bridges beside all our modules, from the database `stack` where there is one."""
    place = SimpleNamespace(instance=peer.beside(lab), folder=lab.folder / "peer")
    bridges = peer.bridges()
    if not bridges:
        tally.fail("there is no bridge to queue_job")
        return
    template = stack if stack in lab.cluster.databases() else "tpl"
    place.instance.create_database(DATABASE, template=template)
    try:
        report = odoo_tests.run(
            place, tally, DATABASE, [*bridges], tags=tags or None, install=[*bridges]
        )
        if not tags:
            odoo_tests.check_all_ran(tally, report, bridges)
        elif not report.started:
            tally.fail(f"no test matches T={tags}")
    finally:
        place.instance.drop_database(DATABASE)
