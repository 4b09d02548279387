from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.inside_vllm.scheduling.turns import Cost, Limits, Step, Trace, Turns, replay

NAMES = "abcde"


@dataclass
class Simulation:
    """An engine of plain numbers: a step takes ``step_s``, computing for another than before ``switch_s``."""

    limits: Limits
    step_s: float = 1.0
    switch_s: float = 0.0
    late: int = 0
    """Steps after which the cost of a switch is known."""
    ahead: int = 0
    """Steps that are decided before the one in front of them is done."""
    now: float = 0.0
    holds: str | None = None
    trace: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.turns = Turns(self.limits)
        self.under_way = [0.0] * self.late
        self.decided: list[tuple[Cost | None, bool]] = []

    def step(self, working: str, admitting: bool = False, stalls: bool = False) -> str | None:
        behind = self.turns.under_way
        expert = self.turns.next(self.now, working)
        cost = None
        if expert is not None and not stalls:
            switch = self.switch_s if expert != self.holds else 0.0
            self.under_way.append(switch)
            cost, self.holds = Cost(self.step_s + switch, self.under_way.pop(0)), expert
        self.decided.append((cost, admitting))
        while len(self.decided) > self.ahead:
            self.turns.done(*self.decided.pop(0))
        self.trace.append(Step(self.now, tuple(working), expert, cost, admitting, behind))
        self.now += cost.seconds if cost else 0.001
        return expert

    def steps(self, working: str, count: int, admitting: bool = False) -> str:
        return "".join(self.step(working, admitting) or "-" for _ in range(count))


def simulation(switch_s: float = 0.0, overhead: float = 0.1, max_wait_s: float = 10.0) -> Simulation:
    return Simulation(Limits(overhead, max_wait_s), switch_s=switch_s)


def test_one_expert_keeps_the_engine() -> None:
    assert simulation().steps("a", 5) == "aaaaa"


def test_where_switching_costs_nothing_experts_alternate() -> None:
    assert simulation().steps("abc", 6) == "abcabc"


def test_a_turn_lasts_until_its_switch_is_paid_for() -> None:
    # 0.25 is at most a tenth of a turn of 2.5 s: the switch and three steps.
    assert simulation(switch_s=0.25).steps("ab", 12) == "aaabbbaaabbb"


@pytest.mark.parametrize("late", [1, 2, 3])
def test_a_turn_is_paid_for_also_where_the_cost_of_its_switch_comes_late(late: int) -> None:
    engine = Simulation(Limits(0.1, 10.0), switch_s=0.25, late=late)
    engine.steps("ab", 20)  # until the first cost is known it alternates
    turns = [len(list(turn)) for _, turn in groupby(engine.steps("ab", 60))]
    assert set(turns[1:-1]) == {3}, "0.25 is at most a tenth of the switch and three steps"


def test_where_steps_are_decided_ahead_turns_are_as_long() -> None:
    assert Simulation(Limits(0.1, 10.0), ahead=1).steps("abc", 6) == "abcabc"
    engine = Simulation(Limits(0.1, 10.0), switch_s=0.25, ahead=1)
    engine.steps("ab", 20)
    turns = [len(list(turn)) for _, turn in groupby(engine.steps("ab", 60))]
    assert set(turns[1:-1]) == {3}


def test_one_slow_step_does_not_shorten_the_turns_after_it() -> None:
    engine = Simulation(Limits(0.1, 10.0), switch_s=0.25, ahead=1)
    engine.steps("ab", 20)
    engine.step_s = 50.0
    engine.step("ab")
    engine.step_s = 1.0
    turns = [len(list(turn)) for _, turn in groupby(engine.steps("ab", 20))]
    assert set(turns[2:-1]) == {3}, turns


def test_an_expert_that_stalls_with_a_step_decided_ahead_gives_up_its_turn() -> None:
    engine = Simulation(Limits(0.1, 10.0), switch_s=1.0, ahead=1)
    engine.steps("a", 2)
    assert engine.step("ab", stalls=True) in ("a", "b")
    assert "b" in engine.steps("ab", 2)


def test_after_an_idle_step_that_is_under_way_the_expert_that_is_held_owes_nothing() -> None:
    engine = Simulation(Limits(0.1, 10.0), switch_s=0.25, ahead=1)
    engine.steps("ab", 20)
    held = engine.holds or ""
    assert engine.step("") is None
    assert engine.step(held) == held
    assert engine.step("ab") != held


def test_with_steps_decided_ahead_a_turn_of_steps_that_become_short_is_paid_for_all_the_same() -> None:
    engine = Simulation(Limits(0.1, 10.0), switch_s=0.25, ahead=1)
    engine.steps("ab", 20)
    engine.step_s = 0.1
    engine.steps("ab", 200)
    turns = [list(turn) for _, turn in groupby(engine.trace, key=lambda step: step.expert)]
    for turn in turns[2:-1]:  # from the first one on whose switch has a price
        assert sum(cost.seconds for cost in costs_of(turn)) >= 2.5 - 1e-9


