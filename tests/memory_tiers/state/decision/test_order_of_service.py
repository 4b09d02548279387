"""Chooses whose expert is loaded next, of those that wait."""

import pytest

from memory_tiers.actions import Action, Grant, Move, Reject, StartEngine
from memory_tiers.events import Opened, OrderGiven
from memory_tiers.state.decision.decision import LOOKAHEAD
from memory_tiers.state.state_machine import TierState
from tests.memory_tiers.state.script import Script, a_config, an_expert, engines, opened


def loads(actions: list[Action]) -> list[str]:
    return [action.expert for action in actions if isinstance(action, Move) and action.target == "device"]


def test_an_expert_whose_load_failed_before_is_served_in_its_turn() -> None:
    script = opened("abc", device=10)
    (eviction,) = script.ask("b")
    (load,) = script.done(eviction)
    script.fail(load)
    script.settle(script.ask("a"))
    script.ask("b")
    script.ask("c")
    assert loads(script.settle(script.release(2))) == ["b"]


def test_an_expert_behind_one_that_is_refused_is_served_at_once() -> None:
    members = [an_expert("a", pinned=True), an_expert("b"), an_expert("c"), an_expert("d")]
    script = Script(TierState(a_config(40), members, engines(f=2)))
    script.settle(script.feed(Opened(script.now())))
    script.settle(script.ask("b"))
    script.settle(script.release(1))
    (leaves,) = script.feed(OrderGiven("b", "disk", script.now()))
    assert [script.ask("c"), script.ask("d")] == [[], []]
    refusal, load = script.fail(leaves)
    assert isinstance(refusal, Reject)
    assert refusal.ticket == 2
    assert load == Move("d", "disk", "device", "ticket", replaces="b")


def test_what_was_on_a_dead_engine_and_fits_comes_back_though_a_larger_one_does_not() -> None:
    members = [
        an_expert("a"),
        an_expert("large", size=15),
        an_expert("small", size=5),
        an_expert("c", size=15),
    ]
    script = Script(TierState(a_config(30), members, engines(f=None)))
    script.settle(script.feed(Opened(script.now())))
    for expert, size in (("small", 5), ("large", 15)):
        (load,) = script.ask(expert)
        script.done(load, size)
        script.release(script.tickets)
    script.ask("a")
    script.release(script.tickets)
    (start,) = script.die()
    assert start == StartEngine("f", "a", "disk")
    script.ask("c")
    (load,) = script.done(start)
    assert script.done(load, 15) == [Grant(4), Move("small", "disk", "device", "preload")]


@pytest.mark.parametrize(("before", "served"), [(LOOKAHEAD - 1, True), (LOOKAHEAD, False)])
def test_one_of_the_first_in_the_queue_is_loaded_while_those_before_it_are_read(
    before: int, served: bool
) -> None:
    members = [an_expert(name) for name in ("a", "last", *(f"x{number}" for number in range(before)))]
    script = Script(TierState(a_config(1000, 1000), members, engines(f=None)))
    script.settle(script.feed(Opened(script.now())))
    script.settle(script.feed(OrderGiven("last", "host", script.now())))
    for number in range(before):
        script.ask(f"x{number}")
    assert loads(script.ask("last")) == (["last"] if served else [])
