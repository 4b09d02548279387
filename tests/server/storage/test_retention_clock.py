"""Kept rows outlive a wall clock that jumps."""

import math

import pytest

from server.storage.retention_clock import BELIEVED_S, SETTLED_S, RetentionClock

NOON = 1_700_000_000.0
YEAR_S = 365 * 86_400.0


class Clocks:
    """A machine's clocks; ``ahead_s``: by how much the wall clock is wrong."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self.ahead_s = 0.0
        self.told = RetentionClock(lambda: NOON + self.passed_s + self.ahead_s, lambda: 5.0 + self.passed_s)

    def passes(self, seconds: float) -> None:
        """Asks every quarter of an hour meanwhile, as stores do."""
        while seconds > 0:
            self.passed_s += min(seconds, 900.0)
            seconds -= 900.0
            self.told()


@pytest.fixture
def clocks() -> Clocks:
    made = Clocks()
    made.passes(SETTLED_S)
    return made


def test_without_a_jump_it_is_the_wall_clock(clocks: Clocks) -> None:
    for _ in range(1000):
        clocks.passes(100)
        clocks.ahead_s += 0.05  # a clock that goes too fast
        assert clocks.told() == NOON + clocks.passed_s + clocks.ahead_s
        assert clocks.told.before(50.0) == clocks.told() - 50.0


@pytest.mark.parametrize("jump_s", [YEAR_S, -YEAR_S, 61.0])
def test_a_jump_moves_nothing_and_when_it_is_over_nothing_has_happened(clocks: Clocks, jump_s: float) -> None:
    clocks.ahead_s = jump_s
    for _ in range(20):
        clocks.passes(3600)
        assert clocks.told() == NOON + clocks.passed_s
        assert clocks.told.before(10.0) == NOON + clocks.passed_s - 10.0
    clocks.ahead_s = 0.0
    clocks.passes(2 * BELIEVED_S)
    assert clocks.told() == NOON + clocks.passed_s


@pytest.mark.parametrize("jump_s", [YEAR_S, -YEAR_S])
def test_a_jump_that_stands_for_a_day_is_believed(clocks: Clocks, jump_s: float) -> None:
    clocks.ahead_s = jump_s
    clocks.told()
    clocks.passes(BELIEVED_S - 1)
    assert clocks.told() == NOON + clocks.passed_s
    clocks.passes(1)
    assert clocks.told() == NOON + clocks.passed_s + jump_s


def test_after_the_start_the_clock_may_be_put_right_and_nothing_is_deleted() -> None:
    clocks = Clocks()
    clocks.ahead_s = YEAR_S
    assert clocks.told() == NOON + YEAR_S
    assert clocks.told.before(10.0) == -math.inf
    clocks.passes(SETTLED_S - 1)
    assert clocks.told.before(10.0) == -math.inf
    clocks.passes(1)
    assert clocks.told.before(10.0) == NOON + YEAR_S + SETTLED_S - 10.0
