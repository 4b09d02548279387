"""The cases of the tiers' decision, one by one."""

from dataclasses import astuple

import pytest
from pydantic import ValidationError

from memory_tiers.actions import (
    Action,
    Grant,
    Move,
    Reject,
    StartEngine,
    StopEngine,
)
from memory_tiers.errors import BudgetTooSmall
from memory_tiers.events import DrainRequested, MoveFailed, Opened, TimePassed
from memory_tiers.members import Family, Member
from memory_tiers.state.state_machine import SHUTTING_DOWN, TierState
from memory_tiers.status import EngineStatus, GpuStatus, OpenCounts, TierStatus
from memory_tiers.tiers import TiersConfig
from tests.memory_tiers.state.script import Script, a_config, an_expert, engines, opened


def test_an_engine_starts_with_its_first_pinned_expert_and_then_loads_the_other_pins() -> None:
    experts = [an_expert("a"), an_expert("b", pinned=True), an_expert("c", pinned=True)]
    script = Script(TierState(a_config(device=40), experts, engines(f=None)))
    actions = script.feed(Opened(0.0))
    assert actions == [StartEngine("f", "b", "disk")]
    (load,) = script.done(actions[0])
    assert load == Move("c", "disk", "device", "preload")
    assert not script.state.status.settled
    script.done(load)
    assert script.state.status.settled


def test_engines_start_one_after_another() -> None:
    experts = [an_expert("a", family="f"), an_expert("b", family="g")]
    script = Script(TierState(a_config(device=40), experts, engines(f=None, g=None)))
    actions = script.feed(Opened(0.0))
    assert actions == [StartEngine("f", "a", "disk")]
    assert script.done(actions[0]) == [StartEngine("g", "b", "disk")]
    assert not script.state.status.settled
    script.settle([StartEngine("g", "b", "disk")])
    assert script.state.status.settled


def test_who_asks_for_a_resident_expert_gets_the_lease_at_once() -> None:
    script = opened("ab", device=20)
    assert script.ask("a") == [Grant(1)]


def test_one_load_serves_everybody_who_waits() -> None:
    script = opened("ab", device=20)
    (load,) = script.ask("b")
    assert load == Move("b", "disk", "device", "ticket")
    assert script.ask("b") == []
    assert script.done(load) == [Grant(1), Grant(2)]


def test_a_load_outlives_the_ticket_that_caused_it() -> None:
    script = opened("ab", device=20)
    (load,) = script.ask("b")
    script.cancel(1)
    assert script.done(load) == []
    assert script.ask("b") == [Grant(2)]


def test_weights_go_over_the_host_and_stay_there() -> None:
    script = opened("ab", device=20, host=20)
    (read,) = script.ask("b")
    assert read == Move("b", "disk", "host", "ticket")
    (load,) = script.done(read)
    assert load == Move("b", "host", "device", "ticket")
    assert script.done(load) == [Grant(1)]
    assert script.state.status.tiers()[1].used_bytes == 20


def test_a_move_is_charged_to_both_ends_until_it_ends() -> None:
    script = opened("ab", device=20, host=20)
    (read,) = script.ask("b")
    script.done(read)
    device, host, _ = script.state.status.tiers()
    assert (device.used_bytes, host.used_bytes) == (20, 20)


def test_an_expert_larger_than_the_host_tier_is_read_straight_from_disk() -> None:
    script = opened("ab", device=20, host=5)
    assert script.ask("b") == [Move("b", "disk", "device", "ticket")]


def test_the_least_recently_used_idle_expert_leaves() -> None:
    script = opened("abc", device=20)
    script.settle(script.ask("b"))
    script.release(1)
    script.ask("a")
    script.release(2)
    (eviction,) = script.ask("c")
    assert eviction == Move("b", "device", "disk", "eviction", "c")
    (load,) = script.done(eviction)
    assert load == Move("c", "disk", "device", "ticket")


def test_an_expert_counts_as_used_when_its_lease_ends() -> None:
    script = opened("abc", device=20)
    script.ask("a")
    script.settle(script.ask("b"))
    script.release(2)
    script.release(1)
    assert script.ask("c") == [Move("b", "device", "disk", "eviction", "c")]


