"""When an expert or an engine that fails is not asked any more, and when it is again."""

import asyncio
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.errors import (
    CheckpointMissing,
    EngineLost,
    EngineStalled,
    EngineUnavailable,
    ExpertNotResident,
)
from memory_tiers.errors import LeaseRejected, ManagerBroken, RejectionReason
from server.errors import BadRequest, BreakerOpen, RequestTimeout
from server.resilience.circuit_breakers import Attempt, Breaker, Breakers, Part, blamed, broken_by
from tests.server.routing.test_eligibility import expert

COOL_DOWN_S = 10.0


def failing(times: int) -> Breaker:
    breaker = Breaker(3, COOL_DOWN_S)
    for _ in range(times):
        breaker.failed(breaker.enter(0.0), 0.0)
    return breaker


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    assert not failing(2).is_open
    assert failing(3).is_open
    assert failing(3).refuses_s(4.0) == 6.0
    assert failing(3).refuses_s(10.0) == 0.0


def test_an_answer_that_ends_well_begins_the_row_anew() -> None:
    breaker = failing(2)
    breaker.ended(breaker.enter(1.0))
    breaker.failed(breaker.enter(2.0), 2.0)
    assert not breaker.is_open


def test_those_that_fail_together_are_one_failure() -> None:
    breaker = Breaker(3, COOL_DOWN_S)
    together = [breaker.enter(0.0) for _ in range(500)]
    for number in together:
        breaker.failed(number, 1.0)
    assert breaker.in_a_row == 1


def test_one_probe_goes_through_in_each_cool_down() -> None:
    breaker = failing(3)
    breaker.enter(10.0)
    assert breaker.refuses_s(10.0) == COOL_DOWN_S
    breaker.enter(20.0)  # nothing was heard of the first
    assert breaker.refuses_s(21.0) == 9.0


def test_the_first_bytes_of_a_probe_close_it_and_one_failure_more_opens_it() -> None:
    breaker = failing(3)
    probe = breaker.enter(10.0)
    breaker.answered(probe)
    assert not breaker.is_open
    breaker.failed(probe, 11.0)
    assert breaker.is_open
    assert breaker.refuses_s(11.0) == COOL_DOWN_S


def test_a_probe_that_leaves_makes_room_for_the_next() -> None:
    breaker = failing(3)
    breaker.left(breaker.enter(10.0), 11.0)
    assert breaker.is_open
    assert breaker.refuses_s(11.0) == 0.0


def test_an_answer_from_before_the_failures_does_not_close_it() -> None:
    breaker = Breaker(3, COOL_DOWN_S)
    old = breaker.enter(0.0)
    for _ in range(3):
        breaker.failed(breaker.enter(0.0), 0.0)
    breaker.answered(old)
    breaker.ended(old)
    breaker.left(old, 0.0)
    assert breaker.refuses_s(0.0) == COOL_DOWN_S


def test_it_never_opens_where_it_is_off() -> None:
    breaker = Breaker(0, COOL_DOWN_S)
    for _ in range(100):
        breaker.failed(breaker.enter(0.0), 0.0)
    assert not breaker.is_open


STEPS = st.tuples(
    st.sampled_from(["enter", "answered", "ended", "failed", "left", "wait"]),
    st.integers(0, 20),
    st.floats(0, 15),
)


@given(st.integers(1, 4), st.lists(STEPS, max_size=80))
def test_whatever_happens_only_new_failures_open_it_and_probes_come_one_a_cool_down(
    failures: int, steps: list[tuple[str, int, float]]
) -> None:
    breaker, now = Breaker(failures, COOL_DOWN_S), 0.0
    tries: list[tuple[int, int]] = []  # number, and the step at which it began
    latest_failure, latest_probe = -1, -COOL_DOWN_S
    for step, (event, which, seconds) in enumerate(steps):
        was_open, row = breaker.is_open, breaker.in_a_row
        number, began = tries[which % len(tries)] if tries else (0, -1)
        if event == "wait":
            now += seconds
        elif event == "enter":
            if breaker.refuses_s(now) > 0:
                continue
            if was_open:
                assert now - latest_probe >= COOL_DOWN_S
                latest_probe = now
            tries.append((breaker.enter(now), step))
        elif tries and event == "failed":
            breaker.failed(number, now)
            is_new = began > latest_failure
            assert breaker.in_a_row == row + is_new
            assert breaker.is_open == (was_open or (is_new and row + 1 >= failures))
            latest_failure = step if is_new else latest_failure
        elif tries:
            if event == "answered":
                breaker.answered(number)
            elif event == "ended":
                breaker.ended(number)
            else:
                breaker.left(number, now)
            assert was_open or not breaker.is_open
            assert breaker.in_a_row <= row
            if event == "left" or not breaker.is_open:
                latest_probe = -COOL_DOWN_S
        assert breaker.refuses_s(now + COOL_DOWN_S) == 0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


