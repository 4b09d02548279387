from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.inside_vllm.turns import Turns


def steps(turns: Turns, working: list[str], count: int) -> str:
    return "".join(turns.next(working) or "-" for _ in range(count))


def test_one_expert_keeps_the_engine() -> None:
    assert steps(Turns(2), ["a"], 5) == "aaaaa"


def test_experts_take_turns_of_a_quantum() -> None:
    assert steps(Turns(3), ["a", "b"], 12) == "aaabbbaaabbb"


def test_who_waited_longest_goes_next() -> None:
    turns = Turns(2)
    assert steps(turns, ["b"], 1) == "b"
    assert steps(turns, ["b", "c"], 1) == "b"
    assert steps(turns, ["a", "b", "c"], 6) == "ccaabb"


def test_an_expert_alone_makes_way_at_once_when_its_quantum_is_long_over() -> None:
    turns = Turns(4)
    assert steps(turns, ["a"], 9) == "a" * 9
    assert turns.next(["a", "b"]) == "b"


def test_an_expert_without_work_loses_its_turn() -> None:
    turns = Turns(8)
    assert steps(turns, ["a", "b"], 2) == "aa"
    assert turns.next(["b"]) == "b"
    assert turns.next([]) is None
    assert turns.active is None


def test_an_expert_that_stalls_gives_up_its_quantum() -> None:
    turns = Turns(8)
    assert turns.next(["a", "b"]) == "a"
    turns.stalled()
    assert turns.next(["a", "b"]) == "b"


def test_a_quantum_has_at_least_one_step() -> None:
    with pytest.raises(ValueError, match="quantum_steps"):
        Turns(0)


@given(
    quantum=st.integers(1, 5),
    arrivals=st.lists(st.sets(st.sampled_from("abcde")), min_size=1, max_size=200),
)
def test_nobody_waits_longer_than_everyone_elses_quantum(quantum: int, arrivals: list[set[str]]) -> None:
    turns = Turns(quantum)
    waited: Counter[str] = Counter()
    for working in arrivals:
        chosen = turns.next(sorted(working))
        assert (chosen is None) == (not working)
        assert chosen is None or chosen in working
        for name in "abcde":
            waited[name] = waited[name] + 1 if name in working and name != chosen else 0
            assert waited[name] <= 4 * quantum


@given(quantum=st.integers(1, 5), stalls=st.lists(st.booleans(), min_size=1, max_size=100))
def test_stalling_experts_starve_nobody(quantum: int, stalls: list[bool]) -> None:
    turns = Turns(quantum)
    waited: Counter[str] = Counter()
    for stalls_now in stalls:
        chosen = turns.next(["a", "b", "c"])
        if stalls_now:
            turns.stalled()
        for name in "abc":
            waited[name] = 0 if name == chosen else waited[name] + 1
            assert waited[name] <= 2 * quantum