def test_an_evicted_expert_comes_back_from_its_host_copy() -> None:
    script = opened("ab", device=10, host=20)
    seen = script.settle(script.ask("b"))
    assert Move("a", "device", "host", "eviction", "b") in seen
    assert script.where("a") == "host"
    script.release(1)
    assert Move("a", "host", "device", "ticket") in script.settle(script.ask("a"))


def loading(script: Script, expert: str) -> Move:
    """The load that asking for ``expert`` leads to, about to end."""
    pending = script.ask(expert)
    while True:
        action = pending.pop(0)
        if isinstance(action, Move) and (action.expert, action.target) == (expert, "device"):
            return action
        pending += script.done(action)


@pytest.mark.parametrize("size", [12, 1])
def test_an_image_takes_the_place_of_the_checkpoint_on_the_host_and_is_used_from_then_on(size: int) -> None:
    script = opened("ab", device=10, host=40, images=True)
    load = loading(script, "b")
    assert load == Move("b", "host", "device", "ticket", image=True)
    assert script.on_host("b") == 20, "until the load ends there are both"
    script.done(load, image=size)
    assert script.on_host("b") == size
    script.release(1)
    script.done(loading(script, "a"), image=size)
    script.release(2)
    assert loading(script, "b") == Move("b", "host", "device", "ticket", image=True)
    assert script.on_host("b") == size


def test_an_image_is_made_only_where_the_host_has_room_for_it_beside_the_checkpoint() -> None:
    script = opened("ab", device=20, host=19, images=True)
    load = loading(script, "b")
    assert load == Move("b", "host", "device", "ticket")
    script.done(load)
    assert script.on_host("b") == 10


def test_host_copies_leave_for_a_checkpoint_and_the_image_that_will_be_made_of_it() -> None:
    script = opened("abc", device=30, host=30, images=True)
    script.done(loading(script, "b"), image=10)
    assert [script.on_host(name) for name in "abc"] == [10, 10, 0]
    assert Move("a", "host", "disk", "eviction", "c") in script.ask("c")


def test_an_engine_that_left_no_image_is_not_given_room_for_one_again() -> None:
    script = opened("abc", device=30, host=40, images=True)
    script.done(loading(script, "b"), image=0)
    assert script.on_host("b") == 10
    assert loading(script, "c") == Move("c", "host", "device", "ticket")


def test_an_image_that_turned_out_bad_and_could_not_be_made_anew_is_gone() -> None:
    script = opened("ab", device=10, host=40, images=True)
    script.done(loading(script, "b"), image=10)
    script.release(1)
    script.done(loading(script, "a"), image=10)
    script.release(2)
    script.done(loading(script, "b"), image=0)
    assert script.on_host("b") == 0


def test_a_host_copy_that_could_not_be_loaded_is_dropped_so_that_the_disk_is_read_again() -> None:
    script = opened("ab", device=20, host=40, images=True)
    (read,) = script.ask("b")
    (load,) = script.done(read)
    reject, drop = script.fail(load, "tensor x holds NaN")
    assert isinstance(reject, Reject)
    assert drop == Move("b", "host", "disk", "unusable")
    assert script.on_host("b") == 10
    assert script.ask("b") == [], "waits until the bad copy is gone"
    assert script.done(drop) == [Move("b", "disk", "host", "ticket")]


def test_a_host_copy_for_which_the_device_had_no_room_is_as_good_as_before() -> None:
    script = opened("ab", device=20, host=40, images=True)
    (read,) = script.ask("b")
    (load,) = script.done(read)
    assert isinstance(load, Move)
    (reject,) = script.feed(MoveFailed(load, "CUDA out of memory", script.now(), device_full=True))
    assert isinstance(reject, Reject)
    assert script.on_host("b") == 10
    assert script.ask("b") == [load], "the next one reads the host again"


def test_the_host_tier_drops_the_copy_used_least_recently_and_not_needed() -> None:
    script = opened("abc", device=10, host=20)
    script.settle(script.ask("b"))
    script.release(1)
    first = script.ask("c")
    assert first == [Move("a", "host", "disk", "eviction", "c")]
    assert script.done(first[0]) == [Move("c", "disk", "host", "ticket")]


