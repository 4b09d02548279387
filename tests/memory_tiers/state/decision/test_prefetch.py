"""Prefetches what the router finds probable: when, how much of it, and in whose place."""

import pytest

from memory_tiers.actions import AbortMove, Action, Forget, Grant, Move, Reject
from memory_tiers.events import (
    EngineStarted,
    Foreseen,
    MoveFailed,
    Opened,
    OrderGiven,
    Revised,
    TimePassed,
)
from memory_tiers.members import Family, Member, Revision
from memory_tiers.replicas import replica_name
from memory_tiers.state.decision.prefetch import KEPT
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import Tier, TiersConfig
from tests.memory_tiers.state.script import Script, a_config, an_expert, engines, opened


def started(members: list[Member], families: list[Family], config: TiersConfig) -> Script:
    """The engines run and leave no images."""
    script = Script(TierState(config, members, families))
    for engine in script.state._records.engines.values():
        engine.images = False
    script.settle(script.feed(Opened(script.now())))
    return script


def foreseen(script: Script, **chances: float) -> list[Action]:
    return script.feed(Foreseen(tuple(chances.items()), script.now()))


def order(script: Script, expert: str, tier: Tier) -> list[Action]:
    return script.feed(OrderGiven(expert, tier, script.now()))


def use(script: Script, experts: str) -> None:
    """Has each served once, one request after another."""
    for expert in experts:
        script.settle(script.ask(expert))
        script.settle(script.release(script.tickets))


def finish(script: Script, actions: list[Action], seconds: float) -> list[Action]:
    """Ends the one action so many seconds after it began."""
    (action,) = actions
    script.at += seconds - 1
    return script.done(action)


def prefetch(expert: str, source: Tier = "disk", target: Tier = "device") -> Move:
    return Move(expert, source, target, "prefetch")


def evicted(expert: str, beneficiary: str) -> Move:
    return Move(expert, "device", "disk", "eviction", beneficiary)


def test_what_is_likely_is_prefetched_to_the_host_and_then_to_the_device() -> None:
    script = opened("abcd", device=40, host=40, prefetch_share=0.5)
    (read,) = foreseen(script, b=0.6, c=0.02)
    assert read == prefetch("b", "disk", "host")
    (load,) = script.done(read)
    assert load == prefetch("b", "host", "device")
    script.done(load)
    assert script.ask("b") == [Grant(1)]
    assert script.state.status.prefetches == {("host", "used"): 1, ("device", "used"): 1}


def test_what_is_likely_is_prefetched_from_the_first_second_on_and_only_if_the_configuration_says_so() -> (
    None
):
    for share, follows in ((0.5, [prefetch("b")]), (0, [])):
        config = a_config(20, prefetch_share=share)
        script = Script(TierState(config, [an_expert("a"), an_expert("b")], engines(f=None)))
        script.feed(Opened(0.0))
        script.feed(EngineStarted("f", "a", 10, 0.25))
        assert script.feed(Foreseen((("b", 0.9),), 0.5)) == follows


def test_without_a_share_nothing_is_prefetched_however_small() -> None:
    script = started([an_expert("a"), an_expert("b", size=0)], engines(f=None), a_config(20))
    assert foreseen(script, b=0.9) == []
    script.ask("a")
    assert script.release(1) == []


@pytest.mark.parametrize(("device", "host"), [(80, 0), (10, 80)])
def test_a_prefetch_takes_no_more_than_its_share_of_the_time(device: int, host: int) -> None:
    script = opened("abc", device=device, host=host, prefetch_share=0.25)
    assert finish(script, foreseen(script, b=0.6), seconds=12) == []
    due = script.at + 3 * 12
    assert foreseen(script, c=0.9) == [], "a quarter of the time: three times as long it is not its turn"
    assert script.state.deadline == due
    assert script.feed(TimePassed(due - 0.5)) == []
    assert script.feed(TimePassed(due)) == [prefetch("c", "disk", "host" if host else "device")]


