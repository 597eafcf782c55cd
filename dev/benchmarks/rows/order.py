"""Which of the two goes first."""


def interleave(stand, number):
    """Return both sides, as (name, side), each being the first in every other round."""
    sides = list(stand.sides().items())
    return sides[::-1] if number % 2 else sides