def test_a_host_copy_that_a_load_reads_is_not_dropped() -> None:
    script = opened("abc", device=30, host=10)
    seen = script.ask("b")
    while not any(isinstance(action, Move) and action.target == "device" for action in seen):
        (move,) = seen
        seen = script.done(move)
    assert seen == [Move("b", "host", "device", "ticket")]
    assert script.ask("c") == []
    assert script.done(seen[0]) == [Grant(1), Move("b", "host", "disk", "eviction", "c")]


def test_a_host_copy_that_somebody_waits_for_is_not_dropped() -> None:
    script = opened("abc", device=10, host=10)
    script.ask("a")
    (drop,) = script.ask("b")
    (read,) = script.done(drop)
    script.done(read)
    assert script.ask("c") == []
    assert script.where("b") == "host"


def test_an_expert_under_a_lease_stays_until_it_is_released() -> None:
    script = opened("ab", device=10)
    script.ask("a")
    assert script.ask("b") == []
    assert script.release(1) == [Move("a", "device", "disk", "eviction", "b")]


def test_a_claimed_expert_gets_no_new_leases_so_the_older_ticket_is_served_first() -> None:
    script = opened("ab", device=10)
    script.ask("a")
    script.ask("b")
    assert script.ask("a") == []
    seen = script.settle(script.release(1))
    assert [action for action in seen if isinstance(action, Grant)] == [Grant(2)]
    assert Grant(3) in script.settle(script.release(2))


def test_a_stream_of_requests_to_one_expert_does_not_starve_another() -> None:
    script = opened("ab", device=10)
    script.ask("a")
    script.ask("b")
    for _ in range(50):
        script.ask("a")
    assert Grant(2) in script.settle(script.release(1))


def granted(actions: list[Action]) -> list[int]:
    return [action.ticket for action in actions if isinstance(action, Grant)]


def moves_in(actions: list[Action]) -> list[str]:
    return [action.expert for action in actions if isinstance(action, Move) and action.target == "device"]


def test_requests_that_alternate_do_not_thrash_and_nobody_starves() -> None:
    """ABAACABC, one place on the device, every request takes a second: llama-swap#612."""
    script = opened("ABC", device=10, min_residency_s=5, max_wait_s=60)
    script.wait(5)
    loads: list[str] = []
    served: list[int] = []
    for expert in "ABAACABC":
        seen = script.settle(script.ask(expert))
        for ticket in granted(seen):
            seen += script.settle(script.release(ticket))
        served += granted(seen)
        loads += moves_in(seen)
    while len(served) < 8:
        seen = script.wait(1)
        for ticket in granted(seen):
            seen += script.settle(script.release(ticket))
        served += granted(seen)
        loads += moves_in(seen)
    assert sorted(served) == list(range(1, 9))
    assert loads == ["B", "A", "C", "B"], "in the order of arrival it would be BACABC"


def test_an_expert_that_has_just_come_stays_as_long_as_its_load_took_and_longer_while_in_use() -> None:
    script = opened("ab", device=10, min_residency_s=None, max_wait_s=1000)
    eviction, *_ = script.ask("b")
    (load,) = script.done(eviction)
    script.at += 7
    assert granted(script.done(load)) == [1]
    loaded, took = script.at, 8
    assert script.ask("a") == []
    assert script.state.deadline == loaded + 10 * took
    assert script.ask("b") == [Grant(3)]
    script.release(3)
    script.release(1)
    assert script.state.deadline == loaded + took
    assert granted(script.wait(took)) == [2]


def test_who_has_waited_too_long_does_not_wait_for_that() -> None:
    script = opened("ab", device=10, min_residency_s=1000, max_wait_s=7)
    asked = script.at + 1
    assert script.ask("b") == []
    assert script.wait(6) == []
    assert granted(script.wait(1)) == [1]
    assert script.at == pytest.approx(asked + 7 + 2), "and two moves of a second each"


def test_a_steady_stream_to_one_expert_keeps_another_waiting_no_longer_than_the_bound() -> None:
    script = opened("ab", device=10, min_residency_s=1000, max_wait_s=20)
    script.ask("a")
    held = [1]
    script.ask("b")
    seen: list[Action] = []
    while 2 not in granted(seen) and script.at < 100:
        seen = script.wait(0.5) + script.settle(script.ask("a"))
        held += [ticket for ticket in granted(seen) if ticket != 2]
        if len(held) > 1 or not granted(seen):
            seen += script.settle(script.release(held.pop(0))) if held else []
    assert 20 <= script.at <= 30


