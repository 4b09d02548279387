"""The limits of a key: never over in any window, whatever comes, ends or is cancelled, and nothing leaks."""

import time
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from server.access.rate_limits import (
    DAY_S,
    JUMP_S,
    WINDOW_S,
    Instant,
    Left,
    RateLimits,
    Refusal,
    Reservation,
    Window,
    now,
)
from server.config.api_keys import Limits

MIDNIGHT = 20_000 * DAY_S
LIMITS = Limits(requests_per_minute=5, tokens_per_minute=100, concurrent_requests=3, tokens_per_day=400)


def at(seconds: float, since: float = MIDNIGHT) -> Instant:
    """``seconds`` after ``since``."""
    return Instant(seconds, since + seconds)


@dataclass(slots=True)
class Request:
    """The model's view of one that was let in."""

    came: Instant
    reservation: Reservation
    charged: int


class AnyTraffic(RuleBasedStateMachine):
    """Requests that come, end early or late, are cancelled, and use at most what they said, at any times."""

    open = Bundle("open")

    def __init__(self) -> None:
        super().__init__()
        self.steady = 1000.0
        self.rate_limits = RateLimits()
        self.requests: list[Request] = []
        self.under_way = 0

    @property
    def now(self) -> Instant:
        return Instant(self.steady, MIDNIGHT - 500 + self.steady)

    @rule(seconds=st.one_of(st.floats(0, 5), st.floats(50, 70), st.just(WINDOW_S), st.floats(0, DAY_S)))
    def time_passes(self, seconds: float) -> None:
        self.steady += seconds

    @rule(target=open, tokens=st.integers(0, 120))
    def one_comes(self, tokens: int) -> object:
        decided = self.rate_limits.admit(LIMITS, self.now, tokens)
        if isinstance(decided, Refusal):
            assert self.would_be_over(tokens), decided
            return multiple()
        request = Request(self.now, decided, tokens)
        self.requests.append(request)
        self.under_way += 1
        return request

    @rule(request=consumes(open), share=st.floats(0, 1))
    def one_ends(self, request: Request, share: float) -> None:
        request.charged = int(share * request.reservation.tokens)
        self.rate_limits.settle(request.reservation, self.now, request.charged)
        self.under_way -= 1

    def would_be_over(self, tokens: int) -> bool:
        """By a count that keeps every request, of the 61 s that a second may count."""
        recent = [r for r in self.requests if r.came.steady > self.steady - WINDOW_S - 1]
        today = [r for r in self.requests if r.came.day == self.now.day]
        return (
            self.under_way >= 3
            or len(recent) >= 5
            or sum(r.charged for r in recent) + tokens > 100
            or sum(r.charged for r in today) + tokens > 400
        )

    @invariant()
    def no_window_is_over(self) -> None:
        for last in self.requests:
            window = [
                r for r in self.requests if last.came.steady - WINDOW_S < r.came.steady <= last.came.steady
            ]
            assert len(window) <= 5
            assert sum(r.charged for r in window) <= 100
        for day in {r.came.day for r in self.requests}:
            assert sum(r.charged for r in self.requests if r.came.day == day) <= 400

    @invariant()
    def what_is_open_is_what_has_not_ended(self) -> None:
        assert self.rate_limits.open == self.under_way <= 3

    def teardown(self) -> None:
        self.steady += WINDOW_S + 1
        requests, tokens = (*self.rate_limits.remaining(LIMITS, self.now).of.values(),)
        assert requests is not None
        assert tokens is not None
        assert (requests.remaining, requests.reset_s) == (5, 0)
        assert (tokens.remaining, tokens.reset_s) == (100, 0)


TestAnyTraffic = AnyTraffic.TestCase


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 40)), max_size=60), st.integers(40, 100))
def test_who_waits_as_told_is_let_in_and_who_comes_earlier_is_not(
    traffic: list[tuple[float, int]], limit: int
) -> None:
    limits = Limits(tokens_per_minute=limit)
    rate_limits, now = RateLimits(), 7.25
    for pause, tokens in traffic:
        now += pause
        decided = rate_limits.admit(limits, at(now), tokens)
        if isinstance(decided, Refusal):
            assert decided.retry_after_s is not None
            assert 0 < decided.retry_after_s <= WINDOW_S + 1
            assert isinstance(
                rate_limits.admit(limits, at(now + 0.9 * decided.retry_after_s), tokens), Refusal
            )
            now += decided.retry_after_s
            decided = rate_limits.admit(limits, at(now), tokens)
        assert isinstance(decided, Reservation)


def test_a_window_keeps_no_more_than_a_number_a_second() -> None:
    window = Window()
    for step in range(10_000):
        window.used(step / 10)
        window.charge(step / 10, 1)
    assert repr(window) == "<Window 610 in 61 s>"


