"""What is known of a game's stabilizing levels, as a number."""

import enum


class Status(enum.IntEnum):
    """What is known of a game's stabilizing levels; where several apply, the largest value wins."""

    FOUND = 0
    """A ray from Δ* > 0: every level from there on stabilizes."""
    STABLE_AT_ZERO = 1
    """A ray from 0: today's practice is stable already."""
    INTERVAL = 2
    """The first stretch ends: some higher level is not stable."""
    NOWHERE = 3
    """No level that is a finite number of the dtype stabilizes."""
    NOT_CONVERGED = 4
    """The solver ran out of rounds; the values are NaN."""
    INVALID = 5
    """An unusable parameter (`validate` names it); the values are NaN."""
