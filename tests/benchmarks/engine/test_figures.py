"""What ``coe bench engine`` decides and computes without an engine: workload, swap queue, figures, ratios."""

import io
import math
import random
from collections import Counter
from dataclasses import replace
from itertools import islice

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.engine.asking import Reading, Served
from benchmarks.engine.closed_loop import Run
from benchmarks.engine.figures import Aim, Figures, Measured, figures, median, percentile, ratios
from benchmarks.engine.rival import INTERLEAVED, PROCESSES, SWAPPING, Switching
from benchmarks.engine.swap_queue import Action, Grant, Swap, SwapQueue
from benchmarks.engine.workload import Cell, Plan, experts_in_order
from benchmarks.tiers.measure import event_cost
from benchmarks.tiers.measure import measure as measure_tiers
from benchmarks.tiers.measure import show as show_tiers
from experts.errors import EngineLost

PLAN = Plan(experts=(2, 4), streams=(16, 64), tokens=32, requests=2, burst=16, repeat=1)


# workload


def test_alternating_requests_go_round() -> None:
    assert list(islice(experts_in_order("alternating", ["a", "b", "c"], 9), 5)) == ["a", "b", "c", "a", "b"]


def test_bursts_are_for_one_expert_each() -> None:
    assert "".join(islice(experts_in_order("bursty", ["a", "b"], 3), 8)) == "aaabbbaa"


def test_one_expert_is_measured_alone_also_when_nobody_asks_for_it() -> None:
    assert PLAN.counts() == (1, 2, 4)


def test_one_expert_is_measured_with_as_many_streams_as_each_of_several_has() -> None:
    assert [cell.streams for cell in PLAN.cells(1)] == [16, 64]
    assert [cell.streams for cell in PLAN.cells(1, same_batches=True)] == [4, 8, 16, 32, 64]


def test_several_experts_are_measured_on_both_workloads() -> None:
    cells = PLAN.cells(4)
    assert cells == [Cell(kind, 4, streams) for kind in ("alternating", "bursty") for streams in (16, 64)]


def test_a_cell_has_a_bounded_number_of_requests_spread_over_its_experts() -> None:
    questions = list(PLAN.questions(Cell("alternating", 4, 16), ["a", "b", "c", "d", "e"], "0"))
    assert Counter(question.expert for question in questions) == {"a": 8, "b": 8, "c": 8, "d": 8}


def test_a_plan_whose_bursts_do_not_reach_every_expert_says_so() -> None:
    assert PLAN.problem() == (
        "bursts of 16 for 4 experts are 64 requests, but 16 streams ask 32: lower --burst or raise --requests"
    )
    assert replace(PLAN, burst=8).problem() is None


def test_no_question_is_asked_twice() -> None:
    prompts = [
        question.prompt
        for salt in ("0", "1")
        for count in PLAN.counts()
        for cell in PLAN.cells(count)
        for question in PLAN.questions(cell, ["a", "b", "c", "d"], salt)
    ]
    assert len(set(prompts)) == len(prompts)


# swap queue


def test_requests_for_the_resident_expert_run_at_once() -> None:
    queue = SwapQueue("a")
    assert queue.arrived(1, "a") == [Grant(1)]
    assert queue.arrived(2, "b") == []
    assert queue.arrived(3, "a") == [Grant(3)]


def test_another_expert_is_loaded_once_nothing_runs() -> None:
    queue = SwapQueue("a")
    queue.arrived(1, "a")
    queue.arrived(2, "b")
    assert queue.finished() == [Swap("b")]
    assert queue.arrived(3, "a") == []
    assert queue.swapped("b") == [Grant(2)]
    assert queue.finished() == [Swap("a")]