def test_what_is_used_beyond_what_was_reserved_is_charged_when_it_ends() -> None:
    rate_limits = RateLimits()
    reservation = admitted(rate_limits, at(0), 10)
    rate_limits.settle(reservation, at(100), 130)
    refusal = rate_limits.admit(LIMITS, at(101), 1)
    assert refusal == Refusal("tokens", most=100, used=120, asked=1, retry_after_s=60.0)


def test_a_single_token_beyond_what_was_reserved_counts_from_the_end_too() -> None:
    rate_limits, limits = RateLimits(), Limits(tokens_per_minute=1)
    reservation = rate_limits.admit(limits, at(0), 0)
    assert isinstance(reservation, Reservation)
    rate_limits.settle(reservation, at(100), 1)
    assert rate_limits.admit(limits, at(101), 1) == Refusal("tokens", 1, 1, 1, 60.0)


def admitted(rate_limits: RateLimits, now: Instant, tokens: int = 1) -> Reservation:
    decided = rate_limits.admit(LIMITS, now, tokens)
    assert isinstance(decided, Reservation)
    return decided


@pytest.mark.parametrize(
    ("limits", "refusal"),
    [
        (Limits(concurrent_requests=1), Refusal("concurrent", 1, 1, 1, 1.0)),
        (Limits(requests_per_minute=1), Refusal("requests", 1, 1, 1, 60.75)),
        (Limits(tokens_per_minute=90), Refusal("tokens", 90, 50, 50, 60.75)),
        (Limits(tokens_per_minute=50), Refusal("tokens", 50, 50, 50, 60.75)),
        (Limits(tokens_per_minute=40), Refusal("tokens", 40, 50, 50, None)),
        (Limits(tokens_per_day=90), Refusal("day", 90, 50, 50, DAY_S - 0.25)),
        (Limits(tokens_per_day=50), Refusal("day", 50, 50, 50, DAY_S - 0.25)),
        (Limits(tokens_per_day=40), Refusal("day", 40, 50, 50, None)),
    ],
)
def test_a_refusal_says_which_limit_and_when_to_come_again(limits: Limits, refusal: Refusal) -> None:
    rate_limits = RateLimits()
    admitted(rate_limits, at(0.25), 50)
    assert rate_limits.admit(limits, at(0.25), 50) == refusal


def test_who_is_refused_is_charged_nothing() -> None:
    rate_limits = RateLimits()
    for _ in range(5):
        assert isinstance(rate_limits.admit(LIMITS, at(0), 101), Refusal)
    before = repr(RateLimits())
    assert repr(rate_limits).split(" on day")[0] == before.split(" on day")[0]


def test_what_nobody_waits_for_counts_for_the_day_alone() -> None:
    rate_limits = RateLimits()
    limits = Limits(requests_per_minute=1, tokens_per_minute=10, concurrent_requests=1, tokens_per_day=100)
    offline = rate_limits.admit_offline(limits, at(0), 80)
    assert isinstance(offline, Reservation)
    online = rate_limits.admit(limits, at(0), 10)
    assert isinstance(online, Reservation)
    assert rate_limits.admit_offline(limits, at(0), 11) == Refusal("day", 100, 90, 11, DAY_S)
    rate_limits.settle(offline, at(1), 85)
    rate_limits.settle(online, at(1), 10)
    assert rate_limits.open == 0
    assert isinstance(rate_limits.admit_offline(limits, at(2), 6), Refusal)
    assert isinstance(rate_limits.admit_offline(limits, at(2), 5), Reservation)


def test_what_nobody_waits_for_adds_up_over_the_day_and_is_reserved_from_when_it_came() -> None:
    rate_limits, limits = RateLimits(), Limits(tokens_per_day=10)
    assert rate_limits.admit_offline(limits, at(1), 4) == Reservation(at(1), 20_000, 4, offline=True)
    assert isinstance(rate_limits.admit_offline(limits, at(2), 4), Reservation)
    assert rate_limits.admit_offline(limits, at(3), 4) == Refusal("day", 10, 8, 4, DAY_S - 3)


def test_what_is_left_is_told_by_requests_and_tokens_with_the_time_that_it_holds_for() -> None:
    rate_limits = RateLimits()
    admitted(rate_limits, at(0.25), 30)
    left = rate_limits.remaining(LIMITS, at(1))
    assert left.at == at(1)
    assert left.of == {"requests": Left(5, 4, 60.0), "tokens": Left(100, 70, 60.0)}


def test_of_a_limit_that_is_used_up_nothing_is_left() -> None:
    used_up, day = RateLimits(), Limits(tokens_per_day=10)
    for _ in range(3):
        admitted(used_up, at(0), 1)
    limits = Limits(requests_per_minute=3, tokens_per_minute=3)
    assert used_up.remaining(limits, at(0)).of == {"requests": Left(3, 0, 61.0), "tokens": Left(3, 0, 61.0)}
    assert RateLimits(at(0), 10).remaining(day, at(1)).of == {"tokens": Left(10, 0, DAY_S - 1)}


