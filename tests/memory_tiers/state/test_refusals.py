"""Refuses an expert that can never fit, and says what becomes of those that would have left for it."""

import pytest

from memory_tiers.actions import Grant, Move, Reject, StopEngine
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


def test_what_an_engine_held_that_has_stopped_is_room_for_others() -> None:
    """Else c, which takes 30 beside a pin of 10 and 5 that its own engine holds, could never fit in 45."""
    families = [Family("f", None, 5), Family("g", None, 15)]
    members = [
        an_expert("a", pinned=True),
        an_expert("b"),
        an_expert("c", size=15),
        an_expert("d", family="g"),
    ]
    script = Script(TierState(a_config(45, engine_idle_s=60.0), members, families))
    script.settle(script.feed(Opened(script.now())))
    assert [action.family for action in script.wait(100) if isinstance(action, StopEngine)] == ["g"]
    (load,) = script.ask("b")
    script.done(load, size=20)
    script.release(1)
    assert script.ask("c") == [Move("b", "device", "disk", "eviction", "c")]


@pytest.mark.parametrize("limit", [None, 2])
def test_an_expert_claimed_for_one_that_turns_out_never_to_fit_serves_again(limit: int | None) -> None:
    """A measurement shows that a byte of weights takes 1.8 on the device, and so c 36."""
    members = [an_expert("a"), an_expert("b"), an_expert("c", size=20)]
    script = Script(TierState(a_config(35), members, engines(f=limit)))
    script.settle(script.feed(Opened(script.now())))
    script.ask("a")
    (load,) = script.ask("b")
    assert script.ask("c") == []
    assert script.ask("a") == [], "it has been claimed"
    granted, refusal, again = script.done(load, 18)
    assert isinstance(refusal, Reject)
    assert "needs 36 bytes" in refusal.message
    assert [granted, again] == [Grant(2), Grant(4)]


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
