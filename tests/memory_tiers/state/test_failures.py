"""Fails loads, reads, evictions and starts, and lets engines die."""

import pytest

from memory_tiers.actions import Forget, Grant, Move, Reject, StartEngine, StopEngine
from memory_tiers.events import Foreseen, Opened, RestartDue
from memory_tiers.members import Revision
from memory_tiers.state.state_machine import TierState
from tests.memory_tiers.state.script import Script, a_config, an_expert, engines, opened


def test_a_failed_load_rejects_its_tickets_and_changes_nothing_else() -> None:
    script = opened("ab", device=20)
    script.ask("a")
    (load,) = script.ask("b")
    (rejection,) = script.fail(load, "no such tensor")
    assert rejection == Reject(2, "load_failed", "expert b could not be loaded: no such tensor")
    assert script.where("a") == "device"
    assert script.ask("b") == [load], "the next ticket tries again"


def test_a_failed_load_in_place_leaves_the_old_expert_serving() -> None:
    script = opened("ab", device=10, limit=1)
    (load,) = script.ask("b")
    script.fail(load)
    assert script.ask("a") == [Grant(2)]


def test_an_expert_that_cannot_be_read_is_rejected_with_the_reason() -> None:
    script = opened("ab", device=20, host=20)
    (read,) = script.ask("b")
    (rejection,) = script.fail(read, "truncated")
    assert rejection == Reject(1, "load_failed", "expert b could not be read: truncated")


def test_a_failed_eviction_makes_way_for_another_victim() -> None:
    script = opened("abc", device=20)
    script.settle(script.ask("b"))
    script.release(1)
    (eviction,) = script.ask("c")
    assert script.fail(eviction) == [Move("b", "device", "disk", "eviction", "c")]
    assert script.ask("a") == [Grant(3)]


def test_when_no_victim_can_be_evicted_the_ticket_is_rejected() -> None:
    script = opened("ab", device=10)
    (eviction,) = script.ask("b")
    (rejection,) = script.fail(eviction)
    assert isinstance(rejection, Reject)
    assert rejection.reason == "load_failed"
    assert script.ask("b") == [eviction]


def test_a_failed_drop_on_the_host_rejects_whom_it_was_for() -> None:
    script = opened("abc", device=10, host=10)
    (drop,) = script.ask("b")
    assert drop == Move("a", "host", "disk", "eviction", "b")
    (rejection,) = script.fail(drop, "busy")
    assert rejection == Reject(1, "load_failed", "no room on the host for expert b: busy")


def test_a_dead_engine_is_restarted_for_the_oldest_ticket_and_serves_those_who_waited() -> None:
    script = opened("abc", device=20)
    (load,) = script.ask("b")
    assert script.die() == [], "the move under way ends first"
    (start,) = script.fail(load, "connection refused")
    assert start == StartEngine("f", "b", "disk")
    assert script.done(start) == [Grant(1), Move("a", "disk", "device", "preload")]


def test_a_load_that_was_done_just_before_its_engine_died_leaves_nothing_there() -> None:
    script = opened("abc", device=20)
    (load,) = script.ask("b")
    assert script.die() == []
    (start,) = script.done(load)
    assert start == StartEngine("f", "b", "disk")
    assert script.where("b") == "disk"
    assert script.done(start) == [Grant(1), Move("a", "disk", "device", "preload")]


def test_a_dead_engine_is_restarted_when_nobody_waits() -> None:
    script = opened("ab", device=20)
    assert script.die() == [StartEngine("f", "a", "disk")]


def test_what_was_on_the_device_of_a_dead_engine_comes_back_to_it() -> None:
    script = opened("abc", device=20)
    script.settle(script.ask("b"))
    script.release(1)
    (start,) = script.die()
    assert start == StartEngine("f", "b", "disk"), "the one used last comes first"
    (restore,) = script.done(start)
    assert restore == Move("a", "disk", "device", "preload")
    assert script.done(restore) == []
    assert [script.where(name) for name in "abc"] == ["device", "device", "disk"]