def test_whoever_waited_too_long_comes_before_an_older_need() -> None:
    script = opened("abc", device=10, min_residency_s=0, max_wait_s=10)
    script.ask("a")
    script.ask("b")
    script.at += 8
    script.ask("c")
    script.cancel(2)
    script.ask("b")
    script.at += 5
    assert granted(script.settle(script.release(1))) == [3]


def test_only_who_is_next_claims_a_victim_so_that_the_others_serve_on() -> None:
    script = opened("abcd", device=20)
    script.settle(script.ask("a"))
    script.settle(script.ask("b"))
    script.ask("c")
    script.ask("d")
    assert len([name for name in "ab" if granted(script.ask(name))]) == 1


@pytest.mark.parametrize("policy", ["lru", "cost"])
def test_a_victim_in_an_engine_full_by_count_stays_one_however_it_was_used(policy: str) -> None:
    """Else two that are in use take turns as the victim, neither becomes idle, and a third starves."""
    script = opened("abc", device=30, limit=2, max_wait_s=10, policy=policy)
    for name in "aabb":
        script.settle(script.ask(name))
    script.ask("c")
    script.release(1)
    assert granted(script.ask("a")) == []
    script.release(3)
    assert granted(script.ask("b")) == [7]
    assert granted(script.settle(script.release(2))) == [5]


def test_an_expert_that_is_read_from_disk_holds_nobody_up_whose_weights_are_in_memory() -> None:
    """ollama#15126: a slow load at the head of the line."""
    script = opened("abc", device=10, host=30)
    script.settle(script.ask("b"))
    script.release(1)
    script.settle(script.ask("a"))
    script.release(2)
    (read,) = script.ask("c")
    assert read == Move("c", "disk", "host", "ticket")
    assert granted(script.settle(script.ask("b"))) == [4]
    script.release(4)
    assert granted(script.settle(script.done(read))) == [3]


def test_leases_are_granted_again_when_the_claim_ends_with_its_ticket() -> None:
    script = opened("ab", device=10)
    script.ask("a")
    script.ask("b")
    script.ask("a")
    assert script.cancel(2) == [Grant(3)]


def test_an_idle_expert_is_a_better_victim_than_one_claimed_under_a_lease() -> None:
    script = opened("abc", device=20)
    script.settle(script.ask("a"))
    script.settle(script.ask("b"))
    script.ask("c")
    assert script.ask("a") == []
    assert script.release(2) == [Move("b", "device", "disk", "eviction", "c"), Grant(4)]


def test_a_claim_stays_with_its_victim_while_the_victim_is_still_used() -> None:
    script = opened("abc", device=20)
    script.ask("a")
    script.ask("a")
    script.settle(script.ask("b"))
    script.ask("c")
    script.release(1)
    assert script.ask("b") == [Grant(5)]
    assert script.ask("a") == []


def test_the_bound_on_waiting_is_kept_to_the_last_digit() -> None:
    """6.8 + 30 - 6.8 is less than 30 in floating point."""
    script = opened("ab", device=10, max_wait_s=30, min_residency_s=1000)
    script.at = 6.8 - 1
    assert script.ask("b") == []
    assert script.state.deadline == 36.8
    assert script.feed(TimePassed(36.8)) == [Move("a", "device", "disk", "eviction", "b")]


def test_a_chosen_victim_is_not_revived_while_it_leaves() -> None:
    script = opened("ab", device=10)
    (eviction,) = script.ask("b")
    script.cancel(1)
    assert script.ask("a") == []
    (load,) = script.done(eviction)
    assert load == Move("a", "disk", "device", "ticket")


def test_loading_and_pinned_experts_are_never_victims() -> None:
    script = opened("abc", device=20, pinned="a")
    (load,) = script.ask("b")
    assert script.ask("c") == []
    assert script.done(load) == [Grant(1)]
    assert script.release(1) == [Move("b", "device", "disk", "eviction", "c")]


def test_who_is_asked_for_again_keeps_its_place_however_many_wait() -> None:
    script = opened("abcdefghijklmnopqrst", device=10)
    script.ask("a")
    for expert in "bcdefghijklmnopqrst":
        script.ask(expert)
    script.ask("b")
    assert script.release(1) == [Move("a", "device", "disk", "eviction", "b")]


