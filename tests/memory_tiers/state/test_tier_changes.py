"""Lets time pass: over idle experts and engines, priorities, prefetches."""

import math

import pytest

from memory_tiers.actions import (
    Grant,
    Move,
    Reject,
    StartEngine,
    StopEngine,
)
from memory_tiers.errors import BudgetTooSmall
from memory_tiers.events import (
    DrainRequested,
    Opened,
    RestartDue,
)
from memory_tiers.members import Family
from memory_tiers.state.state_machine import TierState
from tests.memory_tiers.state.script import Script, a_config, an_expert, engines, opened


def test_an_idle_expert_leaves_after_its_time_to_live() -> None:
    experts = [an_expert("a", ttl_s=5), an_expert("b", ttl_s=50), an_expert("c", pinned=True)]
    script = Script(TierState(a_config(device=40), experts, engines(f=None)))
    script.settle(script.feed(Opened(script.now())))
    script.settle(script.ask("a"))
    script.settle(script.ask("b"))
    assert script.wait(20) == [], "it has a lease"
    script.release(1)
    script.release(2)
    assert script.wait(20) == [Move("a", "device", "disk", "idle")]
    assert script.wait(40) == [Move("b", "device", "disk", "idle")]
    assert script.wait(1000) == [], "a pin stays"
    assert script.where("c") == "device"


def test_the_time_to_live_of_all_is_in_the_configuration_and_begins_anew_with_each_use() -> None:
    script = opened("a", device=10, ttl_s=5.0)
    for ticket in range(1, 5):
        script.wait(3)
        script.ask("a")
        script.release(ticket)
    assert script.where("a") == "device"
    assert script.wait(6) == [Move("a", "device", "disk", "idle")]


def test_a_request_may_say_how_long_its_expert_stays_until_the_next_one() -> None:
    experts = [an_expert("a", ttl_s=5), an_expert("b", pinned=True)]
    script = Script(TierState(a_config(device=40), experts, engines(f=None)))
    script.settle(script.feed(Opened(script.now())))
    script.settle(script.ask("a", keep_s=math.inf))
    script.release(1)
    assert script.wait(1000) == [], "without an end"
    script.ask("a", keep_s=100)
    script.release(2)
    assert script.wait(90) == []
    assert script.wait(20) == [Move("a", "device", "disk", "idle")]
    script.settle(script.ask("a", keep_s=0))
    leaves = script.release(3)
    assert leaves == [Move("a", "device", "disk", "idle")], "at once"
    script.settle(leaves)
    script.settle(script.ask("a"))
    script.release(4)
    assert script.wait(3) == []
    assert script.wait(3) == [Move("a", "device", "disk", "idle")], "as configured"
    script.ask("b", keep_s=0)
    assert script.release(5) == [], "a pin stays"


def test_an_idle_engine_sleeps_and_the_next_request_loads_its_expert_without_a_start() -> None:
    family = Family("f", None, 15, sleep_after_s=5.0)
    script = Script(TierState(a_config(35, engine_idle_s=60.0), [an_expert("a"), an_expert("b")], [family]))
    script.settle(script.feed(Opened(script.now())))
    script.settle(script.ask("b"))
    script.settle(script.release(1))
    assert script.wait(3) == []
    assert script.wait(10) == [StopEngine("f", "idle", sleep=True)]
    assert script.state.status.tiers()[0].used_bytes == 15, "what it holds itself stays"
    (engine,) = script.state.status.engines()
    assert (engine.state, engine.rests, engine.starts) == ("asleep", True, 1)
    actions = script.settle(script.ask("b"))
    assert actions == [Move("b", "disk", "device", "ticket"), Grant(2)]
    (engine,) = script.state.status.engines()
    assert (engine.state, engine.starts) == ("ready", 1)
    script.settle(script.release(2))
    assert script.wait(100) == [StopEngine("f", "idle", sleep=True), StopEngine("f", "idle")]
    (engine,) = script.state.status.engines()
    assert (engine.state, engine.rests) == ("stopped", True)


def test_a_load_that_wakes_an_engine_says_nothing_of_what_loads_take() -> None:
    family = Family("f", None, sleep_after_s=5.0)
    script = Script(TierState(a_config(35), [an_expert(name) for name in "abc"], [family]))
    script.settle(script.feed(Opened(script.now())))
    script.settle(script.ask("b"))
    script.settle(script.release(1))
    engine = script.state._records.engines["f"]
    rate = engine.seconds_per_byte
    assert rate is not None
    script.wait(10)
    (load,) = script.ask("b")
    script.at += 30.0
    script.done(load)
    assert (engine.seconds_per_byte, engine.wake_s, engine.waking) == (rate, 30.0, False)


