"""Gives operators' orders: where an expert shall be, that a load ends, and pins."""

import pytest

from memory_tiers.actions import (
    AbortMove,
    Forget,
    Grant,
    Move,
    Reject,
    StartEngine,
)
from memory_tiers.errors import BudgetTooSmall, OrderRefused
from memory_tiers.events import (
    ExpertChanged,
    LoadCancelled,
    MoveFailed,
    Opened,
    OrderGiven,
)
from memory_tiers.members import Family, Revision
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import TiersConfig
from tests.memory_tiers.state.script import Script, a_config, an_expert, engines, opened


def test_an_operator_loads_an_expert_that_nobody_asked_for() -> None:
    script = opened("ab", device=20)
    (load,) = script.order("b", "device")
    assert load == Move("b", "disk", "device", "operator")
    script.done(load)
    assert script.where("b") == "device"
    assert script.order("b", "device") == [], "it is there"


def test_an_expert_that_is_demoted_keeps_serving_whom_it_serves_and_nobody_else() -> None:
    script = opened("ab", device=20)
    script.ask("a")
    assert script.order("a", "host") == []
    assert script.ask("a") == [], "it waits until the expert has left"
    (eviction,) = script.release(1)
    assert eviction == Move("a", "device", "disk", "operator")
    assert script.done(eviction) == [Move("a", "disk", "device", "ticket")]
    script.settle([Move("a", "disk", "device", "ticket")])
    assert (script.where("a"), script.state.status.counts.leases) == ("device", 1)


def test_an_order_to_the_host_reads_from_disk_and_one_to_disk_gives_the_copy_back() -> None:
    script = opened("ab", device=10, host=20)
    (read,) = script.order("b", "host")
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


def test_a_cancelled_read_that_was_ordered_is_not_begun_again() -> None:
    script = opened("ab", device=10, host=20)
    (read,) = script.order("b", "host")
    assert isinstance(read, Move)
    assert script.feed(LoadCancelled("b", script.now())) == [AbortMove(read)]
    assert script.fail(read, "aborted") == []
    assert (script.where("b"), script.status("b").ordered) == ("disk", None)


def test_an_order_whose_load_fails_is_given_up_and_says_why_until_the_next_one() -> None:
    script = opened("ab", device=20)
    (load,) = script.order("b", "device")
    assert isinstance(load, Move)
    assert script.status("b").ordered == "device"
    script.fail(load)
    assert script.status("b").ordered is None
    assert script.status("b").failure == "expert b could not be loaded: bad luck"
    script.order("b", "device")
    assert (script.status("b").ordered, script.status("b").failure) == ("device", "")


def test_an_order_for_an_engine_that_does_not_start_is_given_up_and_says_why() -> None:
    script = Script(TierState(a_config(device=20), [an_expert("a")], engines(f=None)))
    (start,) = script.feed(Opened(script.now()))
    script.order("a", "device")
    (again,) = script.fail(start)
    script.fail(again)
    assert script.status("a").ordered is None
    assert script.status("a").failure == "the engine of family f does not start: bad luck"


def test_an_expert_that_was_lost_with_its_engine_and_is_ordered_comes_though_others_fill_its_place() -> None:
    script = opened("abc", device=20)
    script.settle(script.ask("b"))
    script.release(1)
    (start,) = script.die()
    assert isinstance(start, StartEngine)
    script.ask("c")
    script.order("a", "device")
    moves = script.settle(script.done(start))
    assert Move("a", "disk", "device", "operator") in moves
    assert script.status("a").ordered is None


def test_a_pin_loads_at_once_and_an_unpinned_expert_may_leave() -> None:
    script = opened("ab", device=20)
    pinned = script.state.configured.member("b", pinned=True)
    script.state.orders.may_change(pinned)
    (load,) = script.feed(ExpertChanged(pinned, script.now()))
    assert load == Move("b", "disk", "device", "preload")
    script.done(load)
    script.feed(ExpertChanged(script.state.configured.member("b", pinned=False), script.now()))
    assert script.order("b", "disk") == [Move("b", "device", "disk", "operator")]


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


def test_an_order_to_where_the_expert_is_or_fits_to_the_byte_is_carried_out() -> None:
    script = opened("ab", device=20, host=10, pinned="a")
    assert script.order("a", "device") == [], "it is there, as its pin says"
    assert script.status("a").ordered is None
    assert script.order("b", "host") == [Move("a", "host", "disk", "eviction", "b")]


def test_an_order_down_forgets_why_a_load_failed() -> None:
    script = opened("ab", device=20, host=20)
    (read,) = script.ask("b")
    script.fail(read, "truncated")
    assert script.status("b").failure == "expert b could not be read: truncated"
    script.order("b", "disk")
    assert script.status("b").failure == ""


def test_a_load_that_cannot_be_cancelled_is_refused_and_the_reason_is_given() -> None:
    script = opened("ab", device=10)
    script.ask("a")
    script.ask("b")
    script.ask("a")
    with pytest.raises(OrderRefused, match=r"^expert a is not being loaded$"):
        script.cancel_load("a")  # it is there, and a ticket waits until it has left for b
    script = opened("ab", device=20, pinned="b")
    with pytest.raises(OrderRefused, match=r"^expert b is pinned to the device: unpin it first$"):
        script.cancel_load("b")


def test_who_waits_for_a_load_that_is_cancelled_is_told_by_whom() -> None:
    script = opened("ab", device=20)
    script.ask("b")
    assert script.cancel_load("b") == [
        Reject(1, "load_cancelled", "the load of expert b was cancelled by an operator")
    ]