def test_who_waits_comes_before_what_is_only_to_come_back() -> None:
    script = opened("abc", device=20)
    script.settle(script.ask("b"))
    script.release(1)
    (start,) = script.die()
    script.ask("c")
    (load,) = script.done(start)
    assert load == Move("c", "disk", "device", "ticket"), "not a, which fits no more"
    assert script.done(load) == [Grant(2)]
    assert [script.where(name) for name in "abc"] == ["disk", "device", "device"]
    assert script.state.status.settled


def test_leases_of_a_dead_engine_count_until_they_are_released() -> None:
    script = opened("ab", device=10)
    script.ask("a")
    script.settle(script.die())
    assert script.state.status.counts.leases == 1
    assert script.ask("b") == []
    assert script.release(1) == [Move("a", "device", "disk", "eviction", "b")]


def test_pinned_experts_come_back_after_a_restart() -> None:
    script = opened("abc", device=30, pinned="ab")
    script.settle(script.die())
    assert (script.where("a"), script.where("b"), script.where("c")) == ("device", "device", "disk")


def test_an_engine_that_fails_to_start_twice_rejects_those_who_wait_and_tries_again_with_the_next() -> None:
    script = Script(TierState(a_config(device=20), [an_expert("a"), an_expert("b")], engines(f=None)))
    (start,) = script.ask("b")
    assert start == StartEngine("f", "b", "disk")
    (again,) = script.fail(start)
    assert again == StartEngine("f", "a", "disk"), "it may have been the fault of b"
    (rejection,) = script.fail(again, "no memory")
    assert rejection == Reject(1, "engine_failed", "the engine of family f does not start: no memory")
    assert script.state.status.settled
    assert script.ask("b") == [start]


def test_an_engine_does_not_stay_down_for_the_sake_of_one_broken_expert() -> None:
    script = Script(TierState(a_config(device=20), [an_expert("a"), an_expert("b")], engines(f=None)))
    (start,) = script.feed(Opened(script.now()))
    assert start == StartEngine("f", "a", "disk")
    assert script.ask("b") == [], "it waits for the start"
    (another,) = script.fail(start, "its canary is wrong")
    assert another == StartEngine("f", "b", "disk")
    assert script.done(another) == [Grant(1)]
    assert script.state.status.settled
    (first,) = script.die()
    assert first == StartEngine("f", "b", "disk")


def test_an_engine_whose_first_expert_cannot_be_read_starts_with_another() -> None:
    members = [an_expert("a", pinned=True), an_expert("b")]
    script = Script(TierState(a_config(device=20, host=20), members, engines(f=None)))
    (read,) = script.feed(Opened(script.now()))
    assert read == Move("a", "disk", "host", "preload")
    (another,) = script.fail(read, "truncated")
    assert another == Move("b", "disk", "host", "preload")
    (start,) = script.done(another)
    assert start == StartEngine("f", "b", "host")


def test_an_expert_whose_load_kills_the_engine_twice_is_rejected() -> None:
    script = opened("abc", device=30)
    (load,) = script.ask("b")
    script.cancel(1)
    script.ask("c")
    script.ask("b")
    script.die()
    (start,) = script.fail(load)
    assert start == StartEngine("f", "c", "disk")
    assert script.done(start) == [Grant(2), load]
    script.die()
    rejection, restart = script.fail(load, "out of memory")
    assert rejection == Reject(3, "load_failed", "loading expert b killed its engine: out of memory")
    assert restart == StartEngine("f", "a", "disk")
    script.settle([restart])
    script.ask("b")
    script.die()
    assert not any(isinstance(action, Reject) for action in script.fail(load)), "the next one tries twice too"


