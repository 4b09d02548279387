"""What operators order, what time brings about, and who comes and goes while the tiers serve."""

import math

import pytest

from memory_tiers.actions import (
    AbortMove,
    Forget,
    Grant,
    Move,
    Reject,
    StartEngine,
    StopEngine,
)
from memory_tiers.errors import BudgetTooSmall, OrderRefused
from memory_tiers.events import (
    DrainRequested,
    ExpertChanged,
    Foreseen,
    LoadCancelled,
    MoveFailed,
    Opened,
    OrderGiven,
    RestartDue,
    Revised,
    TimePassed,
)
from memory_tiers.members import Family, Revision
from memory_tiers.state.state_machine import TierState
from memory_tiers.status import ExpertStatus
from memory_tiers.tiers import Tier
from tests.memory_tiers.state.script import Script, a_config, an_expert, engines, opened


def order(script: Script, expert: str, tier: Tier) -> list[object]:
    script.state.orders.may_order(expert, tier)
    return [*script.feed(OrderGiven(expert, tier, script.now()))]


def test_an_operator_loads_an_expert_that_nobody_asked_for() -> None:
    script = opened("ab", device=20)
    (load,) = order(script, "b", "device")
    assert load == Move("b", "disk", "device", "operator")
    script.done(load)
    assert script.where("b") == "device"
    assert order(script, "b", "device") == [], "it is there"


def test_an_expert_that_is_demoted_keeps_serving_whom_it_serves_and_nobody_else() -> None:
    script = opened("ab", device=20)
    script.ask("a")
    assert order(script, "a", "host") == []
    assert script.ask("a") == [], "it waits until the expert has left"
    (eviction,) = script.release(1)
    assert eviction == Move("a", "device", "disk", "operator")
    assert script.done(eviction) == [Move("a", "disk", "device", "ticket")]
    script.settle([Move("a", "disk", "device", "ticket")])
    assert (script.where("a"), script.state.status.counts.leases) == ("device", 1)


def test_an_order_to_the_host_reads_from_disk_and_one_to_disk_gives_the_copy_back() -> None:
    script = opened("ab", device=10, host=20)
    (read,) = order(script, "b", "host")
    assert read == Move("b", "disk", "host", "operator")
    script.done(read)
    assert (script.where("b"), script.on_host("b")) == ("host", 10)
    assert script.settle(script.feed(OrderGiven("b", "disk", script.now()))) == [
        Move("b", "host", "disk", "operator")
    ]
    assert script.where("b") == "disk"


def test_an_order_from_the_device_to_disk_leaves_no_copy() -> None:
    script = opened("ab", device=20, host=20)
    script.settle(script.ask("b"))
    script.release(1)
    moves = script.settle(script.feed(OrderGiven("b", "disk", script.now())))
    assert moves == [Move("b", "device", "host", "operator"), Move("b", "host", "disk", "operator")]
    assert all(status.ordered is None for status in script.state.status.experts())


def test_orders_that_cannot_be_carried_out_are_refused() -> None:
    script = opened("ab", device=20, host=5, pinned="a")
    with pytest.raises(OrderRefused, match="expert a is pinned to the device: unpin it first"):
        script.state.orders.may_order("a", "host")
    with pytest.raises(OrderRefused, match=r"10 bytes, over tiers\.host of 5"):
        script.state.orders.may_order("b", "host")
    with pytest.raises(OrderRefused, match="there is no expert z"):
        script.state.orders.may_order("z", "device")
    with pytest.raises(OrderRefused, match="expert b is not being loaded"):
        script.state.orders.may_cancel("b")


def test_cancelling_a_load_rejects_who_waits_and_ends_the_read_from_disk() -> None:
    script = opened("ab", device=10, host=20)
    (read,) = script.ask("b")
    assert isinstance(read, Move)
    script.state.orders.may_cancel("b")
    rejection, abort = script.feed(LoadCancelled("b", script.now()))
    assert isinstance(rejection, Reject)
    assert (rejection.ticket, rejection.reason) == (1, "load_cancelled")
    assert abort == AbortMove(read)
    script.feed(MoveFailed(read, "aborted", script.now()))
    assert (script.where("b"), script.on_host("b")) == ("disk", 0)
    assert script.settle(script.ask("b"))[-1] == Grant(2), "the next request tries again"


