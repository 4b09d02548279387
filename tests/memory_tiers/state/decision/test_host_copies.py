"""Which copies the host holds on to while experts are loaded from them."""

from memory_tiers.actions import Action, Grant, Move
from memory_tiers.events import Opened
from memory_tiers.state.state_machine import TierState
from tests.memory_tiers.state.script import Script, a_config, an_expert, engines, opened


def dropped(expert: str, beneficiary: str) -> Move:
    return Move(expert, "host", "disk", "eviction", beneficiary)


def loading(script: Script, expert: str) -> Move:
    """The load that asking for ``expert`` leads to, about to end."""
    pending: list[Action] = script.ask(expert)
    while True:
        action = pending.pop(0)
        if isinstance(action, Move) and action.target == "device":
            return action
        pending += script.done(action)


def test_a_copy_stays_until_its_load_ends_though_nobody_waits_for_it_any_more() -> None:
    script = opened("abc", device=30, host=10)
    load = loading(script, "b")
    script.cancel(1)
    assert script.ask("c") == [], "the load goes on"
    assert script.done(load) == [dropped("b", "c")]


def test_the_copy_of_an_expert_that_is_to_leave_the_device_may_go_though_somebody_waits_for_it() -> None:
    members = [an_expert("a"), an_expert("b"), an_expert("c", family="g"), an_expert("d", family="g")]
    script = Script(TierState(a_config(30, 20), members, engines(f=1, g=None)))
    script.settle(script.feed(Opened(script.now())))
    script.settle(script.ask("b"))
    script.settle(script.ask("a"))
    assert [script.on_host(name) for name in "abcd"] == [10, 10, 0, 0]
    assert script.ask("b") == [], "a is next"
    assert script.ask("d") == [dropped("b", "d")], "a is about to be loaded"


def test_an_image_is_made_where_the_host_has_just_enough_room_for_it() -> None:
    script = opened("ab", device=20, host=20, images=True)
    load = loading(script, "b")
    assert load == Move("b", "host", "device", "ticket", image=True)
    assert Grant(1) in script.done(load, image=10)


def test_where_all_copies_are_in_use_an_expert_is_loaded_from_disk() -> None:
    members = [an_expert("a"), an_expert("b"), an_expert("c", family="g"), an_expert("d", family="g")]
    script = Script(TierState(a_config(40, 10), members, engines(f=None, g=None)))
    script.settle(script.feed(Opened(script.now())))
    loading(script, "b")
    assert script.ask("d") == [Move("d", "disk", "device", "ticket")]