def test_an_engine_whose_only_expert_cannot_be_read_says_so_and_is_not_tried_for_ever() -> None:
    script = Script(TierState(a_config(device=20, host=20), [an_expert("a")], engines(f=None)))
    (read,) = script.feed(Opened(script.now()))
    assert script.fail(read, "truncated") == []
    (engine,) = script.state.status.engines()
    assert (engine.state, engine.detail) == ("stopped", "expert a could not be read: truncated")
    assert script.state.status.settled


def test_an_expert_that_cannot_be_read_costs_its_running_engine_nothing() -> None:
    script = opened("abc", device=10, host=40)
    script.settle(script.ask("c"))
    script.settle(script.release(1))
    (read,) = script.order("b", "device")
    assert script.fail(read, "truncated") == [], "nothing else is loaded instead"
    (engine,) = script.state.status.engines()
    assert (engine.state, engine.detail) == ("ready", "")
    assert script.ask("c") == [Grant(2)]


def test_an_ordered_copy_that_cannot_be_read_is_given_up() -> None:
    script = opened("ab", device=10, host=20)
    (read,) = script.order("b", "host")
    assert script.fail(read, "truncated") == []
    status = script.status("b")
    assert (status.tier, status.ordered) == ("disk", None)
    assert status.failure == "expert b could not be read: truncated"


def test_a_removed_expert_whose_load_fails_rejects_who_waits_and_is_forgotten() -> None:
    script = opened("ab", device=20)
    (load,) = script.ask("b")
    script.revise(Revision(removed=("b",)))
    assert script.fail(load) == [
        Reject(1, "load_failed", "expert b could not be loaded: bad luck"), Forget("b")
    ]  # fmt: skip
    assert not script.state.status.knows("b")


def test_an_expert_whose_load_failed_stays_when_it_is_prefetched_later() -> None:
    script = opened("ab", device=20, prefetch_share=0.5)
    (load,) = script.ask("b")
    script.cancel_load("b")
    assert script.fail(load) == []
    (prefetch,) = script.feed(Foreseen((("b", 0.9),), script.now()))
    assert script.done(prefetch) == []
    assert script.where("b") == "device"


def test_an_engine_that_dies_during_a_load_in_the_place_of_another_expert_loses_both() -> None:
    script = opened("abc", device=100, limit=2)
    script.settle(script.ask("b"))
    script.release(1)
    (load,) = script.ask("c")
    assert load == Move("c", "disk", "device", "ticket", replaces="a")
    script.die()
    (start,) = script.fail(load, "the engine died")
    assert start == StartEngine("f", "c", "disk")
    assert script.state.status.tiers()[0].used_bytes == 10, "what the start takes"
    assert Grant(2) in script.settle([start])
    assert [script.where(name) for name in "abc"] == ["disk", "device", "device"]


def test_an_engine_that_dies_while_an_expert_leaves_it_has_given_everything_back() -> None:
    script = opened("ab", device=10)
    (eviction,) = script.ask("b")
    script.die()
    (start,) = script.fail(eviction, "the engine died")
    assert start == StartEngine("f", "b", "disk")
    assert script.done(start) == [Grant(1)]
    assert script.state.status.tiers()[0].used_bytes == 10


def test_an_engine_that_died_says_why_until_it_runs_again() -> None:
    experts = [an_expert("a"), an_expert("b", family="g")]
    script = Script(TierState(a_config(device=40), experts, engines(f=None, g=None)))
    (start,) = script.feed(Opened(script.now()))
    script.done(start)
    assert script.die() == [], "one engine starts at a time"
    first, second = script.state.status.engines()
    assert (first.state, first.detail) == ("dead", "killed")
    assert second.state == "starting"
    script.settle([StartEngine("g", "b", "disk")])
    assert [(engine.state, engine.detail) for engine in script.state.status.engines()] == [("ready", "")] * 2