def test_a_cancelled_load_that_an_engine_had_begun_gives_its_memory_back() -> None:
    script = opened("ab", device=20)
    (load,) = script.ask("b")
    script.feed(LoadCancelled("b", script.now()))
    assert script.done(load) == [Move("b", "device", "disk", "operator")]


def test_who_asks_again_for_a_cancelled_load_keeps_it() -> None:
    script = opened("ab", device=20)
    (load,) = script.ask("b")
    script.feed(LoadCancelled("b", script.now()))
    script.ask("b")
    assert script.done(load) == [Grant(2)]


def test_who_waits_again_for_a_read_that_is_being_aborted_has_it_read_again() -> None:
    script = opened("ab", device=10, host=20)
    (read,) = script.ask("b")
    assert isinstance(read, Move)
    script.feed(LoadCancelled("b", script.now()))
    script.ask("b")
    assert script.feed(MoveFailed(read, "aborted", script.now())) == [Move("b", "disk", "host", "ticket")]


def status(script: Script, expert: str) -> ExpertStatus:
    return next(status for status in script.state.status.experts() if status.expert == expert)


def test_a_cancelled_read_that_was_ordered_is_not_begun_again() -> None:
    script = opened("ab", device=10, host=20)
    (read,) = order(script, "b", "host")
    assert isinstance(read, Move)
    assert script.feed(LoadCancelled("b", script.now())) == [AbortMove(read)]
    assert script.fail(read, "aborted") == []
    assert (script.where("b"), status(script, "b").ordered) == ("disk", None)


def test_an_order_whose_load_fails_is_given_up_and_says_why_until_the_next_one() -> None:
    script = opened("ab", device=20)
    (load,) = order(script, "b", "device")
    assert isinstance(load, Move)
    assert status(script, "b").ordered == "device"
    script.fail(load)
    assert status(script, "b").ordered is None
    assert status(script, "b").failure == "expert b could not be loaded: bad luck"
    order(script, "b", "device")
    assert (status(script, "b").ordered, status(script, "b").failure) == ("device", "")


def test_an_order_for_an_engine_that_does_not_start_is_given_up_and_says_why() -> None:
    script = Script(TierState(a_config(device=20), [an_expert("a")], engines(f=None)))
    (start,) = script.feed(Opened(script.now()))
    order(script, "a", "device")
    (again,) = script.fail(start)
    script.fail(again)
    assert status(script, "a").ordered is None
    assert status(script, "a").failure == "the engine of family f does not start: bad luck"


def test_an_expert_that_was_lost_with_its_engine_and_is_ordered_comes_though_others_fill_its_place() -> None:
    script = opened("abc", device=20)
    script.settle(script.ask("b"))
    script.release(1)
    (start,) = script.die()
    assert isinstance(start, StartEngine)
    script.ask("c")
    order(script, "a", "device")
    moves = script.settle(script.done(start))
    assert Move("a", "disk", "device", "operator") in moves
    assert status(script, "a").ordered is None


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


def foreseen(script: Script, **chances: float) -> list[object]:
    return [*script.feed(Foreseen(tuple(chances.items()), script.now()))]


def test_what_is_likely_is_prefetched_to_the_host_and_then_to_the_device() -> None:
    script = opened("abcd", device=40, host=40, prefetch_share=0.5)
    (read,) = foreseen(script, b=0.6, c=0.02)
    assert read == Move("b", "disk", "host", "prefetch")
    assert isinstance(read, Move)
    (load,) = script.done(read)
    assert load == Move("b", "host", "device", "prefetch")
    script.done(load)
    assert script.ask("b") == [Grant(1)]
    assert script.state.status.prefetches == {("host", "used"): 1, ("device", "used"): 1}