def test_prefetched_copies_that_nobody_has_used_yet_take_no_more_than_their_share_of_each_tier() -> None:
    """An expert takes 10 bytes on the host, of 20 that may be prefetched, and 20 on the device, of 50."""
    config = a_config(250, 100, prefetch_share=0.2)
    script = started([an_expert(name) for name in "abcde"], engines(f=None), config)
    script.state._records.engines["f"].scale = 2.0

    def settle(actions: list[Action]) -> list[Action]:
        seen = []
        while actions:
            (action,) = actions
            seen.append(action)
            on_device = isinstance(action, Move) and action.target == "device"
            actions = script.done(action, 20 if on_device else 10)
        script.wait(10)
        return seen

    settle(order(script, "b", "host"))
    assert settle(foreseen(script, b=0.9)) == [prefetch("b", "host", "device")]
    assert settle(foreseen(script, c=0.9)) == [prefetch("c", "disk", "host"), prefetch("c", "host", "device")]
    assert settle(foreseen(script, d=0.9)) == [prefetch("d", "disk", "host")], "as much as there may be"
    assert settle(foreseen(script, e=0.9)) == []
    script.ask("b")
    assert settle(script.release(1)) == [prefetch("d", "host", "device")]
    script.ask("c")
    assert settle(script.release(2)) == [prefetch("e", "disk", "host"), prefetch("e", "host", "device")]


@pytest.mark.parametrize(("device", "host"), [(80, 0), (30, 80)])
def test_an_expert_over_that_share_keeps_no_smaller_one_from_being_prefetched(device: int, host: int) -> None:
    members = [an_expert("a"), an_expert("large", size=30), an_expert("small")]
    script = started(members, engines(f=None), a_config(device, host, prefetch_share=0.25))
    target: Tier = "host" if host else "device"
    assert foreseen(script, large=0.9, small=0.5) == [prefetch("small", "disk", target)]


@pytest.mark.parametrize(
    ("size", "first"), [(0, "device"), (1, "host"), (10, "host"), (11, None), (20, None), (21, "device")]
)
def test_weights_come_over_the_host_unless_it_could_never_hold_them(size: int, first: Tier | None) -> None:
    """The host has 20 bytes, of which 10 may be prefetched."""
    members = [an_expert("a"), an_expert("b", size=size)]
    script = started(members, engines(f=None), a_config(60, 20, prefetch_share=0.5))
    assert foreseen(script, b=0.9) == ([] if first is None else [prefetch("b", "disk", first)])


def test_one_load_and_one_read_from_disk_are_under_way_at_a_time() -> None:
    script = opened("abcde", device=80, host=80, prefetch_share=0.5)
    script.settle(order(script, "b", "host"))
    assert foreseen(script, d=0.85, b=0.8, c=0.9) == [
        prefetch("c", "disk", "host"),
        prefetch("b", "host", "device"),
    ]
    script = opened("abcde", device=80, host=80, prefetch_share=0.5)
    script.settle(order(script, "b", "host"))
    assert foreseen(script, c=0.9) == [prefetch("c", "disk", "host")]
    assert foreseen(script, b=0.8) == [prefetch("b", "host", "device")]
    assert foreseen(script, d=0.9) == []


def test_one_load_at_a_time_on_all_engines_together_the_likeliest_first() -> None:
    members = [an_expert("a"), an_expert("b"), an_expert("c", family="g"), an_expert("d", family="g")]
    script = started(members, engines(f=None, g=None), a_config(80, prefetch_share=0.5))
    load = foreseen(script, b=0.8, d=0.9)
    assert load == [prefetch("d")]
    finish(script, load, seconds=5)
    assert script.wait(4) == []
    assert script.wait(2) == [prefetch("b")]


@pytest.mark.parametrize(("chance", "comes"), [(0.1, True), (0.09, False)])
def test_a_chance_of_a_tenth_is_worth_a_move(chance: float, comes: bool) -> None:
    script = opened("ab", device=80, prefetch_share=0.5)
    assert foreseen(script, b=chance) == ([prefetch("b")] if comes else [])


