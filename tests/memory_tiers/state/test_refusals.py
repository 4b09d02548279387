"""What is told of an expert that can never fit, and what becomes of those that would have left for it."""

import pytest

from memory_tiers.actions import Grant, Move, Reject
from memory_tiers.events import Opened, OrderGiven
from memory_tiers.members import Family
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import TiersConfig
from tests.memory_tiers.state.script import Script, a_config, an_expert, engines


@pytest.mark.parametrize("by_gpu", [False, True])
def test_an_expert_that_never_fits_is_refused_with_what_cannot_leave_and_what_to_raise(by_gpu: bool) -> None:
    """An engine holds 5 bytes itself, as does another; a pin takes 10; c turns out to take 30."""
    families = [Family("f", None, 5, (0,)), Family("g", None, 5, (0,))]
    members = [
        an_expert("a", pinned=True),
        an_expert("b"),
        an_expert("c", size=15),
        an_expert("d", family="g"),
    ]
    budget: dict[str, object] = {"devices": {0: 45}} if by_gpu else {"device": 45}
    config = TiersConfig.model_validate({**budget, "min_residency_s": 0, "policy": "lru"})
    script = Script(TierState(config, members, families))
    script.settle(script.feed(Opened(script.now())))
    (load,) = script.ask("b")
    script.done(load, size=20)
    (refusal,) = script.ask("c")
    where, setting = ("GPU 0", "devices") if by_gpu else ("the device", "device")
    assert refusal == Reject(
        2,
        "load_failed",
        f"expert c could not be loaded: it needs 30 bytes on {where} beside 20 that cannot leave, over "
        f"the budget of 45: raise tiers.{setting}",
    )


def test_those_that_would_have_left_for_an_expert_that_never_fits_serve_on() -> None:
    members = [an_expert("a"), an_expert("b"), an_expert("c", size=20)]
    script = Script(TierState(a_config(30), members, engines(f=2)))
    script.settle(script.feed(Opened(script.now())))
    (load,) = script.ask("b")
    script.done(load, size=20)
    script.ask("a")
    (refusal,) = script.ask("c")
    assert isinstance(refusal, Reject)
    assert "needs 40 bytes" in refusal.message
    assert script.ask("a") == [Grant(4)]
    assert script.ask("b") == [Grant(5)]


def test_an_engine_of_which_no_expert_can_leave_is_the_reason_and_the_next_request_tries_again() -> None:
    members = [an_expert("a", pinned=True), an_expert("b"), an_expert("c")]
    script = Script(TierState(a_config(40), members, engines(f=2)))
    script.settle(script.feed(Opened(script.now())))
    script.settle(script.ask("b"))
    script.settle(script.release(1))
    (leaves,) = script.feed(OrderGiven("b", "disk", script.now()))
    assert script.fail(leaves) == []
    (refusal,) = script.ask("c")
    message = "expert c could not be loaded: its engine holds 2 that cannot leave"
    assert refusal == Reject(2, "load_failed", message)
    assert script.ask("c") == [Move("c", "disk", "device", "ticket", replaces="b")]
