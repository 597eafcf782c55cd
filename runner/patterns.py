"""How long a regular expression may take: Python's engine cannot be stopped once it has begun."""

import functools
import math
import re
from re import _constants as codes
from re import _parser as parser

#: Parts of a pattern whose cost nobody can tell.
_UNKNOWN = {codes.GROUPREF, codes.GROUPREF_EXISTS, codes.ASSERT, codes.ASSERT_NOT}
_REPEATS = {codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT}
_BEGINNINGS = [(codes.AT, codes.AT_BEGINNING), (codes.AT, codes.AT_BEGINNING_STRING)]
#: A repetition of no more than so many is none that grows with the text.
_FEW = 64


def steps(pattern, length):
    """Return an upper estimate of the steps of a search in a text; infinite where unknown.

    A repetition of varying length within another one may take exponential time, and each that
    stands beside others multiplies the time by the length of the text.

    >>> steps("^[a-z]*$", 1000) <= 1_000_000, steps("(a+)+$", 30)
    (True, inf)

    :raise re.error: for what is no regular expression
    """
    exponent, factor = _shape(pattern)
    try:
        return factor * float(max(2, length)) ** exponent
    except OverflowError:
        return math.inf


@functools.lru_cache(maxsize=512)
def _shape(pattern):
    """Return the degree of the polynomial, and its factor."""
    re.compile(pattern)
    tree = parser.parse(pattern)
    anchored = len(tree) > 0 and tree[0] in _BEGINNINGS
    degree, factor = _of(tree, inside=False)
    return degree + (0 if anchored else 1), factor


def _of(tree, *, inside):
    degree, factor = 0, len(tree) + 1
    for code, value in tree:
        if code in _UNKNOWN:
            return math.inf, 1
        for part, is_repeated, times in _parts(code, value):
            if is_repeated and inside:
                return math.inf, 1
            more, times_more = _of(part, inside=inside or is_repeated)
            is_long = is_repeated and times > _FEW
            degree += more + is_long
            factor *= times_more * (times if is_repeated and not is_long else 1)
        if code is codes.BRANCH and inside:
            return math.inf, 1  # alternatives may overlap: (a|a)*
    return degree, factor


def _parts(code, value):
    """Return the patterns within a part of one, whether each is repeated, and how often."""
    if code in _REPEATS:
        least, most, part = value
        # A number that is fixed leaves no choice, as long as it is small.
        return [(part, least != most or int(most) > _FEW, int(most))]
    if code is codes.BRANCH:
        return [(part, False, 1) for part in value[1]]
    if code is codes.SUBPATTERN:
        return [(value[3], False, 1)]
    if code is codes.ATOMIC_GROUP:
        return [(value, False, 1)]
    return []
