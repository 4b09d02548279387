"""Revisions of the configuration while the tiers serve: experts, families and budgets come and go."""

import pytest

from memory_tiers.actions import (
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
    Opened,
    Revised,
    TimePassed,
)
from memory_tiers.members import Family, Revision
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import TiersConfig
from tests.memory_tiers.state.script import Script, a_config, an_expert, engines, opened


def test_an_expert_that_is_added_can_be_asked_for() -> None:
    script = opened("a", device=20)
    assert script.revise(Revision(added=(an_expert("b"),))) == []
    assert script.settle(script.ask("b"))[-1] == Grant(1)


def test_an_expert_of_a_new_family_brings_its_engine() -> None:
    script = opened("a", device=20)
    added = an_expert("b", family="g")
    assert script.revise(Revision(added=(added,), families=(Family("g", 1),))) == [
        StartEngine("g", "b", "disk")
    ]


def test_what_a_new_engine_holds_is_charged_from_its_start() -> None:
    script = opened("ab", device=40)
    script.settle(script.ask("a"))
    script.settle(script.ask("b"))
    actions = script.revise(Revision((an_expert("c", family="g"),), families=(Family("g", None, 20),)))
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
    assert script.revise(Revision(removed=("b",))) == []
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
    script.revise(Revision(added=(an_expert("b", size=5),)))
    assert script.settle(script.ask("b"))[-1] == Grant(4)


@pytest.mark.parametrize("waited_for", [False, True])
def test_an_expert_that_is_removed_before_it_came_comes_for_nobody(waited_for: bool) -> None:
    script = opened("ab", device=10, host=20)
    script.ask("a")
    (read,) = script.order("b", "device")
    assert isinstance(read, Move)
    if waited_for:
        script.ask("b")
    script.revise(Revision(removed=("b",)))
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
    (read,) = script.revise(Revision(changed=(an_expert("b", pinned=True),)))
    assert isinstance(read, Move)
    if waited_for:
        script.ask("b")
    script.revise(Revision(changed=(an_expert("b"),)))
    if waited_for:
        script.cancel(3)
    moves = script.settle([read, *script.release(1), *script.release(2)])
    assert not any(isinstance(move, Move) and move.target == "device" for move in moves)


def test_a_removed_expert_that_cannot_be_given_back_is_tried_again() -> None:
    script = opened("ab", device=20, host=20)
    script.settle(script.ask("b"))
    script.release(1)
    (unload,) = script.revise(Revision(removed=("b",)))
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
    assert script.revise(again) == [StartEngine("g", "c", "disk")]


def test_one_family_takes_the_place_of_another_while_that_still_serves() -> None:
    families = [Family("f", None, 15)]
    script = Script(TierState(a_config(device=30), [an_expert("a")], families))
    script.settle(script.feed(Opened(script.now())))
    script.ask("a")
    other = Revision((an_expert("b", family="g"),), ("a",), families=(Family("g", None, 15),))
    assert script.revise(other) == []
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
    (unload,) = script.revise(revision)
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


def test_a_removed_expert_that_still_serves_counts_for_nothing_and_takes_no_orders() -> None:
    script = Script(TierState(a_config(20, disk=20), [an_expert("a"), an_expert("b")], engines(f=None)))
    script.settle(script.feed(Opened(script.now())))
    script.settle(script.ask("b"))
    script.revise(Revision(removed=("b",)))
    assert script.state.status.knows("b")
    with pytest.raises(OrderRefused, match=r"^there is no expert b$"):
        script.order("b", "device")
    script.revise(Revision(added=(an_expert("c"),)))
    assert [status.expert for status in script.state.status.experts()] == ["a", "c"]


def test_an_added_expert_is_judged_by_what_its_family_was_measured_to_take() -> None:
    script = opened("ab", device=20)
    (load,) = script.ask("b")
    script.done(load, size=6)
    script.release(1)
    script.state.revisions.may_revise(Revision(added=(an_expert("c", size=30),)))
    with pytest.raises(BudgetTooSmall, match="expert d needs 30 bytes"):
        script.state.revisions.may_revise(
            Revision(added=(an_expert("d", family="g", size=30),), families=(Family("g", None),))
        )


def test_an_expert_with_other_weights_is_refused_and_the_operator_told_what_to_do() -> None:
    script = opened("ab", device=20)
    says = (
        "expert b has other weights, or another family: give it a new name, or remove it first and add it "
        "when it has left"
    )
    for member in (an_expert("b", size=9), an_expert("b", family="g")):
        with pytest.raises(OrderRefused, match=f"^{says}$"):
            script.revise(Revision(changed=(member,)))


def test_a_server_that_shuts_down_takes_no_revision() -> None:
    script = opened("ab", device=20)
    script.feed(DrainRequested(script.now()))
    says = "the server is shutting down: change what it serves when it runs again"
    with pytest.raises(OrderRefused, match=f"^{says}$"):
        script.revise(Revision(removed=("b",)))


def on_two_gpus(*names: str) -> Script:
    """Experts of a family with an engine of its own, which holds 5 bytes, on each of two GPUs of 30."""
    families = [Family("f", None, 5, (0,)), Family("f#2", None, 5, (1,), "f")]
    tree = {"devices": {0: 30, 1: 30}, "min_residency_s": 0, "policy": "lru", "engine_idle_s": 60.0}
    config = TiersConfig.model_validate(tree)
    script = Script(TierState(config, [an_expert(name) for name in names], families))
    script.settle(script.feed(Opened(script.now())))
    return script


def test_gpus_with_budgets_of_their_own_take_experts_and_pins_but_no_common_budget() -> None:
    script = on_two_gpus("a", "b")
    script.settle(script.revise(Revision(added=(an_expert("c", pinned=True), an_expert("d", pinned=True)))))
    assert [script.status(name).engines for name in "cd"] == [("f#2",), ("f",)], "one engine has each pin"
    says = r"^expert e needs 16 bytes beside 15 bytes that never leave, over tiers\.devices\.0 of 30 bytes: "
    with pytest.raises(BudgetTooSmall, match=says):
        script.revise(Revision(added=(an_expert("e", size=16),)))
    says = r"^tiers\.device: GPUs have budgets of their own: restart with others$"
    with pytest.raises(OrderRefused, match=says):
        script.revise(Revision(device=50))


def test_an_engine_that_stops_gives_its_own_gpu_back_what_it_held() -> None:
    script = on_two_gpus("a", "b")
    assert [gpu.used_bytes for gpu in script.state.status.gpus()] == [15, 15]
    script.ask("a")
    assert [action.family for action in script.wait(100) if isinstance(action, StopEngine)] == ["f#2"]
    assert [gpu.used_bytes for gpu in script.state.status.gpus()] == [15, 0]