def test_an_engine_that_dies_asleep_is_not_missed() -> None:
    family = Family("f", None, sleep_after_s=5.0)
    script = Script(TierState(a_config(20), [an_expert("a")], [family]))
    script.settle(script.feed(Opened(script.now())))
    assert script.wait(10) == [StopEngine("f", "idle", sleep=True)]
    assert script.die() == []
    (engine,) = script.state.status.engines()
    assert (engine.state, engine.rests) == ("stopped", True)
    assert script.settle(script.ask("a")) == [StartEngine("f", "a", "disk"), Grant(1)]


def test_an_engine_with_a_pinned_expert_does_not_sleep() -> None:
    family = Family("f", None, sleep_after_s=5.0)
    script = Script(TierState(a_config(20), [an_expert("a", pinned=True)], [family]))
    script.settle(script.feed(Opened(script.now())))
    assert script.wait(100) == []


def test_an_idle_engine_is_stopped_and_the_next_request_starts_it() -> None:
    script = Script(TierState(a_config(30, engine_idle_s=60.0), [an_expert("a")], [Family("f", None, 15)]))
    script.settle(script.feed(Opened(script.now())))
    assert script.state.status.tiers()[0].used_bytes == 25
    assert script.wait(100) == [StopEngine("f", "idle")]
    assert script.state.status.tiers()[0].used_bytes == 0, "what it held itself is free too"
    assert [engine.rests for engine in script.state.status.engines()] == [True]
    actions = script.settle(script.ask("a"))
    assert actions == [StartEngine("f", "a", "disk"), Grant(1)]
    assert script.state.status.tiers()[0].used_bytes == 25


def test_an_engine_with_a_pin_is_never_idle_enough() -> None:
    script = opened("ab", device=20, pinned="a", engine_idle_s=60.0)
    assert script.wait(1000) == []


def test_the_defaults_come_back_when_all_is_quiet() -> None:
    experts = [an_expert("a"), an_expert("b", default=True)]
    script = Script(TierState(a_config(10, return_to_default_s=60.0), experts, engines(f=None)))
    script.settle(script.feed(Opened(script.now())))
    assert script.where("b") == "device"
    script.settle(script.ask("a"))
    assert script.wait(100) == []
    script.release(1)
    assert script.wait(100) == [
        Move("a", "device", "disk", "eviction", "b"), Move("b", "disk", "device", "preload")
    ]  # fmt: skip
    assert script.wait(1000) == [], "once"


def test_the_defaults_do_not_come_back_during_a_lease_that_was_granted_at_once() -> None:
    experts = [an_expert("a"), an_expert("b", default=True)]
    script = Script(TierState(a_config(10, return_to_default_s=60.0), experts, engines(f=None)))
    script.settle(script.feed(Opened(script.now())))
    script.settle(script.ask("a"))
    script.settle(script.release(1))
    assert script.ask("a") == [Grant(2)]
    assert script.wait(100) == []
    assert script.release(2) == []
    assert script.wait(50) == [], "it is quiet since the last lease ended"
    assert script.wait(20) != []


def test_the_defaults_come_back_after_a_request_that_was_refused_as_its_expert_cannot_fit() -> None:
    experts = [an_expert("b", default=True), an_expert("c")]
    script = Script(TierState(a_config(20, return_to_default_s=60.0), experts, engines(f=None)))
    script.settle(script.feed(Opened(script.now())))
    (load,) = script.ask("c")
    script.settle(script.done(load, size=30))
    script.settle(script.order("c", "disk"))
    script.settle(script.release(1))
    (refusal,) = script.ask("c")
    assert isinstance(refusal, Reject)
    assert script.wait(50) == []
    assert script.wait(20) == [Move("b", "disk", "device", "preload")]


def test_the_defaults_come_back_though_a_load_that_was_ordered_goes_on() -> None:
    experts = [an_expert("a"), an_expert("b"), an_expert("c", family="g", default=True)]
    script = Script(TierState(a_config(40, return_to_default_s=60.0), experts, engines(f=None, g=None)))
    script.settle(script.feed(Opened(script.now())))
    script.settle(script.order("c", "disk"))
    (load,) = script.order("b", "device")
    script.ask("b")
    script.cancel(1)
    assert script.wait(70) == [Move("c", "disk", "device", "preload")]
    assert script.done(load) == []