@pytest.mark.parametrize("moving", ["to the device", "away"])
def test_a_host_copy_that_stays_is_no_reason_to_reject_who_needs_no_room_there_any_more(moving: str) -> None:
    script = opened("ab", device=20, host=10)
    (drop,) = script.ask("b")
    assert drop == Move("a", "host", "disk", "eviction", "b")
    (move,) = script.revise(Revision(host=5))
    assert move == Move("b", "disk", "device", "ticket")
    if moving == "away":
        script.done(move)
        script.release(1)
        (move,) = script.order("b", "disk")
        assert script.ask("b") == [], "it comes again when it has left"
    again = Move("a", "host", "disk", "over_budget")
    assert script.fail(drop, "busy") == [again]
    assert Grant(script.tickets) in script.settle([move, again])


def test_a_pinned_expert_comes_back_to_an_engine_that_died_before_those_that_need_not() -> None:
    script = opened("ab", device=25, pinned="a")
    script.settle(script.ask("b"))
    script.release(1)
    (start,) = script.die()
    assert start == StartEngine("f", "a", "disk"), "though b was used later"
    assert script.done(start, size=16) == [], "which leaves no room for b"
    assert (script.where("a"), script.where("b")) == ("device", "disk")


def test_what_was_ordered_down_does_not_come_back_to_an_engine_that_died() -> None:
    script = opened("abc", device=30)
    for expert in "abc":
        script.settle(script.ask(expert))
    script.order("b", "disk")
    script.settle(script.die())
    assert [script.where(name) for name in "abc"] == ["device", "disk", "device"]


def test_an_ordered_expert_comes_once_there_is_room_though_its_engine_was_to_be_restarted_meanwhile() -> None:
    experts = [an_expert("a"), an_expert("b", family="g")]
    script = Script(TierState(a_config(device=10), experts, engines(f=1, g=1)))
    (start,) = script.feed(Opened(script.now()))
    (again,) = script.fail(start)
    script.fail(again)
    assert script.settle(script.ask("b")) == [StartEngine("g", "b", "disk"), Grant(1)]
    assert script.order("a", "device") == [], "there is a lease in its place"
    assert script.feed(RestartDue("f", script.now())) == []
    assert script.settle(script.release(1)) == [StopEngine("g", "eviction", "a"), start]
    assert script.where("a") == "device"


def test_an_engine_that_ran_meanwhile_may_fail_to_start_once_more() -> None:
    script = Script(TierState(a_config(device=20), [an_expert("a"), an_expert("b")], engines(f=None)))
    for _ in range(2):
        (start,) = script.ask("b") if not script.tickets else script.die()
        (again,) = script.fail(start)
        assert isinstance(again, StartEngine), "nobody is rejected"
        script.settle([again])


def test_an_expert_that_was_loaded_meanwhile_may_kill_its_engine_once_more() -> None:
    script = opened("ab", device=20)
    for _ in range(2):
        (load,) = script.ask("b")
        script.die()
        actions = script.fail(load)
        assert not any(isinstance(action, Reject) for action in actions)
        script.settle(actions)
        script.release(script.tickets)
        script.settle(script.order("b", "disk"))


def test_an_engine_that_dies_takes_along_an_expert_that_was_to_leave_it() -> None:
    script = opened("ab", device=10)
    script.ask("a")
    assert script.ask("b") == [], "it waits until the lease of a is released"
    (start,) = script.die()
    assert start == StartEngine("f", "b", "disk")
    assert script.done(start) == [Grant(2)]
    script.release(1)


def test_a_cancelled_load_that_ended_well_says_nothing_of_a_later_prefetch() -> None:
    script = opened("ab", device=20, prefetch_share=0.5)
    (load,) = script.ask("b")
    script.cancel_load("b")
    (unload,) = script.done(load)
    assert script.status("b").ordered == "host", "until it has left"
    script.settle([unload])
    (prefetch,) = script.feed(Foreseen((("b", 0.9),), script.now()))
    assert script.done(prefetch) == []
    assert script.where("b") == "device"