def test_requests_that_alternate_are_served_expert_by_expert() -> None:
    queue = SwapQueue("a")
    for number, expert in enumerate("abab"):
        queue.arrived(number, expert)
    assert [*queue.finished(), *queue.finished()] == [Swap("b")]
    assert queue.swapped("b") == [Grant(1), Grant(3)]
    assert repr(queue) == "<SwapQueue [resident: b, running: 2, waiting: 0]>"


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_every_request_runs_once_and_only_while_its_expert_is_resident(
    experts: list[str], choose: random.Random
) -> None:
    queue, arriving = SwapQueue("a"), list(enumerate(experts))
    ran: list[int] = []
    loading: list[str] = []

    def note(actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Grant(number):
                    assert experts[number] == queue.resident
                    assert not loading
                    ran.append(number)
                case Swap(expert):
                    assert queue.running == 0
                    loading.append(expert)

    while arriving or queue.running or loading:
        possible = ["arrive"] * bool(arriving) + ["finish"] * bool(queue.running) + ["swap"] * bool(loading)
        match choose.choice(possible):
            case "arrive":
                note(queue.arrived(*arriving.pop(0)))
            case "finish":
                note(queue.finished())
            case "swap":
                note(queue.swapped(loading.pop()))
    assert sorted(ran) == list(range(len(experts)))


# the stream of one answer


def event(text: str | None = None, **more: object) -> bytes:
    choices = [] if text is None else [{"delta": {"content": text}}]
    return b"data: " + orjson.dumps({"choices": choices, **more}) + b"\r\n\r\n"


def test_the_first_token_is_the_first_text_and_tokens_are_what_usage_says() -> None:
    reading = Reading()
    received = (
        event("") + event("Hel") + event("lo") + event(usage={"completion_tokens": 7}) + b"data: [DONE]\n\n"
    )
    for at, byte in enumerate(received):
        reading.feed(bytes([byte]), float(at))
    first = len(event("") + event("Hel")) - 3  # the line end
    assert reading.served(asked=0.0) == Served(float(first), 7)


def test_without_usage_every_event_with_text_is_a_token() -> None:
    reading = Reading()
    reading.feed(event("a") + event("") + event("b") + event("c"), 2.0)
    assert reading.served(asked=0.5) == Served(1.5, 3)


def test_an_error_event_is_not_a_short_answer() -> None:
    with pytest.raises(EngineLost, match="no room"):
        Reading().feed(b'data: {"error": {"message": "no room"}}\n\n', 0.0)


def test_an_answer_without_text_is_an_error() -> None:
    with pytest.raises(EngineLost, match="without text"):
        Reading().served(asked=0.0)


# figures


def run_of(*waits: float, seconds: float = 2.0, tokens: int = 10) -> Run:
    return Run(seconds, tuple(Served(wait, tokens) for wait in waits), Switching(3, 0.5))


def test_figures_of_a_run() -> None:
    found = figures(run_of(*(wait / 100 for wait in range(101))))
    assert (found.requests, found.tokens, found.tokens_per_s) == (101, 1010, 505.0)
    assert math.isclose(found.first_token_p50_s, 0.50)
    assert math.isclose(found.first_token_p99_s, 0.99)
    assert (found.switches, found.switch_share) == (3, 0.25)


def test_a_percentile_between_two_values_is_interpolated() -> None:
    assert math.isclose(percentile([1.0, 2.0], 99), 1.99)


def test_medians_are_of_each_figure_by_itself() -> None:
    runs = [figures(run_of(wait, seconds=seconds)) for wait, seconds in ((1, 9), (2, 5), (3, 7))]
    assert (median(runs).seconds, median(runs).first_token_p50_s) == (7, 2)


# ratios


def measured(rival: str, cell: Cell, tokens_per_s: float, p99: float = 1.0) -> Measured:
    found = Figures(8, 80, 1.0, tokens_per_s, p99 / 2, p99, 0, 0.0)
    return Measured(rival, cell, (found,))


def test_ratios_stand_beside_their_aims() -> None:
    cell = Cell("alternating", 2, 16)
    found = ratios(
        [
            measured(INTERLEAVED, Cell("alternating", 1, 8), 100),
            measured(INTERLEAVED, Cell("alternating", 1, 16), 150),
            measured(INTERLEAVED, cell, 90, p99=1.0),
            measured(SWAPPING, cell, 60, p99=4.0),
            measured(PROCESSES, cell, 30),
        ]
    )
    assert [(ratio.what, ratio.value, ratio.met) for ratio in found] == [
        ("tokens/s to drain then swap", 1.5, True),
        ("p99 first token to drain then swap", 0.25, False),
        ("tokens/s to one process each", 3.0, True),
        ("tokens/s to one expert, same streams", 0.6, None),
        ("tokens/s to one expert, same batches", 0.9, True),
    ]


def test_bursts_are_not_compared_with_batches_of_equal_size() -> None:
    found = ratios(
        [
            measured(INTERLEAVED, Cell("alternating", 1, 8), 100),
            measured(INTERLEAVED, Cell("bursty", 2, 16), 90),
        ]
    )
    assert found == []


def test_one_expert_has_no_ratios() -> None:
    alone = Cell("alternating", 1, 16)
    assert ratios([measured(INTERLEAVED, alone, 100), measured(SWAPPING, alone, 50)]) == []


def test_an_aim_is_met_at_its_value() -> None:
    assert Aim("at least", 0.85).met(0.85)
    assert Aim("at most", 0.2).met(0.2)
    assert not Aim("at most", 0.2).met(0.21)


# tiers


def test_an_event_with_tickets_waiting_is_timed() -> None:
    cost = event_cost(experts=30, fits=4, aim=Aim("at most", 20.0), waiting=20, events=50)
    assert cost.experts == 30
    assert 0 < cost.p50 <= cost.p99


def test_policies_stand_beside_their_rivals_and_a_missed_aim_is_said_to_be_missed() -> None:
    report = measure_tiers(requests=60, seed=1, progress=lambda stage, done, total: None, events=20)
    assert len(report.costs) == 4
    assert [(ratio.what, ratio.aim.value) for ratio in report.ratios[:2]] == [
        ("lru: moves to Belady's bound", 1.15),
        ("lru: moves to Belady in the same tiers", 1.15),
    ]
    missed = replace(report, ratios=(replace(report.ratios[0], value=1.16),))
    text = io.StringIO()
    show_tiers(missed, Console(file=text, width=150))
    assert "missed" in text.getvalue().split("beside the aims")[1]
    assert missed.json()["ratios"][0]["met"] is False