def test_a_prefetch_takes_no_more_than_its_share_of_the_time() -> None:
    script = opened("abcd", device=80, prefetch_share=0.25)
    (load,) = foreseen(script, b=0.6)
    assert isinstance(load, Move)
    script.wait(10)
    script.done(load)
    assert foreseen(script, c=0.9) == [], "a quarter of the time: three times as long it is not its turn"
    assert script.state.deadline is not None
    assert Move("c", "disk", "device", "prefetch") in script.wait(40)


def test_a_read_from_disk_counts_as_a_move_until_it_ends() -> None:
    script = opened("ab", device=20, host=80)
    assert script.state.status.counts.moves == 0
    (read,) = script.ask("b")
    assert script.state.status.counts.moves == 1
    script.settle(script.done(read))
    assert script.state.status.counts.moves == 0


def test_reads_of_prefetches_take_no_more_than_their_share_of_the_time_either() -> None:
    script = opened("abcd", device=10, host=80, prefetch_share=0.25)
    (read,) = foreseen(script, b=0.6)
    assert isinstance(read, Move)
    script.wait(10)
    script.done(read)
    assert foreseen(script, c=0.9) == []
    assert Move("c", "disk", "host", "prefetch") in script.wait(40)


def test_nothing_is_prefetched_while_somebody_waits_or_for_an_equal() -> None:
    script = opened("abc", device=10, prefetch_share=0.5, policy="cost")
    script.ask("a")
    script.ask("b")
    assert foreseen(script, c=0.9) == []
    script = opened("abc", device=10, prefetch_share=0.5, policy="cost")
    script.ask("a")
    script.release(1)
    assert foreseen(script, c=0.9) == [], "it has not been used twice as much as the one that would leave"


def test_what_is_foreseen_takes_the_place_of_what_is_used_least() -> None:
    script = opened("abc", device=20, prefetch_share=0.5, policy="cost")
    for ticket, expert in enumerate("aaab", start=1):
        script.settle(script.ask(expert))
        script.release(ticket)
    assert foreseen(script, c=1.0) == [Move("b", "device", "disk", "eviction", "c")]


def test_a_ticket_does_not_wait_for_a_prefetch_to_be_read() -> None:
    script = opened("abc", device=10, host=40, prefetch_share=0.5)
    (read,) = foreseen(script, c=0.9)
    assert isinstance(read, Move)
    assert script.ask("b") == [AbortMove(read)]
    assert script.feed(MoveFailed(read, "aborted", script.now())) == [Move("b", "disk", "host", "ticket")]
    assert script.state.status.prefetches == {("host", "wasted"): 1}


def test_a_pin_loads_at_once_and_an_unpinned_expert_may_leave() -> None:
    script = opened("ab", device=20)
    pinned = script.state.configured.member("b", pinned=True)
    script.state.orders.may_change(pinned)
    (load,) = script.feed(ExpertChanged(pinned, script.now()))
    assert load == Move("b", "disk", "device", "preload")
    script.done(load)
    script.feed(ExpertChanged(script.state.configured.member("b", pinned=False), script.now()))
    assert order(script, "b", "disk") == [Move("b", "device", "disk", "operator")]


def test_a_pin_is_refused_by_what_experts_were_measured_to_take_and_not_by_their_weights() -> None:
    script = opened("abc", device=16)
    (eviction,) = script.ask("b")
    (load,) = script.done(eviction)
    script.done(load, size=6)
    script.release(1)
    script.state.orders.may_change(script.state.configured.member("b", pinned=True))


def test_a_pin_that_leaves_no_room_for_others_is_refused_with_the_numbers() -> None:
    script = opened("ab", device=15)
    with pytest.raises(BudgetTooSmall, match="needs 10 bytes beside 10 bytes that never leave"):
        script.state.orders.may_change(script.state.configured.member("b", pinned=True))


def revise(script: Script, revision: Revision) -> list[object]:
    script.state.revisions.may_revise(revision)
    return [*script.feed(Revised(revision, script.now()))]


def test_an_expert_that_is_added_can_be_asked_for() -> None:
    script = opened("a", device=20)
    assert revise(script, Revision(added=(an_expert("b"),))) == []
    assert script.settle(script.ask("b"))[-1] == Grant(1)


