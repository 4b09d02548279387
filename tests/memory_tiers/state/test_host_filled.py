"""Shared memory that is full before its budget is: copies leave, and no request fails."""

import pytest

from memory_tiers.actions import Action, Grant, Move, Reject
from memory_tiers.events import Foreseen, HostFilled, OrderGiven, TimePassed
from memory_tiers.state.outcomes import HOST_FULL_S
from tests.memory_tiers.state.script import Script, opened

READ_B = Move("b", "disk", "host", "ticket")
DROP_A = Move("a", "host", "disk", "over_budget")


def filled(script: Script, move: Move, held: int) -> list[Action]:
    actions = script.feed(HostFilled(move, held, script.now()))
    assert not [action for action in actions if isinstance(action, Reject)]
    return actions


def capacity(script: Script) -> int | None:
    return script.state.status.tiers()[1].capacity_bytes


def test_a_copy_without_room_has_others_leave_and_is_read_again() -> None:
    script = opened("abc", device=10, host=30)
    script.settle(script.ask("c"))
    script.settle(script.release(1))
    assert script.on_host("c") == 10
    (read,) = script.ask("b")
    assert read == READ_B
    seen = script.settle(filled(script, READ_B, 12))
    assert READ_B in seen
    assert Grant(2) in seen
    assert [script.on_host(name) for name in "abc"] == [0, 10, 0]
    assert capacity(script) == 12


def test_without_room_for_a_single_copy_the_expert_is_loaded_from_disk() -> None:
    script = opened("ab", device=20, host=100)
    (read,) = script.ask("b")
    actions = filled(script, READ_B, 3)
    assert read == READ_B
    assert actions == [DROP_A, Move("b", "disk", "device", "ticket")]
    assert Grant(1) in script.done(actions[1])


@pytest.mark.parametrize(("held", "then"), [(0, 0), (15, 15), (20, 19), (1000, 19)])
def test_the_host_shrinks_below_what_did_not_fit_whatever_is_said_of_it(held: int, then: int) -> None:
    """Else the same read would be tried for ever."""
    script = opened("ab", device=20, host=100)
    script.ask("b")
    filled(script, READ_B, held)
    assert capacity(script) == then


def test_copies_over_what_the_host_really_holds_leave() -> None:
    script = opened("abcde", device=10, host=100)
    for ticket, name in enumerate("bcd", 1):
        script.settle(script.ask(name))
        script.settle(script.release(ticket))
    (read,) = script.ask("e")
    assert read == Move("e", "disk", "host", "ticket")
    script.settle(filled(script, read, 20))
    assert sum(script.on_host(name) for name in "abcde") <= 20
    assert script.where("e") == "device"


def test_the_budget_is_tried_again_after_a_while() -> None:
    script = opened("ab", device=20, host=100)
    script.ask("b")
    filled(script, READ_B, 3)
    at = script.at + HOST_FULL_S
    script.feed(TimePassed(at - 1))
    assert capacity(script) == 3
    assert script.state.deadline is not None
    assert script.state.deadline <= at
    script.feed(TimePassed(at))
    assert capacity(script) == 100
    script.at = at
    script.ask("a")
    script.release(2)
    assert capacity(script) == 100


def test_a_prefetch_without_room_is_wasted_and_no_more() -> None:
    script = opened("ab", device=20, host=100, prefetch_share=0.5)
    (read,) = script.feed(Foreseen((("b", 0.9),), script.now()))
    assert isinstance(read, Move)
    assert read.reason == "prefetch"
    filled(script, read, 3)
    assert script.state.status.prefetches == {("host", "wasted"): 1}


def test_an_ordered_copy_without_room_is_given_up() -> None:
    script = opened("ab", device=20, host=100)
    (read,) = script.feed(OrderGiven("b", "host", script.now()))
    assert isinstance(read, Move)
    assert filled(script, read, 3) == [DROP_A]
    assert [status.ordered for status in script.state.status.experts()] == [None, None]