def test_a_cancelled_load_ends_no_read_of_another_expert_and_its_own_once() -> None:
    script = opened("abc", device=40, host=40)
    (read,) = script.ask("b")
    (load,) = script.done(read)
    (other,) = script.ask("c")
    assert other == Move("c", "disk", "host", "ticket")
    (rejection,) = script.cancel_load("b")
    assert isinstance(rejection, Reject)
    rejection, abort = script.cancel_load("c")
    assert abort == AbortMove(other)
    script.ask("c")
    (rejection,) = script.cancel_load("c")
    assert isinstance(rejection, Reject)
    assert script.fail(other, "aborted") == []
    assert script.done(load) == [Move("b", "device", "host", "operator")]


def test_a_removed_expert_whose_load_was_cancelled_leaves_every_tier() -> None:
    script = opened("ab", device=20, host=40)
    (read,) = script.ask("b")
    (load,) = script.done(read)
    script.cancel_load("b")
    script.revise(Revision(removed=("b",)))
    assert script.settle([load])[1:] == [
        Move("b", "device", "host", "removed"), Move("b", "host", "disk", "removed"), Forget("b")
    ]  # fmt: skip


def test_a_default_expert_that_was_sent_down_comes_back_when_all_is_quiet() -> None:
    experts = [an_expert("a"), an_expert("b", default=True)]
    script = Script(TierState(a_config(20, return_to_default_s=60.0), experts, engines(f=None)))
    script.settle(script.feed(Opened(script.now())))
    script.settle(script.order("b", "disk"))
    script.settle(script.ask("a"))
    script.release(1)
    assert script.wait(100) == [Move("b", "disk", "device", "preload")]


def test_a_copy_that_is_given_back_tells_how_long_it_was_there_and_what_it_held() -> None:
    script = opened("ab", device=10, host=20)
    script.settle(script.order("b", "host"))
    script.at += 5 + 1 / 3
    (drop,) = script.order("b", "disk")
    assert isinstance(drop, Move)
    assert (drop.age_s, drop.gives_back) == (6.333333, 10)


def test_a_pin_leaves_the_rest_of_how_an_expert_is_configured() -> None:
    experts = [an_expert("a"), an_expert("b", default=True, ttl_s=5.0), an_expert("c", ttl_s=7.0)]
    script = Script(TierState(a_config(40), experts, engines(f=None)))
    for name in "bc":
        script.feed(ExpertChanged(script.state.configured.member(name, pinned=True), script.now()))
    told = [script.status(name) for name in "bc"]
    assert [(each.pinned, each.default, each.ttl_s) for each in told] == [
        (True, True, 5.0),
        (True, False, 7.0),
    ]


def test_a_pin_for_which_an_engine_has_too_few_places_is_refused() -> None:
    script = opened("abc", device=100, limit=2, pinned="a")
    with pytest.raises(BudgetTooSmall, match=r"^family f holds 2 at a time of its 3 experts, and 2 pinned: "):
        script.state.orders.may_change(script.state.configured.member("b", pinned=True))


def test_a_pin_is_judged_by_what_the_expert_itself_was_measured_to_take() -> None:
    script = opened("abc", device=16)
    (eviction,) = script.ask("b")
    (load,) = script.done(eviction)
    script.done(load, size=6)
    (load,) = script.ask("c")
    script.done(load, size=10)
    script.state.orders.may_change(script.state.configured.member("b", pinned=True))
    with pytest.raises(BudgetTooSmall, match="expert c needs 10 bytes beside 10 bytes that never leave"):
        script.state.orders.may_change(script.state.configured.member("a", pinned=True))


def test_cancelling_the_load_onto_one_engine_leaves_the_order_to_leave_another() -> None:
    families = [Family("f", None, 0, (0,)), Family("f#2", None, 0, (1,), "f")]
    config = TiersConfig.model_validate({"devices": {0: 20, 1: 20}, "host": 100, "min_residency_s": 0})
    script = Script(TierState(config, [an_expert("a"), an_expert("b")], families))
    script.settle(script.feed(Opened(script.now())))
    pending = [action for _ in range(9) for action in script.ask("a")]
    (load,) = [action for action in pending if isinstance(action, Move)]
    assert (load.expert, load.target) == ("a#2", "device"), "it is in demand"
    script.order("a", "host")
    script.cancel_load("a")
    script.settle([load])
    for ticket in range(1, 10):
        script.settle(script.release(ticket))
    assert script.where("a") == "host"


@pytest.mark.parametrize("begun", [False, True])
def test_an_order_down_takes_the_place_of_an_order_up(begun: bool) -> None:
    script = opened("ab", device=20 if begun else 10)
    script.ask("a")
    moves = script.order("b", "device")
    assert len(moves) == begun
    script.order("b", "disk")
    moves = script.settle([*moves, *script.release(1)])
    assert [move for move in moves if isinstance(move, Move) and move.reason == "preload"] == []
    assert (script.where("b"), script.status("b").ordered) == ("disk", None)


def test_a_load_that_somebody_waits_for_outlives_an_order_down() -> None:
    script = opened("ab", device=20)
    (load,) = script.ask("b")
    script.order("b", "disk")
    assert script.done(load) == [Grant(1)]
    assert script.status("b").ordered is None
    assert script.release(1) == []


def test_an_order_up_outlives_another_time_to_live() -> None:
    script = opened("ab", device=10)
    script.ask("a")
    assert script.order("b", "device") == [], "there is a lease in its place"
    script.revise(Revision(changed=(an_expert("b", ttl_s=50.0),)))
    script.settle(script.release(1))
    assert (script.where("b"), script.status("b").ordered) == ("device", None)