def test_an_expert_of_a_new_family_brings_its_engine() -> None:
    script = opened("a", device=20)
    added = an_expert("b", family="g")
    assert revise(script, Revision(added=(added,), families=(Family("g", 1),))) == [
        StartEngine("g", "b", "disk")
    ]


def test_what_a_new_engine_holds_is_charged_from_its_start() -> None:
    script = opened("ab", device=40)
    script.settle(script.ask("a"))
    script.settle(script.ask("b"))
    actions = revise(script, Revision((an_expert("c", family="g"),), families=(Family("g", None, 20),)))
    assert actions == [], "there are leases on both"
    assert script.state.status.tiers()[0].used_bytes == 20
    seen = script.settle(script.release(1))
    assert [type(action) for action in seen] == [Move, StartEngine]
    assert script.state.status.tiers()[0].used_bytes == 40


def test_a_removed_expert_serves_who_has_asked_and_then_is_forgotten() -> None:
    script = opened("ab", device=10, host=20)
    script.ask("a")
    (read,) = script.ask("b")
    script.done(read)
    assert revise(script, Revision(removed=("b",))) == []
    (refusal,) = script.ask("b")
    assert isinstance(refusal, Reject)
    assert refusal.reason == "unknown_expert"
    assert Grant(2) in script.settle(script.release(1))
    with pytest.raises(OrderRefused, match="expert b is still leaving: try again when it has left"):
        script.state.revisions.may_revise(Revision(added=(an_expert("b"),)))
    actions = script.settle(script.release(2))
    assert actions == [
        Move("b", "device", "host", "removed"), Move("b", "host", "disk", "removed"), Forget("b")
    ]  # fmt: skip
    assert [status.expert for status in script.state.status.experts()] == ["a"]
    assert not script.state.status.knows("b")
    revise(script, Revision(added=(an_expert("b", size=5),)))
    assert script.settle(script.ask("b"))[-1] == Grant(4)


@pytest.mark.parametrize("waited_for", [False, True])
def test_an_expert_that_is_removed_before_it_came_comes_for_nobody(waited_for: bool) -> None:
    script = opened("ab", device=10, host=20)
    script.ask("a")
    (read,) = order(script, "b", "device")
    assert isinstance(read, Move)
    if waited_for:
        script.ask("b")
    revise(script, Revision(removed=("b",)))
    if waited_for:
        script.cancel(2)
    moves = script.settle([read, *script.release(1)])
    assert not any(isinstance(move, Move) and move.target == "device" for move in moves)
    assert not script.state.status.knows("b")


@pytest.mark.parametrize("waited_for", [False, True])
def test_an_expert_whose_pin_ends_before_it_came_comes_for_nobody(waited_for: bool) -> None:
    script = opened("abc", device=20, host=40)
    script.ask("a")
    script.settle(script.ask("c"))
    (read,) = revise(script, Revision(changed=(an_expert("b", pinned=True),)))
    assert isinstance(read, Move)
    if waited_for:
        script.ask("b")
    revise(script, Revision(changed=(an_expert("b"),)))
    if waited_for:
        script.cancel(3)
    moves = script.settle([read, *script.release(1), *script.release(2)])
    assert not any(isinstance(move, Move) and move.target == "device" for move in moves)


def test_a_removed_expert_that_cannot_be_given_back_is_tried_again() -> None:
    script = opened("ab", device=20, host=20)
    script.settle(script.ask("b"))
    script.release(1)
    (unload,) = revise(script, Revision(removed=("b",)))
    assert isinstance(unload, Move)
    assert script.fail(unload) == [], "not at once"
    script.at += 10
    assert script.feed(TimePassed(script.at)) == [unload]
    (drop,) = script.done(unload)
    assert drop == Move("b", "host", "disk", "removed")
    assert isinstance(drop, Move)
    assert script.fail(drop) == []
    assert script.wait(10) == [drop, Forget("b")]