@pytest.mark.parametrize(("latest", "comes"), [(0.06, True), (0.059, False)])
def test_chances_add_up_and_each_loses_a_tenth_whenever_others_follow(latest: float, comes: bool) -> None:
    """0.05 * 0.9 * 0.9 + 0.06 is just over a tenth."""
    script = opened("abc", device=80, prefetch_share=0.5)
    assert foreseen(script, b=0.05) == []
    assert foreseen(script, c=0.01) == []
    assert foreseen(script, b=latest) == ([prefetch("b")] if comes else [])


def test_experts_that_are_unknown_or_have_no_chance_are_passed_over() -> None:
    script = opened("abc", device=80, prefetch_share=0.5)
    assert foreseen(script, nobody=0.9, b=0.0, c=0.5) == [prefetch("c")]


def test_the_likeliest_experts_are_remembered_and_no_more() -> None:
    names = [f"x{number}" for number in range(KEPT + 1)]
    members = [an_expert(name) for name in ("a", *names)]
    script = started(members, engines(f=None), a_config(1000, prefetch_share=0.5))
    chances = {name: 0.5 + number / 100 for number, name in enumerate(names)}
    seen = script.settle(foreseen(script, **chances)) + script.wait(1000)
    assert seen == [prefetch(name) for name in reversed(names[1:])]


def test_an_expert_that_has_gone_since_it_was_foreseen_keeps_none_from_being_prefetched() -> None:
    script = opened("abcd", device=80, prefetch_share=0.5)
    (load,) = order(script, "c", "device")
    assert foreseen(script, b=0.9) == [], "another is being loaded"
    assert Forget("b") in script.feed(Revised(Revision(removed=("b",)), script.now()))
    assert script.done(load) == []
    assert foreseen(script, d=0.5) == [prefetch("d")]


@pytest.mark.parametrize(("chance", "leaves"), [(0.5, "c"), (0.05, "b")])
def test_what_is_foreseen_counts_as_that_part_of_a_use(chance: float, leaves: str) -> None:
    script = opened("abcd", device=20, policy="cost")
    use(script, "abc")
    assert [script.where(name) for name in "abc"] == ["disk", "device", "device"]
    assert foreseen(script, b=chance) == []
    assert script.ask("d") == [evicted(leaves, "d")]


def test_an_expert_takes_the_place_of_one_used_less_than_half_as_much() -> None:
    script = opened("abc", device=20, prefetch_share=0.5, policy="cost")
    finish(script, script.ask("b"), seconds=10)
    script.release(1)
    use(script, "aaaa")
    assert foreseen(script, c=1.0) == [], "as much as b"
    assert foreseen(script, c=1.0) == [], "twice as much"
    assert foreseen(script, c=1.0) == [evicted("b", "c")]


def test_an_expert_that_never_came_yet_takes_no_place_of_one_used_more() -> None:
    """It has no measured seconds per byte of its own."""
    script = opened("abc", device=20, prefetch_share=0.5, policy="cost")
    use(script, "bbaaaa")
    assert foreseen(script, c=1.0) == []
    assert [foreseen(script, c=1.0) for _ in range(4)][-1] == [evicted("b", "c")]


def test_nor_does_one_that_was_added_when_loads_had_been_measured() -> None:
    script = opened("ab", device=20, prefetch_share=0.5, policy="cost")
    use(script, "bbaaaa")
    script.feed(Revised(Revision(added=(an_expert("c"),)), script.now()))
    assert foreseen(script, c=1.0) == []
    assert [foreseen(script, c=1.0) for _ in range(4)][-1] == [evicted("b", "c")]


def test_a_copy_on_the_host_leaves_for_a_prefetch_under_the_same_rule() -> None:
    members = [an_expert(name) for name in "abcd"] + [an_expert("large", size=20), an_expert("small")]
    script = started(members, engines(f=None), a_config(20, 40, prefetch_share=0.5, policy="cost"))
    use(script, "bcdbcd")
    assert [script.on_host(name) for name in "abcd"] == [10, 10, 10, 10]
    (drop,) = foreseen(script, large=0.9, small=0.5)
    assert drop == Move("a", "host", "disk", "eviction", "small"), (
        "a second one would have to leave for large"
    )
    assert script.done(drop) == [prefetch("small", "disk", "host")]