def test_with_steps_decided_ahead_the_step_after_a_slow_one_is_not_thought_to_be_as_slow() -> None:
    turns = Turns(Limits(0.1, 10.0))
    turns.next(0.0, "a")
    turns.done(Cost(1.0, 0.5), admitting=False)  # a switch asks for a turn of 5 s
    assert turns.next(1.0, "b") == "b"
    turns.done(Cost(3.0, 0.5), admitting=False)
    turns.next(4.0, "ab")
    assert turns.next(4.0, "ab") == "b", "3 s are over, and what is under way may take 1.25 s"


def test_a_turn_without_a_switch_owes_nothing_for_an_earlier_one_whose_cost_comes_late() -> None:
    turns = Turns(Limits(0.1, 10.0))
    turns.next(0.0, "a")
    turns.done(Cost(1.0), admitting=False)
    assert turns.next(1.0, "") is None
    turns.done(None, admitting=False)
    assert turns.next(1.0, "a") == "a"
    turns.done(Cost(1.0, 0.5), admitting=False)
    assert turns.next(2.0, "ab") == "b"


def test_a_turn_without_a_switch_owes_nothing_however_short_its_steps_are() -> None:
    engine = Simulation(Limits(0.1, 10.0), step_s=0.01)
    engine.steps("a", 2)
    assert engine.step("") is None
    assert engine.steps("a", 1) == "a"
    assert engine.step("ab") == "b"


def test_the_price_of_a_switch_is_smoothed() -> None:
    engine = simulation(switch_s=0.25)
    engine.steps("ab", 12)
    engine.switch_s = 8.0
    assert engine.steps("ab", 6) == "aaaaab", "one slow switch does not cost eighty seconds"


def test_a_turn_that_began_without_a_switch_owes_nothing() -> None:
    engine = simulation(switch_s=0.5)
    assert engine.steps("a", 5) == "aaaaa"
    assert engine.step("ab", stalls=True) == "b"
    assert engine.step("ab") == "a"
    assert engine.step("ab") == "b", "the worker still held a"


def test_who_waited_longest_goes_next() -> None:
    engine = simulation(switch_s=0.15)
    assert engine.steps("b", 1) == "b"
    assert engine.steps("bc", 1) == "b"
    assert engine.steps("abc", 6) == "ccaabb"


def test_an_expert_alone_makes_way_at_once_when_its_turn_is_long_paid_for() -> None:
    engine = simulation(switch_s=0.5)
    assert engine.steps("a", 9) == "a" * 9
    assert engine.step("ab") == "b"


def test_an_expert_without_work_loses_its_turn() -> None:
    engine = simulation(switch_s=1.0)
    assert engine.steps("ab", 2) == "aa"
    assert engine.step("b") == "b"
    assert engine.step("") is None
    assert engine.turns.active is None


def test_an_expert_that_stalls_gives_up_its_turn() -> None:
    engine = simulation(switch_s=1.0)
    assert engine.steps("ab", 1) == "a"
    assert engine.step("ab", stalls=True) == "a"
    assert engine.step("ab") == "b"


def test_what_waited_is_admitted_together() -> None:
    engine = simulation()
    assert engine.steps("ab", 4, admitting=True) == "aaaa"
    assert engine.steps("ab", 2) == "ab"


def test_admitting_ends_when_those_who_wait_would_wait_too_long() -> None:
    engine = simulation(max_wait_s=10)
    order = engine.steps("abc", 40, admitting=True)
    assert [len(list(turn)) for _, turn in groupby(order)][:3] == [9, 1, 9]
    assert longest_wait(engine) <= 10


def test_admitting_leaves_time_for_the_turns_of_all_who_wait_which_pay_for_their_switches() -> None:
    engine = simulation(switch_s=0.25, max_wait_s=20)
    engine.steps("abcd", 40, admitting=True)
    assert longest_wait(engine) <= 20


def test_an_expert_that_stalls_gives_up_its_turn_though_requests_wait_to_be_admitted() -> None:
    engine = simulation()
    assert engine.step("ab", admitting=True, stalls=True) == "a"
    assert engine.step("ab") == "b"


def test_where_both_limits_cannot_hold_the_overhead_wins() -> None:
    engine = simulation(switch_s=0.5, max_wait_s=1.0)
    assert engine.steps("abc", 15) == "aaaaabbbbbccccc"
    assert longest_wait(engine) > 1.0


@pytest.mark.parametrize("overhead", [0.0, -0.1, 1.5])
def test_an_overhead_is_a_share(overhead: float) -> None:
    with pytest.raises(ValueError, match="switch_overhead"):
        Limits(overhead, 1.0)


def test_a_turn_may_be_all_switch() -> None:
    assert simulation(switch_s=2.0, overhead=1.0).steps("ab", 4) == "abab"


def test_at_first_nobody_has_a_turn() -> None:
    assert Turns(Limits(0.1, 1.0)).active is None


