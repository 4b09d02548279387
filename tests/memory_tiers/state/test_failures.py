"""What fails: loads, reads, evictions, starts, and engines that die."""

from memory_tiers.actions import (
    Grant,
    Move,
    Reject,
    StartEngine,
)
from memory_tiers.events import Opened
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
