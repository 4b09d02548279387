"""Carries out orders to other tiers, step by step, while other moves are under way."""

import pytest

from memory_tiers.actions import AbortMove, Action, Move
from memory_tiers.events import Opened, OrderGiven
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import Tier
from tests.memory_tiers.state.script import Script, a_config, an_expert, engines, opened


def order(script: Script, expert: str, tier: Tier) -> list[Action]:
    return script.feed(OrderGiven(expert, tier, script.now()))


def ordered(script: Script, expert: str) -> Tier | None:
    return next(each.ordered for each in script.state.status.experts() if each.expert == expert)


def to_host(expert: str) -> Move:
    return Move(expert, "disk", "host", "operator")


def test_an_order_to_disk_ends_a_read_from_disk() -> None:
    script = opened("ab", device=20, host=20)
    (read,) = order(script, "b", "host")
    assert order(script, "b", "disk") == [AbortMove(to_host("b"))]
    assert ordered(script, "b") == "disk"
    assert script.fail(read, "aborted") == []
    assert (script.where("b"), ordered(script, "b")) == ("disk", None)


def test_an_order_lasts_until_the_copy_is_there() -> None:
    script = opened("ab", device=20, host=20)
    (read,) = order(script, "b", "host")
    script.ask("a")
    script.release(1)
    assert ordered(script, "b") == "host"
    script.done(read)
    assert (script.where("b"), ordered(script, "b")) == ("host", None)


def test_a_copy_that_is_being_dropped_is_read_again_if_it_is_ordered_meanwhile() -> None:
    script = opened("ab", device=20, host=20)
    script.settle(order(script, "b", "host"))
    (drop,) = order(script, "b", "disk")
    assert order(script, "b", "host") == []
    assert script.done(drop) == [to_host("b")]


def test_copies_are_read_for_orders_one_after_another() -> None:
    script = opened("abc", device=10, host=40)
    (first,) = order(script, "b", "host")
    assert order(script, "c", "host") == []
    assert script.done(first) == [to_host("c")]


def test_an_expert_has_left_the_device_before_it_is_read_for_the_host() -> None:
    script = opened("abc", device=30, host=20)
    for ticket, expert in enumerate("bc", 1):
        script.settle(script.ask(expert))
        script.release(ticket)
    assert [script.on_host(name) for name in "abc"] == [0, 10, 10]
    (leaves,) = order(script, "a", "host")
    assert leaves == Move("a", "device", "disk", "operator")
    (drop,) = script.done(leaves)
    assert drop == Move("b", "host", "disk", "eviction", "a")
    assert script.done(drop) == [to_host("a")]


@pytest.mark.parametrize(("size", "reads"), [(0, False), (1, True), (20, True)])
def test_what_has_weights_and_fits_the_host_is_read_there(size: int, reads: bool) -> None:
    members = [an_expert("a", size=0), an_expert("b", size=size)]
    script = Script(TierState(a_config(40, 20), members, engines(f=None)))
    script.settle(script.feed(Opened(script.now())))
    assert order(script, "b", "host") == ([to_host("b")] if reads else [])