def test_room_an_older_ticket_counts_on_is_not_given_to_a_younger_one() -> None:
    experts = [an_expert("a", size=20), an_expert("big", size=40), an_expert("b", size=20)]
    script = Script(TierState(a_config(device=40), experts, engines(f=None)))
    (start,) = script.feed(Opened(0.0))
    script.done(start, 20)
    script.ask("a")
    script.ask("big")
    assert script.ask("b") == [], "20 bytes are free, but they are promised"


def test_staging_on_the_host_goes_on_while_the_engine_is_busy() -> None:
    script = opened("abc", device=30, host=30)
    (read,) = script.ask("b")
    (load,) = script.done(read)
    assert script.ask("c") == [Move("c", "disk", "host", "ticket")]
    assert script.done(load) == [Grant(1)]


def test_an_engine_has_one_move_at_a_time() -> None:
    script = opened("abc", device=30)
    (load,) = script.ask("b")
    assert script.ask("c") == []
    assert script.done(load) == [Grant(1), Move("c", "disk", "device", "ticket")]


def test_an_engine_full_by_count_takes_the_next_expert_in_place_of_its_idle_one() -> None:
    script = opened("ab", device=10, limit=1)
    script.ask("a")
    assert script.ask("b") == []
    (load,) = script.release(1)
    assert load == Move("b", "disk", "device", "ticket", replaces="a")
    assert script.state.status.tiers()[0].used_bytes == 10
    assert script.done(load) == [Grant(2)]
    assert script.where("a") == "disk"


def test_the_expert_that_an_engine_started_with_may_leave_once_loads_were_measured() -> None:
    script = opened("abc", device=20, policy="cost")
    script.settle(script.ask("b"))
    script.release(1)
    for ticket in (2, 3):
        script.ask("b")
        script.release(ticket)
    (eviction,) = script.ask("c")
    assert eviction == Move("a", "device", "disk", "eviction", "c"), "nobody ever used it"


def test_measured_bytes_replace_the_estimate_and_teach_the_family() -> None:
    experts = [an_expert("a"), an_expert("b"), an_expert("c")]
    script = Script(TierState(a_config(device=45), experts, engines(f=None)))
    (start,) = script.feed(Opened(0.0))
    script.done(start, 20)
    (load,) = script.ask("b")
    script.done(load, 20)
    assert script.state.status.tiers()[0].used_bytes == 40
    assert script.ask("c") == [Move("a", "device", "disk", "eviction", "c")]


def test_a_measurement_over_the_budget_evicts_until_it_holds() -> None:
    script = opened("ab", device=20)
    (load,) = script.ask("b")
    assert script.done(load, 15) == [Grant(1), Move("a", "device", "disk", "over_budget")]


def test_an_expert_measured_larger_than_the_budget_is_refused_with_the_numbers() -> None:
    script = opened("ab", device=20)
    (load,) = script.ask("b")
    (_, eviction) = script.done(load, 25)
    script.done(eviction)
    (eviction,) = script.release(1)
    script.done(eviction)
    (rejection,) = script.ask("b")
    assert isinstance(rejection, Reject)
    assert rejection.reason == "load_failed"
    assert "25 bytes" in rejection.message
    assert "budget of 20" in rejection.message


def test_a_ticket_behind_one_that_can_never_fit_is_served() -> None:
    experts = [an_expert("a"), an_expert("b", size=30), an_expert("c", size=5)]
    script = Script(TierState(a_config(device=40), experts, engines(f=None)))
    (start,) = script.feed(Opened(0.0))
    script.ask("b")
    script.ask("c")
    rejection, load = script.done(start, 15)
    assert isinstance(rejection, Reject)
    assert (rejection.ticket, rejection.reason) == (1, "load_failed")
    assert load == Move("c", "disk", "device", "ticket")


def test_the_queue_is_bounded() -> None:
    script = opened("ab", device=20, max_queue=1)
    script.ask("b")
    (rejection,) = script.ask("b")
    assert isinstance(rejection, Reject)
    assert rejection.reason == "queue_full"
    assert script.ask("a") == [Grant(3)], "who need not wait is not in the queue"


def test_the_queue_of_each_expert_is_bounded() -> None:
    script = opened("abc", device=10, max_queue_per_expert=1)
    script.ask("b")
    (rejection,) = script.ask("b")
    message = "1 requests wait for expert b already, and this one would be number 2: try again later"
    assert rejection == Reject(2, "queue_full", message)
    assert script.ask("c") == [], "waits for another"