LAW, MATH, OTHER = expert("law"), expert("math"), expert("other", family="large")


def broken(part: Part, clock: Clock) -> Breakers:
    """Of which the law's own, or its engine's, is open."""
    breakers = Breakers(3, COOL_DOWN_S, clock)
    error = EngineLost("gone") if part == "engine" else LeaseRejected("load_failed", "no such file")
    for _ in range(3):
        breakers.enter(LAW).over(error)
    return breakers


def test_an_expert_that_cannot_be_loaded_does_not_close_the_others_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    breakers = broken("expert", Clock())
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == "expert law is not asked for now: it failed 3 times in a row: no such file"
    with pytest.raises(BreakerOpen, match=r"expert law failed 3 times in a row .* again in 10 s") as caught:
        breakers.enter(LAW)
    assert (caught.value.part, caught.value.retry_after_s) == ("expert", COOL_DOWN_S)
    assert breakers.is_open(LAW)
    assert not breakers.is_open(MATH)
    assert breakers.refusing(["small", "large"]) == {}
    assert repr(breakers) == "<Breakers [open: law]>"


def test_an_engine_that_dies_closes_its_experts_out_and_no_others() -> None:
    clock = Clock()
    breakers = broken("engine", clock)
    with pytest.raises(BreakerOpen, match="The engine of family small failed 3 times"):
        breakers.enter(MATH)
    assert breakers.is_open(MATH)
    breakers.enter(OTHER)
    assert breakers.refusing(["small", "large"]) == {"small": "failed 3 times in a row"}
    clock.now = COOL_DOWN_S
    assert breakers.refusing(["small", "large"]) == {}  # or nobody would send the probe
    assert breakers.is_open(LAW)


def test_a_good_answer_of_one_expert_speaks_for_its_engine() -> None:
    breakers = Breakers(2, COOL_DOWN_S, Clock())
    for _ in range(5):
        breakers.enter(LAW).over(EngineLost("gone"))
        breakers.enter(MATH).ended()
    assert not breakers.is_open(LAW)


@pytest.mark.parametrize("status", [200, 400, 404, 500, 501, 503])
def test_no_answer_of_an_engine_that_goes_on_opens_it(status: int) -> None:
    breakers = Breakers(1, COOL_DOWN_S, Clock())
    attempt = breakers.enter(LAW)
    attempt.answered(status)
    attempt.over(None)
    assert not breakers.is_open(LAW)


@pytest.mark.parametrize(("status", "closes"), [(200, True), (400, True), (500, False)])
def test_the_status_of_a_probe_closes_it_unless_it_says_nothing(status: int, closes: bool) -> None:
    clock = Clock()
    breakers = broken("expert", clock)
    clock.now = COOL_DOWN_S
    breakers.enter(LAW).answered(status)
    assert breakers.is_open(LAW) is not closes


def test_a_probe_whose_engine_works_but_not_its_expert_leaves_the_engine_to_the_next() -> None:
    clock = Clock()
    breakers = broken("engine", clock)
    clock.now = COOL_DOWN_S
    breakers.enter(LAW).over(LeaseRejected("load_failed", "no such file"))
    probe: Attempt = breakers.enter(MATH)
    probe.answered(200)
    assert not breakers.is_open(LAW)


REJECTED: dict[RejectionReason, Part | None] = {
    "queue_full": None,
    "load_failed": "expert",
    "load_cancelled": None,
    "engine_failed": "engine",
    "shutting_down": None,
    "not_resident": None,
    "unknown_expert": None,
}


def test_who_is_to_blame() -> None:
    assert REJECTED.keys() == {*get_args(RejectionReason)}
    for reason, part in REJECTED.items():
        assert blamed(LeaseRejected(reason, "")) == part
    for error in (EngineUnavailable(""), EngineLost(""), EngineStalled("")):
        assert blamed(error) == "engine"
    assert blamed(ExpertNotResident("")) == "expert"
    for own in (
        None, asyncio.CancelledError(), TimeoutError(), RequestTimeout(""), BadRequest(""), ManagerBroken(""),
        CheckpointMissing(""), OSError(),
    ):  # fmt: skip
        assert blamed(own) is None


def test_who_need_not_be_asked() -> None:
    experts = {each.name: each for each in (LAW, MATH, OTHER)}
    assert broken_by(LeaseRejected("load_failed", ""), LAW, experts) == {"law"}
    assert broken_by(EngineLost(""), LAW, experts) == {"law", "math"}
    assert broken_by(BreakerOpen("", "engine", 1.0), LAW, experts) == {"law", "math"}
    assert broken_by(BreakerOpen("", "expert", 1.0), LAW, experts) == {"law"}
    assert broken_by(BadRequest(""), LAW, experts) == frozenset()
