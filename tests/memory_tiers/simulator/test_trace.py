"""Who asks for which expert when."""

import random
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from memory_tiers.errors import SimulationImpossible
from memory_tiers.simulator.trace import KINDS, Kind, Request, abaacabc, experts_of, generate, names, read
from tests.memory_tiers.driver.test_event_log import recorded


def test_the_adversarial_mix_is_abaacabc_for_three_experts() -> None:
    assert "".join(islice(abaacabc("ABC"), 16)) == "ABAACABC" * 2


def test_with_more_experts_pairs_of_the_others_take_turns() -> None:
    assert "".join(islice(abaacabc("ABCDE"), 16)) == "ABAACABC" + "ADAAEADE"


def test_with_one_expert_there_is_nobody_else_to_ask_for() -> None:
    assert "".join(islice(abaacabc("A"), 4)) == "AAAA"


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_trace_in_order_of_time(kind: Kind) -> None:
    trace = generate(kind, names(5), 50, rate=10.0, seed=3, fits=2)
    assert trace == generate(kind, names(5), 50, rate=10.0, seed=3, fits=2)
    assert trace != generate(kind, names(5), 50, rate=10.0, seed=4, fits=2)
    assert [request.at for request in trace] == sorted(request.at for request in trace)


def test_requests_come_at_the_rate_and_the_first_expert_of_zipf_most_often() -> None:
    trace = generate("zipf", names(10), 5000, rate=10.0, seed=0, fits=2)
    assert 450 < trace[-1].at < 550
    counts = Counter(request.expert for request in trace)
    assert 1.5 < counts["expert-1"] / counts["expert-2"] < 2.5
    assert experts_of(trace)[0] == "expert-1"


def test_round_robin_goes_over_one_more_than_fit() -> None:
    trace = generate("round-robin", names(9), 7, rate=1.0, seed=0, fits=2)
    assert [request.expert[-1] for request in trace] == [*"1231231"]


def test_a_file_is_sorted_and_begins_at_its_first_request(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text('{"at": 7, "expert": "b", "service_s": 0.5}\n{"at": 5, "expert": "a"}\n')
    assert read(path) == [Request(0.0, "a"), Request(2.0, "b", 0.5)]


def test_an_event_log_is_a_trace_whose_leases_tell_how_long_answers_take(tmp_path: Path) -> None:
    world = recorded(tmp_path / "log", 4)
    trace = read(tmp_path / "log")
    assert len(trace) == world.tickets
    assert len({request.expert for request in trace}) > 1
    assert any(request.service_s for request in trace)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no requests"),
        ("nonsense\n", "line 1: not JSON"),
        ('{"at": 1, "expert": "a"}\n{"expert": "a"}\n', "line 2: expected"),
        ("[1]\n", "line 1: expected"),
        ('{"at": -1, "expert": "a"}\n', "line 1: seconds must be"),
        ('{"at": NaN, "expert": "a"}\n', "line 1: seconds must be"),
    ],
)
def test_what_is_no_trace_is_refused_with_the_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "trace"
    path.write_text(text)
    with pytest.raises(SimulationImpossible, match=says):
        read(path)


def test_a_file_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(SimulationImpossible, match="No such file"):
        read(tmp_path / "missing")


def test_a_trace_does_not_depend_on_other_randomness() -> None:
    random.seed(1)
    first = generate("uniform", names(3), 5, rate=1.0, seed=0, fits=1)
    random.seed(2)
    assert generate("uniform", names(3), 5, rate=1.0, seed=0, fits=1) == first