def test_a_moment_is_read_from_both_clocks() -> None:
    before = time.monotonic(), time.time()
    moment = now()
    assert before[0] <= moment.steady <= time.monotonic()
    assert before[1] - 1 <= moment.utc <= time.time() + 1  # this one may be set meanwhile


def test_half_a_second_before_the_next_day_half_a_second_is_to_be_waited() -> None:
    rate_limits, limits = RateLimits(at(0), 10), Limits(tokens_per_day=10)
    soon = Instant(DAY_S - JUMP_S - 0.5, MIDNIGHT + DAY_S)  # by the wall clock the next day has come
    assert rate_limits.admit(limits, soon, 1) == Refusal("day", 10, 10, 1, 0.5)
    assert isinstance(rate_limits.admit(limits, Instant(soon.steady + 0.5, soon.utc), 10), Reservation)


def test_a_day_of_which_nothing_was_used_is_all_there() -> None:
    assert isinstance(RateLimits(at(0)).admit(Limits(tokens_per_day=10), at(1), 10), Reservation)


def test_a_day_begins_with_what_was_used_before_a_restart_and_ends_at_midnight() -> None:
    rate_limits = RateLimits(at(0), 390)
    limits = Limits(tokens_per_day=400)
    assert isinstance(rate_limits.admit(limits, at(0), 11), Refusal)
    left = rate_limits.remaining(limits, at(DAY_S - 60.0)).of["tokens"]
    assert (left.limit, left.remaining, left.reset_s) == (400, 10, 60.0)
    assert isinstance(rate_limits.admit(limits, at(DAY_S), 400), Reservation)


def test_a_clock_that_is_set_back_over_midnight_gives_nothing_back() -> None:
    rate_limits = RateLimits()
    limits = Limits(tokens_per_day=400)
    reservation = rate_limits.admit(limits, at(10), 400)
    assert isinstance(reservation, Reservation)
    before_midnight = at(11, MIDNIGHT - 60)
    assert isinstance(rate_limits.admit(limits, before_midnight, 1), Refusal)
    rate_limits.settle(reservation, before_midnight, 399)
    assert isinstance(rate_limits.admit(limits, before_midnight, 1), Reservation)


def jumped(seconds: float, days: float) -> Instant:
    """``seconds`` after midnight, while the wall clock is wrong by ``days``."""
    return Instant(seconds, MIDNIGHT + seconds + days * DAY_S)


@pytest.mark.parametrize("days", [1, 4000, -4000, 0.5])
def test_a_clock_that_jumps_begins_no_day_and_the_next_one_begins_all_the_same(days: float) -> None:
    limits = Limits(tokens_per_day=400)
    rate_limits = RateLimits()
    assert isinstance(rate_limits.admit(limits, at(13 * 3600), 400), Reservation)
    refusal = rate_limits.admit(limits, jumped(14 * 3600, days), 1)
    assert isinstance(refusal, Refusal)
    assert refusal.retry_after_s == pytest.approx(10 * 3600, abs=61)
    assert isinstance(rate_limits.admit(limits, at(15 * 3600), 1), Refusal)
    assert isinstance(rate_limits.admit(limits, at(DAY_S + 1), 400), Reservation)


@pytest.mark.parametrize("days", [4000, -4000, 0.7])
def test_a_clock_that_is_wrong_over_midnight_puts_off_the_next_day_by_a_day_at_most(days: float) -> None:
    limits = Limits(tokens_per_day=400)
    rate_limits = RateLimits()
    for seconds in (DAY_S / 2, DAY_S + 1):  # a day begins, whatever the wall clock calls it
        assert isinstance(
            rate_limits.admit(limits, jumped(seconds, days if seconds > DAY_S else 0), 400), Reservation
        )
    assert isinstance(rate_limits.admit(limits, at(DAY_S + 60), 1), Refusal)
    assert isinstance(rate_limits.admit(limits, at(2 * DAY_S + 2), 400), Reservation)


def test_a_key_that_comes_first_while_the_clock_is_wrong_has_what_the_day_left() -> None:
    limits = Limits(tokens_per_day=400)
    rate_limits = RateLimits(at(3600), 390)
    assert isinstance(rate_limits.admit(limits, jumped(7200, 4000), 11), Refusal)
    assert isinstance(rate_limits.admit(limits, jumped(7200, 4000), 10), Reservation)


def test_what_came_yesterday_is_not_of_today_however_late_it_ends() -> None:
    rate_limits = RateLimits()
    limits = Limits(tokens_per_day=400)
    reservation = rate_limits.admit(limits, at(DAY_S - 1), 300)
    assert isinstance(reservation, Reservation)
    today = rate_limits.admit(limits, at(DAY_S + 1), 400)
    assert isinstance(today, Reservation)
    rate_limits.settle(reservation, at(DAY_S + 2), 20)
    rate_limits.settle(today, at(DAY_S + 3), 100)
    left = rate_limits.remaining(limits, at(DAY_S + 4)).of["tokens"]
    assert left.remaining == 300