def test_failing_fast_loads_nothing() -> None:
    script = opened("ab", device=20)
    (rejection,) = script.ask("b", fail_fast=True)
    assert rejection == Reject(1, "not_resident", "expert b would have to wait: it is on disk")
    assert script.ask("a", fail_fast=True) == [Grant(2)]


def test_an_unknown_expert_is_rejected() -> None:
    (rejection,) = opened("a", device=20).ask("nobody")
    assert rejection == Reject(1, "unknown_expert", "there is no expert nobody")


def test_an_expert_that_nobody_configured_is_nowhere_but_on_disk() -> None:
    assert opened("a", device=20).where("b") == "disk"


def test_draining_rejects_who_waits_and_who_comes_and_lets_leases_end() -> None:
    script = opened("ab", device=10)
    script.ask("a")
    script.ask("b")
    (rejection,) = script.feed(DrainRequested(9.0))
    assert rejection == Reject(2, "shutting_down", SHUTTING_DOWN)
    assert script.ask("a") == [Reject(3, "shutting_down", SHUTTING_DOWN)]
    assert script.release(1) == []
    assert script.die() == [], "nothing is restarted"


def test_the_state_tells_of_each_gpu_and_whether_others_wait() -> None:
    experts = [an_expert("a", family="f"), an_expert("b", family="g"), an_expert("c", family="g")]
    config = TiersConfig.model_validate({"devices": {0: 20, 1: 30}, "host": 0})
    script = Script(TierState(config, experts, [Family("f", None, 0, (0,)), Family("g", None, 5, (1,))]))
    (first,) = script.feed(Opened(script.now()))
    script.settle([first])
    assert script.state.status.gpus() == (GpuStatus(0, 10, 20), GpuStatus(1, 15, 30))
    assert not script.state.status.others_wait("a")
    script.ask("c")
    assert script.state.status.others_wait("a")
    assert script.state.status.others_wait("unknown")
    assert not script.state.status.others_wait("c")
    assert opened("a", device=10).state.status.gpus() == ()


def test_the_state_tells_of_tiers_and_experts_what_is_there_and_what_is_on_its_way() -> None:
    experts = [an_expert("a", pinned=True), an_expert("b", default=True, ttl_s=7.0), an_expert("c")]
    script = Script(TierState(a_config(device=31, host=25, disk=99, ttl_s=5), experts, engines(f=None)))
    status = script.state.status
    script.settle(script.feed(Opened(script.now())))
    (read,) = script.ask("c")
    assert status.tiers() == (
        TierStatus("device", 20, 0, 31),
        TierStatus("host", 20, 10, 25),
        TierStatus("disk", 30, 0, 99),
    )
    assert status.counts == OpenCounts(1, 0, 1)
    (load,) = script.done(read)
    assert status.tiers()[:2] == (TierStatus("device", 30, 10, 31), TierStatus("host", 20, 0, 25))
    script.done(load)
    script.ask("c")
    script.release(1)
    told = [astuple(expert) for expert in status.experts()]
    assert told == [
        ("a", "f", "device", "present", "absent", True, 0, 0, 10, 10, 0, False, False, 5, None, "", ("f",)),
        ("b", "f", "device", "present", "present", False, 0, 0, 10, 10, 10, False, True, 7, None, "", ("f",)),
        (
            "c",
            "f",
            "device",
            "present",
            "present",
            False,
            1,
            0,
            10,
            10,
            10,
            False,
            False,
            5,
            None,
            "",
            ("f",),
        ),
    ]
    assert status.engines() == (EngineStatus("f", "ready", 1, "", False, 0),)


def test_the_state_tells_that_an_expert_is_leaving() -> None:
    script = opened("ab", device=10)
    script.ask("b")
    assert (script.status("a").device, script.where("a")) == ("leaving", "disk")


def test_engines_of_two_families_share_the_device_budget() -> None:
    experts = [an_expert("a", family="f"), an_expert("b", family="g")]
    script = Script(TierState(a_config(device=10), experts, engines(f=None, g=None)))
    seen = script.settle(script.feed(Opened(0.0)))
    assert seen == [
        StartEngine("f", "a", "disk"),
        Move("a", "device", "disk", "eviction", "b"),
        StartEngine("g", "b", "disk"),
    ]
    assert script.ask("a") == [Move("b", "device", "disk", "eviction", "a")]