def test_an_engine_whose_last_expert_is_removed_is_stopped() -> None:
    experts = [an_expert("a"), an_expert("b", family="g")]
    script = Script(TierState(a_config(device=40), experts, engines(f=None, g=None)))
    script.settle(script.feed(Opened(script.now())))
    (unload,) = script.feed(Revised(Revision(removed=("b",)), script.now()))
    forget, stop = script.done(unload)
    assert (forget, stop) == (Forget("b"), StopEngine("g", "idle"))
    assert [engine.rests for engine in script.state.status.engines()] == [False, True], "nobody is missing it"
    again = Revision(added=(an_expert("c", family="g"),), families=(Family("g", None),))
    with pytest.raises(OrderRefused, match="family g is still there: try again when it has stopped"):
        script.state.revisions.may_revise(again)
    script.done(stop)
    assert [engine.family for engine in script.state.status.engines()] == ["f"]
    assert revise(script, again) == [StartEngine("g", "c", "disk")]


def test_one_family_takes_the_place_of_another_while_that_still_serves() -> None:
    families = [Family("f", None, 15)]
    script = Script(TierState(a_config(device=30), [an_expert("a")], families))
    script.settle(script.feed(Opened(script.now())))
    script.ask("a")
    other = Revision((an_expert("b", family="g"),), ("a",), families=(Family("g", None, 15),))
    assert revise(script, other) == []
    assert script.ask("b") == [], "it waits for the memory that the other engine will give back"
    seen = script.settle(script.release(1))
    assert [action for action in seen if not isinstance(action, Move)] == [
        Forget("a"), StopEngine("f", "idle"), StartEngine("g", "b", "disk"), Grant(2)
    ]  # fmt: skip


def test_several_changes_are_one_and_only_their_end_has_to_fit() -> None:
    script = opened("abc", device=20, pinned="a")
    revision = Revision(
        added=(an_expert("d", pinned=True),),
        removed=("a",),
        changed=(an_expert("b", default=True),),
        device=25,
    )
    with pytest.raises(BudgetTooSmall, match="beside 20 bytes that never leave"):
        script.state.revisions.may_revise(Revision(added=revision.added))
    (unload,) = revise(script, revision)
    assert unload == Move("a", "device", "disk", "removed")
    assert isinstance(unload, Move)
    assert script.done(unload) == [Forget("a"), Move("d", "disk", "device", "preload")]
    assert {status.expert for status in script.state.status.experts()} == {"b", "c", "d"}
    assert script.state.status.tiers()[0].capacity_bytes == 25


def test_a_revision_that_cannot_be_had_changes_nothing() -> None:
    script = opened("ab", device=20)
    before = repr(script.state)
    for revision, says in [
        (Revision(removed=("b", "z")), "there is no expert z"),
        (Revision(added=(an_expert("a"),)), "expert a is there already"),
        (Revision(removed=("a",), added=(an_expert("a"),)), "expert a is there already"),
        (Revision(changed=(an_expert("a", size=11),)), "expert a has other weights, or another family"),
        (Revision(added=(an_expert("c"),), device=9), r"needs 10 bytes, over tiers\.device of 9 bytes"),
        (Revision(added=(an_expert("c", size=21),), removed=("b",)), "expert c needs 21 bytes"),
    ]:
        with pytest.raises((OrderRefused, BudgetTooSmall), match=says):
            script.state.revisions.may_revise(revision)
    script.feed(DrainRequested(script.now()))
    with pytest.raises(OrderRefused, match="shutting down"):
        script.state.revisions.may_revise(Revision(removed=("b",)))
    assert repr(script.state) == before.replace("<TierState", "<TierState closing")


def test_smaller_budgets_make_experts_leave_both_tiers() -> None:
    script = opened("abc", device=30, host=30)
    for ticket, expert in enumerate("bc", 1):
        script.settle(script.ask(expert))
        script.release(ticket)
    smaller = Revision(device=10, host=10)
    script.state.revisions.may_revise(smaller)
    moves = script.settle(script.feed(Revised(smaller, script.now())))
    assert {action.reason for action in moves if isinstance(action, Move)} == {"over_budget"}
    assert [(tier.used_bytes, tier.capacity_bytes) for tier in script.state.status.tiers()][:2] == [
        (10, 10),
        (10, 10),
    ]


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
