"""Evicts one expert for another: which one leaves, and what is said of it."""

from memory_tiers.actions import Action, Grant, Move, StopEngine
from memory_tiers.events import Opened
from memory_tiers.members import Family
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import TiersConfig
from tests.memory_tiers.state.script import Script, a_config, an_expert, engines, opened


def use(script: Script, experts: str) -> None:
    """Has each served once, one request after another."""
    for expert in experts:
        script.settle(script.ask(expert))
        script.settle(script.release(script.tickets))


def evicted(expert: str, beneficiary: str) -> Move:
    return Move(expert, "device", "disk", "eviction", beneficiary)


def in_place(expert: str, replaces: str) -> Move:
    return Move(expert, "disk", "device", "ticket", replaces=replaces)


def test_what_left_tells_how_long_it_was_there_and_what_it_held() -> None:
    script = opened("ab", device=10)
    came = script.at
    (eviction,) = script.ask("b")
    assert isinstance(eviction, Move)
    assert (eviction.age_s, eviction.gives_back) == (script.at - came, 10)


def test_an_engine_that_stops_tells_how_long_its_experts_were_there_and_does_not_sleep() -> None:
    members = [an_expert("a", family="plain"), an_expert("b", family="f")]
    script = Script(TierState(a_config(device=15), members, engines(plain=1, f=None)))
    script.settle(script.feed(Opened(script.now())))
    came = script.at
    (stop,) = script.ask("b")
    assert stop == StopEngine("plain", "eviction", "b", sleep=False)
    assert isinstance(stop, StopEngine)
    assert stop.ages_s == {"a": script.at - came}


def test_whoever_waited_too_long_takes_a_place_in_a_full_engine_however_short_it_was_held() -> None:
    script = opened("ab", device=20, limit=1, min_residency_s=1000, max_wait_s=7)
    assert script.ask("b") == []
    assert script.wait(6) == []
    assert script.wait(1) == [in_place("b", "a"), Grant(1)]


def test_in_a_full_engine_too_an_idle_expert_is_a_better_victim_than_one_claimed_under_a_lease() -> None:
    script = opened("abc", device=30, limit=2)
    script.ask("a")
    script.settle(script.ask("b"))
    script.ask("c")
    assert script.ask("a") == [], "the one used longest ago has been claimed"
    assert script.release(2) == [in_place("c", "b"), Grant(4)]


def test_in_a_full_engine_too_what_counts_is_the_use_since_the_device_was_filled_anew() -> None:
    """Three uses of a before nine loads weigh less than two of b after them."""
    script = opened("abcdefghiz", device=40, limit=2, policy="cost")
    use(script, "aaacdefghibb")
    assert [script.where(name) for name in "ab"] == ["device", "device"]
    assert script.ask("z") == [in_place("z", "a")]


def test_a_claim_stays_with_its_victim_though_another_expert_was_used_longer_ago_since() -> None:
    script = opened("abcd", device=20)
    script.ask("a")
    script.ask("a")
    script.settle(script.ask("b"))
    script.ask("c")
    script.release(1)
    script.ask("d")
    assert script.ask("b") == [Grant(6)]
    assert script.ask("a") == []


def moves(actions: list[Action]) -> list[Move]:
    return [action for action in actions if isinstance(action, Move)]


def test_each_gpu_keeps_the_claims_on_its_own_experts() -> None:
    families = [Family("zero", None, 0, (0,)), Family("one", None, 0, (1,))]
    members = [an_expert(f"{each.name}-{letter}", family=each.name) for each in families for letter in "ab"]
    tree = {"devices": {0: 10, 1: 10}, "min_residency_s": 0, "policy": "lru"}
    script = Script(TierState(TiersConfig.model_validate(tree), members, families))
    script.settle(script.feed(Opened(script.now())))
    for expert in ("one-a", "zero-a", "one-b", "zero-b"):
        script.ask(expert)
    assert moves(script.release(2)) == [evicted("zero-a", "zero-b")]
    assert moves(script.release(1)) == [evicted("one-a", "one-b")]


def test_an_expert_that_could_not_leave_an_engine_that_died_may_leave_the_next_one() -> None:
    script = opened("abc", device=20)
    use(script, "b")
    (eviction,) = script.ask("c")
    assert eviction == evicted("a", "c")
    script.settle(script.fail(eviction))
    script.settle(script.die())
    assert [script.where(name) for name in "abc"] == ["device", "disk", "device"]
    assert script.ask("b") == [evicted("a", "b")], "the other one has a lease"


def test_what_is_on_its_way_out_counts_as_room_and_no_other_is_claimed() -> None:
    script = opened("abcd", device=30)
    use(script, "b")
    script.settle(script.ask("c"))
    assert script.ask("d") == [evicted("a", "d")]
    script.release(2)
    assert script.ask("b") == [Grant(4)]


def test_an_expert_over_the_budget_leaves_however_short_it_was_there() -> None:
    script = opened("ab", device=20, min_residency_s=1000)
    (load,) = script.ask("b")
    assert script.done(load, 15) == [Grant(1), Move("a", "device", "disk", "over_budget")]


def test_an_engine_that_is_busy_keeps_no_expert_of_another_from_leaving() -> None:
    """Two would have to leave; the engine of one of them loads."""
    members = [
        an_expert("a"),
        an_expert("b"),
        an_expert("c", family="g"),
        an_expert("d", family="g", size=30),
    ]
    script = Script(TierState(a_config(40), members, engines(f=None, g=None)))
    script.settle(script.feed(Opened(script.now())))
    assert script.ask("b") == [Move("b", "disk", "device", "ticket")]
    assert script.ask("d") == [evicted("c", "d")]


def test_as_many_engines_of_one_expert_stop_as_another_needs_the_place_of() -> None:
    members = [an_expert("a", family="p"), an_expert("b", family="q"), an_expert("c", family="f", size=20)]
    script = Script(TierState(a_config(20), members, engines(p=1, q=1, f=None)))
    script.settle(script.feed(Opened(script.now())))
    assert script.ask("c") == [StopEngine("p", "eviction", "c"), StopEngine("q", "eviction", "c")]


def test_a_load_in_the_place_of_another_tells_how_long_that_was_there() -> None:
    script = opened("ab", device=10, limit=1)
    came = script.at
    (load,) = script.ask("b")
    assert isinstance(load, Move)
    assert load.age_s == script.at - came