def test_a_copy_that_is_being_loaded_does_not_leave_for_a_prefetch() -> None:
    members = [an_expert("a"), an_expert("b", size=25), an_expert("c", size=15)]
    script = started(members, engines(f=None), a_config(60, 30, prefetch_share=0.5))
    (drop,) = order(script, "b", "device")
    (read,) = script.done(drop)
    (load,) = script.done(read, 25)
    assert load == Move("b", "host", "device", "operator")
    assert foreseen(script, c=0.9) == []


def test_no_expert_is_claimed_for_one_that_needs_more_than_the_unused_ones_have() -> None:
    members = [an_expert(name) for name in "abcd"] + [an_expert("large", size=20), an_expert("small")]
    script = started(members, engines(f=None), a_config(40, prefetch_share=0.5, policy="cost"))
    script.settle(order(script, "b", "device"))
    use(script, "acdacd")
    assert foreseen(script, large=0.9) == []
    assert foreseen(script, small=0.5) == [evicted("b", "small")]


def test_an_expert_without_unused_ones_to_leave_for_it_keeps_no_smaller_one_from_being_prefetched() -> None:
    members = [an_expert(name) for name in "abc"] + [an_expert("large", size=20), an_expert("small")]
    script = started(members, engines(f=None), a_config(40, prefetch_share=0.5, policy="cost"))
    use(script, "abcabc")
    assert foreseen(script, large=0.9, small=0.5) == [prefetch("small")], "10 bytes are free"


def test_an_expert_stays_for_its_minimum_residency_before_one_that_is_foreseen_takes_its_place() -> None:
    script = opened("abc", device=20, prefetch_share=0.5, policy="cost", min_residency_s=50)
    script.wait(50)
    use(script, "aaa")
    script.settle(order(script, "b", "device"))
    came = script.at
    assert foreseen(script, c=1.0) == []
    assert script.state.deadline == came + 50
    assert script.feed(TimePassed(came + 50)) == [evicted("b", "c")]


def test_an_expert_of_another_family_leaves_before_the_load_begins() -> None:
    members = [an_expert("a"), an_expert("b"), an_expert("c", family="g")]
    script = started(members, engines(f=None, g=None), a_config(20, prefetch_share=0.5, policy="cost"))
    use(script, "a")
    (eviction,) = foreseen(script, b=0.9)
    assert eviction == evicted("c", "b")
    assert script.done(eviction) == [prefetch("b")]


def test_no_engine_is_stopped_for_a_prefetch() -> None:
    """An engine of one expert gives memory back only when it stops."""
    members = [an_expert("a"), an_expert("b"), an_expert("c", family="plain")]
    script = started(members, engines(f=None, plain=1), a_config(20, prefetch_share=0.5, policy="cost"))
    script.settle(script.ask("c"))
    script.settle(script.release(1))
    use(script, "aaaa")
    assert foreseen(script, b=1.0) == []
    assert [engine.state for engine in script.state.status.engines()] == ["ready", "ready"]


def test_nothing_is_prefetched_while_somebody_waits() -> None:
    members = [an_expert("a"), an_expert("b"), an_expert("c", family="g"), an_expert("d", family="g")]
    script = started(members, engines(f=None, g=None), a_config(80, prefetch_share=0.5))
    (load,) = script.ask("b")
    assert foreseen(script, d=0.9) == []
    assert script.done(load) == [Grant(1), prefetch("d")]


def test_a_ticket_does_not_wait_for_a_prefetch_to_be_read() -> None:
    script = opened("abc", device=10, host=40, prefetch_share=0.5)
    (read,) = foreseen(script, c=0.9)
    assert isinstance(read, Move)
    assert script.ask("b") == [AbortMove(read)]
    assert script.feed(MoveFailed(read, "aborted", script.now())) == [Move("b", "disk", "host", "ticket")]
    assert script.state.status.prefetches == {("host", "wasted"): 1}