@pytest.mark.parametrize(
    ("experts", "device", "says"),
    [
        ([an_expert("a", size=30)], 20, "expert a needs 30 bytes, over tiers.device of 20 bytes"),
        (
            [an_expert("a"), an_expert("b", pinned=True)],
            15,
            "expert a needs 10 bytes beside 10 bytes that never leave, over tiers.device of 15 bytes",
        ),
    ],
)
def test_a_budget_that_can_never_work_is_refused_with_the_numbers(
    experts: list[Member], device: int, says: str
) -> None:
    with pytest.raises(BudgetTooSmall) as refusal:
        TierState(a_config(device=device), experts, engines(f=None))
    assert says in str(refusal.value)


def test_a_pin_in_an_engine_of_one_expert_is_refused_when_others_would_never_load() -> None:
    with pytest.raises(BudgetTooSmall, match="could never load"):
        TierState(a_config(device=50), [an_expert("a", pinned=True), an_expert("b")], engines(f=1))


def test_an_engine_of_one_is_stopped_for_another_family() -> None:
    experts = [an_expert("a", family="plain"), an_expert("b", family="f")]
    script = Script(TierState(a_config(device=15), experts, engines(plain=1, f=None)))
    (start,) = script.feed(Opened(script.now()))
    assert start == StartEngine("plain", "a", "disk")
    assert script.done(start) == [], "nobody asks for the other one"
    (stop,) = script.ask("b")
    assert stop == StopEngine("plain", "eviction", "b")
    assert script.done(stop) == [StartEngine("f", "b", "disk")]
    script.settle([StartEngine("f", "b", "disk")])
    assert [(engine.state, engine.rests) for engine in script.state.status.engines()] == [
        ("stopped", True),
        ("ready", False),
    ]
    script.release(1)
    actions = script.settle(script.ask("a"))
    assert actions == [
        Move("b", "device", "disk", "eviction", "a"), StartEngine("plain", "a", "disk"), Grant(2)
    ]  # fmt: skip


def test_an_engine_of_several_may_have_pins_as_long_as_there_is_a_place_left() -> None:
    script = opened("abc", device=30, limit=2, pinned="a")
    script.settle(script.ask("b"))
    script.release(1)
    (load,) = script.ask("c")
    assert load == Move("c", "disk", "device", "ticket", replaces="b")
    experts = [an_expert(name, pinned=name in "ab") for name in "abc"]
    with pytest.raises(BudgetTooSmall, match=r"holds 2 at a time of its 3 experts, and 2 pinned"):
        TierState(a_config(device=50), experts, engines(f=2))


def test_an_engine_of_several_makes_room_although_it_is_not_full() -> None:
    script = opened("abc", device=20, limit=3)
    script.settle(script.ask("b"))
    actions = script.settle(script.ask("c"))
    assert actions[0] == Move("a", "device", "disk", "eviction", "c")
    assert actions[-1] == Grant(2)


def test_what_an_engine_holds_whoever_is_resident_is_in_the_budget() -> None:
    experts = [an_expert("a"), an_expert("b")]
    script = Script(TierState(a_config(device=30), experts, [Family("f", None, 15)]))
    script.settle(script.feed(Opened(script.now())))
    assert script.state.status.tiers()[0].used_bytes == 15 + 10
    actions = script.settle(script.ask("b"))
    assert Move("a", "device", "disk", "eviction", "b") in actions, "both would be over the budget"
    with pytest.raises(BudgetTooSmall, match="needs 10 bytes beside 25 bytes that never leave"):
        TierState(a_config(device=30), experts, [Family("f", None, 25)])


def test_an_expert_without_weights_says_nothing_about_the_size_of_others() -> None:
    experts = [an_expert("base", size=0), an_expert("a"), an_expert("b")]
    script = Script(TierState(a_config(device=25), experts, engines(f=None)))
    (start,) = script.feed(Opened(script.now()))
    script.done(start, size=0)
    script.settle(script.ask("a"))
    script.settle(script.ask("b"))
    assert script.state.status.tiers()[0].used_bytes == 20
    script.ask("base")
    assert script.where("base") == "device"


