"""Who leaves first."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_tiers.actions import Grant, Move
from memory_tiers.events import Opened
from memory_tiers.simulator.belady import Belady, fewest_moves
from memory_tiers.state.records.policy import Candidate, LeastRecentlyUsed, RateTimesCost
from memory_tiers.state.records.recency_weighted_use import HALF_LIFE, NEVER_USED, recency_weighted_use
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import Tier
from tests.memory_tiers.state.script import Script, a_config, an_expert, engines, opened


@dataclass
class Seen:
    """A candidate."""

    name: str = "a"
    last_used: float = 0.0
    device_use: float = NEVER_USED
    host_use: float = NEVER_USED
    seconds_per_byte: float = 1.0


def heat_of(*uses: float) -> float:
    heat = NEVER_USED
    for turnovers in uses:
        heat = recency_weighted_use(heat, turnovers)
    return heat


def test_lru_lets_go_who_was_used_longest_ago() -> None:
    policy = LeastRecentlyUsed()
    assert policy.rank(Seen(last_used=1.0), "device") < policy.rank(Seen(last_used=2.0), "device")


def test_a_use_counts_half_after_its_half_life() -> None:
    assert heat_of(HALF_LIFE) == pytest.approx(heat_of(0.0, 0.0))
    assert heat_of(HALF_LIFE * 0.9) < heat_of(0.0, 0.0) < heat_of(HALF_LIFE * 1.1)


def test_heat_stays_exact_after_very_many_loads() -> None:
    long_after = 1e6 * HALF_LIFE
    assert heat_of(*[long_after] * 4) - heat_of(*[long_after] * 2) == pytest.approx(1.0)
    assert recency_weighted_use(heat_of(0.0, 1.0), long_after) == pytest.approx(long_after / HALF_LIFE)


def test_a_foreseen_use_counts_with_its_probability() -> None:
    assert recency_weighted_use(NEVER_USED, HALF_LIFE) == 1.0
    assert recency_weighted_use(NEVER_USED, HALF_LIFE, 0.25) == -1.0


def test_cost_lets_go_who_is_used_least_for_what_a_load_takes() -> None:
    policy = RateTimesCost()
    rare, often = heat_of(1.0), heat_of(1.0, 1.0, 1.0)
    assert policy.rank(Seen(device_use=rare), "device") < policy.rank(Seen(device_use=often), "device")
    assert policy.rank(Seen(device_use=rare, seconds_per_byte=4.0), "device") > policy.rank(
        Seen(device_use=often), "device"
    )
    assert policy.rank(Seen(), "device") == NEVER_USED


def test_cost_keeps_on_the_host_who_is_used_most_by_the_hosts_own_turnovers() -> None:
    policy = RateTimesCost()
    assert policy.rank(Seen(host_use=1.0, device_use=9.0), "host") < policy.rank(Seen(host_use=2.0), "host")


def used(policy: str, limit: int | None = None) -> Move:
    """``a`` is used three times, then ``b`` once; ``c`` needs the place of one of them."""
    script = opened("abc", device=20, policy=policy, limit=limit)
    for expert in "aaab":
        script.settle(script.ask(expert))
        script.release(script.tickets)
    (move,) = script.ask("c")
    assert isinstance(move, Move)
    return move


def test_the_configuration_says_which_policy_the_tiers_follow() -> None:
    assert used("lru") == Move("a", "device", "disk", "eviction", "c")
    assert used("cost") == Move("b", "device", "disk", "eviction", "c")


class ByName:
    """Has the expert leave whose name comes first on the device, and on the host the one that comes last."""

    def rank(self, candidate: Candidate, tier: Tier) -> float:
        return {"device": 1.0, "host": -1.0}[tier] * ord(candidate.name)


def test_another_policy_decides_who_leaves_each_tier() -> None:
    members = [an_expert(name) for name in "abcde"]
    script = Script(TierState(a_config(20, 30), members, engines(f=None), ByName()))
    script.settle(script.feed(Opened(script.now())))
    for expert in "bc":
        script.settle(script.ask(expert))
        script.release(script.tickets)
    moves = [move for move in script.settle(script.ask("e")) if isinstance(move, Move) and move.beneficiary]
    assert [(move.source, move.expert) for move in moves] == [("host", "c"), ("device", "b")]
    script.settle(script.ask("d"))
    script.settle(script.ask("a"))
    assert script.ask("d") == [], "it is to leave though it has a lease"
    assert script.ask("e") == [Grant(script.tickets)]


def test_in_an_engine_that_is_full_by_count_too() -> None:
    assert used("lru", limit=2).replaces == "a"
    assert used("cost", limit=2).replaces == "b"


def test_an_expert_is_worth_what_loads_took_when_it_came() -> None:
    script = opened("abcd", device=20, policy="cost")
    for expert in "bbbbb":
        script.settle(script.ask(expert))
    (eviction,) = script.ask("c")
    (load,) = script.done(eviction)
    script.at += 50.0
    script.done(load)
    for ticket in range(1, 7):
        script.release(ticket)
    assert script.ask("d") == [Move("b", "device", "disk", "eviction", "d")], "c is used less and took longer"


def test_experts_that_are_used_no_more_leave_for_those_that_are() -> None:
    script = opened("abcd", device=20, policy="cost")
    for expert in "aaaaabbbbb":
        script.settle(script.ask(expert))
        script.release(script.tickets)
    for _ in range(30):
        for expert in "cd":
            script.settle(script.ask(expert))
            script.release(script.tickets)
    assert (script.where("c"), script.where("d")) == ("device", "device")


def test_a_family_of_which_no_load_was_measured_yet_counts_like_one_of_which_some_were() -> None:
    members = [an_expert(name) for name in "abd"] + [an_expert("c", family="g")]
    script = Script(TierState(a_config(30, policy="cost"), members, engines(f=None, g=None)))
    script.settle(script.feed(Opened(script.now())))
    for expert in "aaabbbc":
        script.settle(script.ask(expert))
        script.release(script.tickets)
    assert script.ask("d") == [Move("c", "device", "disk", "eviction", "d")]


def test_the_host_forgets_by_what_is_staged_not_by_what_is_loaded() -> None:
    """b and c are loaded again and again, from the host, where little is new: a's many uses still count."""
    script = opened("abcd", device=10, host=30, policy="cost")
    for expert in "a" * 30 + "bc" * 20:
        script.settle(script.ask(expert))
        script.release(script.tickets)
    records = script.state._records
    assert records.device_turnovers > 10 * records.host_turnovers
    seen = script.settle(script.ask("d"))
    dropped = [move.expert for move in seen if isinstance(move, Move) and move.target == "disk"]
    assert dropped == ["b"]


def test_belady_lets_go_who_is_asked_for_last_or_never() -> None:
    belady = Belady(["a", "b", "a", "c"])
    belady.arriving("a")
    ranks = {name: belady.rank(Seen(name), "device") for name in "abcd"}
    assert sorted(ranks, key=ranks.__getitem__) == ["d", "c", "a", "b"]
    belady.arriving("b")
    belady.arriving("a")
    assert belady.rank(Seen("a"), "device") == NEVER_USED


def fewest_by_trying(arrivals: str, fits: int, held: frozenset[str]) -> int:
    if not arrivals:
        return 0
    first, rest = arrivals[0], arrivals[1:]
    if first in held:
        return fewest_by_trying(rest, fits, held)
    if len(held) < fits:
        return fewest_by_trying(rest, fits, held | {first})
    return 1 + min(fewest_by_trying(rest, fits, held - {victim} | {first}) for victim in held)


@given(st.text("abcd", max_size=9), st.integers(1, 3))
def test_nobody_needs_fewer_moves_than_belady(arrivals: str, fits: int) -> None:
    assert fewest_moves(arrivals, fits) == fewest_by_trying(arrivals, fits, frozenset())