def test_no_engine_wakes_for_a_prefetch() -> None:
    family = Family("f", None, sleep_after_s=5.0)
    script = started([an_expert("a"), an_expert("b")], [family], a_config(80, prefetch_share=0.5))
    script.wait(10)
    assert [engine.state for engine in script.state.status.engines()] == ["asleep"]
    assert foreseen(script, b=0.9) == []


@pytest.mark.parametrize("limit", [1, 2])
def test_an_engine_that_is_full_by_count_prefetches_nothing(limit: int) -> None:
    script = opened("abc", device=80, limit=limit, prefetch_share=0.5)
    use(script, "b")
    assert foreseen(script, c=0.9) == []


def test_an_engine_that_loads_another_expert_prefetches_nothing_meanwhile() -> None:
    script = opened("abc", device=80, prefetch_share=0.5)
    (load,) = order(script, "b", "device")
    assert foreseen(script, c=0.9) == []
    assert script.done(load) == [prefetch("c")]


def test_an_expert_that_is_removed_and_still_leaving_is_not_prefetched() -> None:
    script = opened("ab", device=40, host=40, prefetch_share=0.5)
    script.settle(order(script, "b", "host"))
    (drop,) = script.feed(Revised(Revision(removed=("b",)), script.now()))
    assert not [action for action in script.fail(drop) if isinstance(action, Reject)]
    assert foreseen(script, b=0.9) == []


def on_two_engines(names: str, **more: float | str) -> Script:
    """Two engines of one family, each on its GPU; the first has started with a, the second with b."""
    families = [Family(replica_name("f", number), None, 0, (number,), "f" * number) for number in (0, 1)]
    tree = {"devices": {0: 80, 1: 80}, "min_residency_s": 0, "policy": "lru", "prefetch_share": 0.5, **more}
    return started([an_expert(name) for name in names], families, TiersConfig.model_validate(tree))


def test_the_engine_that_holds_fewer_experts_prefetches() -> None:
    script = on_two_engines("abcd")
    script.ask("b")
    script.settle(script.ask("c"))
    assert [each.engines for each in script.state.status.experts()] == [("f",), ("f#2",), ("f",), ()]
    assert foreseen(script, d=0.9) == [prefetch("d#2")]


def test_an_engine_that_has_nothing_else_to_do_prefetches_however_many_it_holds() -> None:
    script = on_two_engines("abcdefg")
    script.ask("a")
    for expert in "cde":
        use(script, expert)
    script.release(1)
    (load,) = script.ask("f")
    assert isinstance(load, Move)
    assert load.expert == "f"
    script.cancel(script.tickets)
    assert foreseen(script, f=0.9) == [], "it is on its way to the other engine"
    assert foreseen(script, g=0.9, a=0.95) == [prefetch("g#2")], "a is on an engine already"


def test_an_engine_that_runs_prefetches_though_another_is_down() -> None:
    script = on_two_engines("abc")
    (start,) = script.die("f")
    (again,) = script.fail(start)
    assert script.fail(again) == []
    assert foreseen(script, c=0.9) == [prefetch("c#2")]


def test_what_is_foreseen_of_an_expert_counts_whichever_engine_it_would_come_to() -> None:
    script = on_two_engines("abcd", policy="cost", host=20)
    use(script, "cc")
    assert [script.on_host(name) for name in "abcd"] == [0, 10, 10, 0]
    assert foreseen(script, d=1.0) == [Move("b", "host", "disk", "eviction", "d#2")]


def test_prefetched_experts_that_leave_the_device_unused_are_counted_as_wasted() -> None:
    script = opened("ab", device=20, prefetch_share=0.5)
    script.settle(script.feed(Foreseen((("b", 0.9),), script.now())))
    for _ in range(2):
        script.wait(100)
        assert script.where("b") == "device", "it is as likely as before"
        script.settle(script.order("b", "disk"))
    assert script.state.status.prefetches == {("device", "wasted"): 2}