def test_the_engine_of_a_default_expert_starts_before_one_that_only_needs_an_expert_to_start_with() -> None:
    experts = [an_expert("a"), an_expert("b", family="g", default=True)]
    script = Script(TierState(a_config(10), experts, engines(f=1, g=1)))
    assert script.settle(script.feed(Opened(script.now()))) == [StartEngine("g", "b", "disk")]


def test_an_engine_that_was_given_up_is_started_when_its_restart_is_due() -> None:
    script = Script(TierState(a_config(10), [an_expert("a")], engines(f=None)))
    (start,) = script.feed(Opened(script.now()))
    (again,) = script.fail(start)
    assert script.fail(again) == []
    assert script.feed(RestartDue("f", script.now())) == [start]


@pytest.mark.parametrize("closing", [False, True])
def test_a_restart_changes_nothing_where_the_engine_runs_or_the_server_ends(
    closing: bool,
) -> None:
    script = opened("ab", device=10)
    if closing:
        script.die()
        script.feed(DrainRequested(script.now()))
    else:
        script.settle(script.ask("b"))
        script.release(1)
    before = repr(script.state)
    assert script.feed(RestartDue("f", script.now())) == []
    assert repr(script.state) == before
    assert script.state.status.settled


def test_defaults_that_do_not_fit_together_are_refused() -> None:
    experts = [an_expert("a", default=True), an_expert("b", default=True)]
    with pytest.raises(BudgetTooSmall, match=r"take 20 bytes together, over tiers\.device of 15"):
        TierState(a_config(15), experts, engines(f=None))


def test_a_higher_priority_is_served_first_but_nobody_waits_too_long_for_it() -> None:
    script = opened("abcd", device=10, max_wait_s=50.0)
    script.ask("a")
    script.ask("b", priority="low")
    script.ask("c")
    script.ask("d", priority="high")
    order_of_loads = [
        action.expert
        for action in script.settle(script.release(1))
        if isinstance(action, Move) and action.target == "device"
    ]
    assert order_of_loads == ["d"]
    script.wait(60)
    seen = script.settle(script.release(4))
    assert [a.expert for a in seen if isinstance(a, Move) and a.target == "device"] == ["b"]
    assert script.state.status.engines()[0].bound_hits == 2


def test_a_ticket_of_higher_priority_takes_those_of_its_expert_along() -> None:
    script = opened("abc", device=10)
    script.ask("a")
    script.ask("b")
    script.ask("c", priority="low")
    script.ask("c", priority="high")
    assert script.settle(script.release(1))[-2:] == [Grant(3), Grant(4)]


def test_the_queue_of_all_is_full_with_the_place_one_would_have_had() -> None:
    script = opened("abc", device=10, max_queue=1)
    script.ask("b")
    (rejection,) = script.ask("c")
    assert isinstance(rejection, Reject)
    assert rejection.message == ("1 requests wait already, and this one would be number 2: try again later")


def test_a_read_from_disk_counts_as_a_move_until_it_ends() -> None:
    script = opened("ab", device=20, host=80)
    assert script.state.status.counts.moves == 0
    (read,) = script.ask("b")
    assert script.state.status.counts.moves == 1
    script.settle(script.done(read))
    assert script.state.status.counts.moves == 0


def test_bytes_on_their_way_are_reserved() -> None:
    script = opened("ab", device=20)
    (load,) = script.ask("b")
    assert (script.state.status.tiers()[0].used_bytes, script.state.status.tiers()[0].reserved_bytes) == (
        20,
        10,
    )
    script.done(load)
    assert script.state.status.tiers()[0].reserved_bytes == 0


def test_a_revived_victim_does_not_block_for_ever() -> None:
    """ollama#17408: the victim of a load is asked for while it is on its way out."""
    script = opened("ab", device=10)
    script.ask("a")
    script.ask("b")
    script.ask("a")
    actions = script.settle(script.release(1))
    assert Grant(2) in actions
    assert Grant(3) in script.settle(script.release(2))


def test_a_large_load_does_not_hold_up_those_for_whom_there_is_room() -> None:
    """ollama#15126: the head of the line waits for memory, and others who need none wait behind it."""
    experts = [an_expert("a"), an_expert("big", size=20), an_expert("c")]
    script = Script(TierState(a_config(device=30, max_wait_s=1000.0), experts, engines(f=None)))
    script.settle(script.feed(Opened(script.now())))
    script.settle(script.ask("a"))
    script.settle(script.ask("c"))
    script.ask("big")
    assert script.ask("c") == [Grant(4)], "the other one has been claimed"
    assert script.ask("a") == []