def test_checkpoints_over_the_disk_budget_are_refused() -> None:
    with pytest.raises(BudgetTooSmall, match=r"tiers\.disk"):
        TierState(a_config(device=50, disk=15), [an_expert("a"), an_expert("b")], engines(f=None))


def test_the_state_shows_itself_in_one_line() -> None:
    script = opened("ab", device=10)
    script.ask("a")
    script.ask("b")
    shown = repr(script.state)
    assert shown.startswith("<TierState device=<Ledger 10/10 bytes, 0 leaving> host=<Ledger 0/0 bytes")
    assert "victims=[a for b]" in shown
    assert "<a device=present host=absent leases=1 waiting=0>" in shown
    assert "\n" not in shown


def test_a_broken_invariant_is_shown_with_the_state() -> None:
    script = opened("ab", device=10)
    script.ask("a")
    script.state._records.device.parts[0].used = 3
    with pytest.raises(AssertionError, match="does not add up in <TierState"):
        script.state.check()


def on_gpus(*gpus: int) -> Script:
    """A family on GPU 0, one on GPU 1 and one divided over both, of experts that take 10 bytes, or 5 and 5;
    each GPU has room for so many bytes."""
    families = [
        Family("zero", None, 0, (0,)), Family("one", None, 0, (1,)), Family("both", None, 0, (0, 1))
    ]  # fmt: skip
    members = [
        an_expert(f"{family.name}-{letter}", family=family.name) for family in families for letter in "ab"
    ]
    tree = {"devices": dict(enumerate(gpus)), "min_residency_s": 0, "max_queue": 100, "policy": "lru"}
    script = Script(TierState(TiersConfig.model_validate(tree), members, families))
    script.settle(script.feed(Opened(script.now())))
    return script


def moves(actions: list[Action]) -> list[tuple[str, str]]:
    return [(action.expert, action.target) for action in actions if isinstance(action, Move)]


def used(script: Script) -> dict[int, int]:
    return {number: part.used for number, part in script.state._records.device.parts.items()}


def test_an_expert_that_is_divided_is_charged_to_every_gpu_that_it_is_on() -> None:
    script = on_gpus(30, 30)
    assert used(script) == {0: 15, 1: 15}
    script.settle(script.ask("both-b"))
    assert used(script) == {0: 20, 1: 20}


def test_only_experts_on_the_gpu_that_needs_room_make_it() -> None:
    script = on_gpus(20, 40)
    assert moves(script.settle(script.ask("one-b"))) == [("one-b", "device")], "GPU 1 has room"
    for ticket, expert in ((2, "both-a"), (3, "zero-a")):  # which leaves one-a as the one used least recently
        script.ask(expert)
        script.release(ticket)
    assert moves(script.settle(script.ask("zero-b"))) == [("both-a", "disk"), ("zero-b", "device")]


def test_an_odd_expert_is_charged_alike_on_every_gpu() -> None:
    script = on_gpus(30, 30)
    (load,) = script.ask("both-b")
    script.done(load, size=11)
    assert used(script) == {0: 21, 1: 21}


def test_room_on_one_gpu_is_no_room_on_another() -> None:
    with pytest.raises(BudgetTooSmall, match=r"zero-a needs 10 bytes, over tiers\.devices\.0 of 9 bytes"):
        on_gpus(9, 100)


def test_an_engine_on_a_gpu_without_a_budget_is_refused() -> None:
    tree = {"devices": {0: 100, 1: 100}}
    config = TiersConfig.model_validate(tree)
    with pytest.raises(BudgetTooSmall, match=r"family f computes on GPU 2, for which tiers\.devices has no"):
        TierState(config, [an_expert("a")], [Family("f", None, 0, (2,))])
    with pytest.raises(BudgetTooSmall, match=r"give families\.f\.devices"):
        TierState(config, [an_expert("a")], [Family("f", None)])


def test_one_number_or_one_for_each_gpu() -> None:
    assert TiersConfig.model_validate({"device": "1kB"}).device_parts == {0: 1000}
    assert TiersConfig.model_validate({"devices": {"2": "1kB", 3: 5}}).device == 1005
    with pytest.raises(ValidationError, match="device or devices"):
        TiersConfig.model_validate({"devices": {0: 10}, "device": 11})