limits = st.builds(Limits, st.floats(0.01, 0.5), st.floats(0.01, 5.0))
step_times = st.floats(0.001, 0.5)
switch_times = st.floats(0.0001, 0.2)
arrivals = st.lists(
    st.tuples(st.sets(st.sampled_from(NAMES)).map(lambda names: "".join(sorted(names))), st.booleans()),
    min_size=1,
    max_size=200,
)


@given(limits=limits, step_s=step_times, switch_s=switch_times, arrivals=arrivals)
def test_a_switch_away_from_work_costs_no_more_than_its_share(
    limits: Limits, step_s: float, switch_s: float, arrivals: list[tuple[str, bool]]
) -> None:
    engine = Simulation(limits, step_s, switch_s)
    for working, admitting in arrivals:
        engine.step(working, admitting)
    for turn, after in turns_of(engine):
        if turn[-1].expert in after.working:
            busy = sum(cost.seconds for cost in costs_of(turn))
            assert switching(turn) <= limits.switch_overhead * busy * (1 + 1e-9)


@given(limits=limits, times=st.lists(st.tuples(step_times, switch_times), min_size=1, max_size=300))
def test_with_costs_that_vary_switching_stays_below_its_share_but_for_a_few_switches(
    limits: Limits, times: list[tuple[float, float]]
) -> None:
    engine = Simulation(limits)
    for engine.step_s, engine.switch_s in times:
        engine.step("abc")
    busy = sum(cost.seconds for cost in costs_of(engine.trace))
    dearest = max(switch for _, switch in times)
    assert switching(engine.trace) <= limits.switch_overhead * busy + 9 * dearest + 1e-9


@given(limits=limits, step_s=step_times, switch_s=switch_times, arrivals=arrivals)
def test_nobody_waits_longer_than_the_limit_or_the_shortest_turns_of_the_others(
    limits: Limits, step_s: float, switch_s: float, arrivals: list[tuple[str, bool]]
) -> None:
    engine = Simulation(limits, step_s, switch_s)
    for working, admitting in arrivals:
        engine.step(working, admitting)
    paid_for = switch_s / limits.switch_overhead + step_s
    shortest_turn = max(paid_for, switch_s + step_s)
    assert longest_wait(engine) <= max(limits.max_wait_s, 4 * shortest_turn) + 1e-6


@given(
    limits=limits,
    arrivals=arrivals,
    times=st.lists(st.tuples(step_times, switch_times, st.booleans()), min_size=1, max_size=200),
)
def test_with_costs_that_vary_and_stalls_nobody_starves(
    limits: Limits, arrivals: list[tuple[str, bool]], times: list[tuple[float, float, bool]]
) -> None:
    engine = Simulation(limits)
    for (working, admitting), (engine.step_s, engine.switch_s, stalls) in zip(arrivals, times, strict=False):
        engine.step(working, admitting, stalls)
    turn = max(step + switch for step, switch, _ in times)
    turn += max(switch for _, switch, _ in times) / limits.switch_overhead
    assert longest_wait(engine) <= limits.max_wait_s + 4 * turn


@given(limits=limits, step_s=step_times, switch_s=switch_times, arrivals=arrivals, ahead=st.integers(0, 2))
def test_the_engine_is_never_idle_while_anybody_has_work_and_a_trace_replays(
    limits: Limits, step_s: float, switch_s: float, arrivals: list[tuple[str, bool]], ahead: int
) -> None:
    engine = Simulation(limits, step_s, switch_s, ahead=ahead)
    for working, admitting in arrivals:
        chosen = engine.step(working, admitting)
        assert chosen in working if chosen else not working
    assert replay(limits, engine.trace) == [step.expert for step in engine.trace]


def costs_of(steps: list[Step]) -> list[Cost]:
    return [step.cost for step in steps if step.cost is not None]


def switching(steps: list[Step]) -> float:
    return sum(cost.switch_seconds for cost in costs_of(steps))


def turns_of(engine: Simulation) -> Iterator[tuple[list[Step], Step]]:
    """Every turn that has ended, with the step after it."""
    turns = [list(steps) for _, steps in groupby(engine.trace, key=lambda step: step.expert)]
    for turn, after in pairwise(turns):
        if turn[0].expert is not None:
            yield turn, after[0]


def longest_wait(engine: Simulation) -> float:
    """From the step that first saw work, or the end of a turn, to the next turn; or to the end."""
    longest = 0.0
    waiting: dict[str, float] = {}
    before: str | None = None
    for step in [*engine.trace, Step(engine.now, engine.trace[-1].working, None, None)]:
        waiting = {name: since for name, since in waiting.items() if name in step.working}
        for name in step.working:
            if name != before:
                waiting.setdefault(name, step.now)
        if step.expert != before and before in step.working:
            waiting[before] = step.now
        longest = max([longest, *(step.now - since for since in waiting.values())])
        waiting.pop(step.expert or "", None)
        before = step.expert
    return longest


def test_a_trace_keeps_its_first_steps() -> None:
    trace = Trace(2)
    steps = [Step(float(number), ("a",), "a", None) for number in range(3)]
    for step in steps:
        trace.add(step)
    assert trace.steps == steps[:2]
