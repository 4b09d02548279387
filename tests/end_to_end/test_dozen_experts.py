"""Twelve experts on real vLLM, four on the device, eight on the host: hundreds of requests, and the books."""

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from experts.engines.canary import FLOAT32, HALF
from experts.engines.computing_type import computes_bfloat16
from memory_tiers.simulator.trace import Kind, generate
from server.cli.operator_client import OperatorClient
from tests.conftest import NIGHT
from tests.end_to_end.conftest import ROOT, GatewayProcess, serving
from tests.end_to_end.crowd import Answer, Question, ask_all
from tests.end_to_end.held_bytes import Held, held, on_device, shared_memory_of
from tests.end_to_end.test_composition import eventually
from tests.end_to_end.twelve import (
    FAMILY,
    TWELVE,
    checkpoint_bytes,
    configured,
    expert_bytes,
    make_blends,
    prepare_all,
    remove_weights,
)
from tests.end_to_end.waits import read_waits

pytestmark = pytest.mark.engine

ON_DEVICE, ON_HOST = 4, 8
PROMPTS = (
    "Write a short poem about the sea.",
    "Name three rivers in Europe.",
    "Can my landlord evict me without notice?",
    "Solve 3x + 5 = 20.",
)
"""On which the twelve differ, in bfloat16 too: each two of them on two of the four at least."""
TOKENS = 8
CLIENTS = 48
"""Four for each expert: with half as many the engine spent two thirds of the time on loads."""
TOLERANCE = HALF if computes_bfloat16() else FLOAT32
NEAR = 0.05
MOVES = "coe_move_seconds_count{", "coe_move_seconds_sum{", "coe_move_bytes_sum{"


@dataclass(frozen=True, slots=True)
class Phase:
    """``fits``: built to hurt a tier that holds so many experts."""

    requests: int
    fits: int


PHASES: Mapping[Kind, Phase] = {
    "zipf": Phase(700 if NIGHT else 120, ON_DEVICE),
    "adversarial": Phase(150 if NIGHT else 50, ON_DEVICE),
    "round-robin": Phase(150 if NIGHT else 50, ON_HOST),
}
REQUESTS = sum(phase.requests for phase in PHASES.values())


@dataclass(frozen=True, slots=True)
class Stock:
    """``full``: with all that the device holds. ``fewer``: after all but one were sent to the host."""

    full: Held
    fewer: Held


@dataclass(slots=True)
class Day:
    """All that was seen of one gateway."""

    folder: Path
    first: dict[Question, Answer] = field(default_factory=dict)
    """What each expert said to each prompt when it was asked alone."""
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    """Of the crowd, by phase."""
    seconds: dict[str, float] = field(default_factory=dict)
    start: Held | None = None
    """With the expert alone that the engine started with."""
    stocks: dict[str, Stock] = field(default_factory=dict)
    """After each phase."""
    series: dict[str, float] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    """Processes and shared memory that were there after the end."""

    @property
    def crowd(self) -> list[Answer]:
        return [answer for answers in self.answers.values() for answer in answers]

    @property
    def log(self) -> Path:
        return self.folder / "tiers.log"


@pytest.fixture(scope="module")
def day(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    day = Day(tmp_path_factory.mktemp("dozen"))
    try:
        make_blends(store / "general", day.folder / "blends")
        configuration = configured(
            day.folder,
            {
                "device": ON_DEVICE * expert_bytes() + expert_bytes() // 2,
                # A checkpoint that is being converted stands beside the images until its own is there.
                "host": ON_HOST * expert_bytes() + checkpoint_bytes() + expert_bytes() // 2,
                "max_wait_s": 20,
                "min_residency_s": 0.5,
            },
            {"max_model_len": 2048, "kv_cache": "192MiB", "max_num_seqs": 32},
        )
        prepare_all(store, configuration, day.folder)
        with serving(configuration, day.folder / "stderr.log") as gateway:
            live_through(day, gateway)
            processes, files = gateway.descendants(), shared_memory_of(gateway)
        day.left += [str(each) for each in processes if each.is_running() and each.status() != "zombie"]
        day.left += [str(file) for file in files if file.exists()]
        write_figures(day)
        yield day
    finally:
        remove_weights(day.folder)


def live_through(day: Day, gateway: GatewayProcess) -> None:
    use_all_memory(gateway)
    day.start = held(gateway)
    alone = [Question(expert, prompt) for expert in TWELVE for prompt in PROMPTS]
    day.first = {each.question: each for each in asked(gateway, alone, clients=1)}
    take_stock(day, gateway, "alone")
    for kind, phase in PHASES.items():
        trace = generate(kind, TWELVE, phase.requests, rate=1.0, seed=0, fits=phase.fits)
        questions = map(Question, (request.expert for request in trace), itertools.cycle(PROMPTS))
        began = time.monotonic()
        day.answers[kind] = asked(gateway, questions, CLIENTS)
        day.seconds[kind] = time.monotonic() - began
        take_stock(day, gateway, kind)
    day.series = gateway.series()


def use_all_memory(gateway: GatewayProcess) -> None:
    """An engine takes memory for its KV pool and for its largest batches when it first needs it."""
    long = [Question(TWELVE[0], f"{number} " * 900) for number in range(10)]
    short = [Question(TWELVE[0], prompt) for prompt in PROMPTS * (CLIENTS // 2)]
    for questions in (long, short):
        assert all(answer.is_whole(TOKENS) for answer in asked(gateway, questions, CLIENTS))


def asked(gateway: GatewayProcess, questions: Iterable[Question], clients: int) -> list[Answer]:
    return asyncio.run(ask_all(gateway.url, questions, clients, TOKENS))


def take_stock(day: Day, gateway: GatewayProcess, phase: str) -> None:
    """Once nothing moves any more. What an engine takes for itself (its batches, its allocator) drifts by
    more than 5 % of its experts while it serves, so experts are weighed by what goes when they go. An expert
    that leaves takes with it what the allocator kept since the last one left (``malloc_trim``), so one leaves
    and comes back before the first weighing."""
    wait_until_quiet(gateway)
    first, *others = sorted(on_device(gateway.series()))
    with OperatorClient(gateway.url) as operator:
        operator.order("demote", first, "host")
        eventually(lambda: first not in on_device(gateway.series()), "one has left")
        operator.order("load", first, "device")
        eventually(lambda: first in on_device(gateway.series()), "it is back")
        wait_until_quiet(gateway)
        full = held(gateway)
        for expert in others:
            operator.order("demote", expert, "host")
    eventually(lambda: len(on_device(gateway.series())) == 1, "all but one have left")
    wait_until_quiet(gateway)
    day.stocks[phase] = Stock(full, held(gateway))


def wait_until_quiet(gateway: GatewayProcess) -> None:
    seen: list[float] = []

    def quiet() -> bool:
        seen.append(gateway.total("coe_move_seconds_count{"))
        return len(seen) > 20 and seen[-20] == seen[-1]

    eventually(lambda: gateway.total("coe_leases{") == 0, "every lease came back")
    eventually(quiet, "nothing moves")


def write_figures(day: Day) -> None:
    """For people: printed, and in ``figures.json``."""
    waits = read_waits(day.log)
    queued = sorted(wait.seconds for wait in waits.waits)
    figures = {
        "requests_per_s": {kind: round(len(day.answers[kind]) / day.seconds[kind], 2) for kind in PHASES},
        "tiers_found_in": Counter(answer.tier for answer in day.crowd),
        "queue_s": {
            "p50": queued[len(queued) // 2],
            "p99": queued[len(queued) * 99 // 100],
            "max": queued[-1],
        },
        "bound": {
            "max_wait_s": waits.max_wait,
            "turn_s": round(waits.turn, 3),
            "overdue": len(waits.overdue),
        },
        "moves": {name: value for name, value in day.series.items() if name.startswith(MOVES) and value},
        "bytes": {phase: asdict(stock) for phase, stock in day.stocks.items()},
    }
    text = json.dumps(figures, indent=2)
    (day.folder / "figures.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def test_requests_of_all_experts_are_answered_in_full(day: Day) -> None:
    assert len(day.crowd) == REQUESTS
    assert [answer for answer in day.crowd if not answer.is_whole(TOKENS)] == []
    assert len({answer.question.expert for answer in day.crowd}) == len(TWELVE)


def test_each_expert_says_in_a_crowd_what_it_says_alone(day: Day) -> None:
    wrong = [
        (answer, day.first[answer.question])
        for answer in day.crowd
        if not answer.agrees(day.first[answer.question], TOLERANCE)
    ]
    assert wrong == []


def test_no_two_experts_could_be_taken_for_each_other(day: Day) -> None:
    alike = [
        (one, other)
        for one, other in itertools.combinations(TWELVE, 2)
        if all(
            day.first[Question(one, prompt)].agrees(day.first[Question(other, prompt)], TOLERANCE)
            for prompt in PROMPTS
        )
    ]
    assert alike == []


def test_nobody_waits_longer_than_the_bound_and_the_turns_of_those_who_waited_longer(day: Day) -> None:
    waits = read_waits(day.log)
    assert len(waits.waits) >= REQUESTS
    assert [wait for wait in waits.waits if wait.seconds > waits.bound(wait)] == []


def test_the_device_holds_four_and_the_host_eight(day: Day) -> None:
    for phase, stock in day.stocks.items():
        assert stock.full.residents == ON_DEVICE, phase
        assert ON_DEVICE < stock.full.images <= ON_HOST, phase


def test_the_first_expert_is_charged_what_an_expert_takes(day: Day) -> None:
    assert day.start is not None
    assert day.start.residents == 1
    assert day.start.device_claimed == pytest.approx(expert_bytes(), rel=NEAR)


@pytest.mark.parametrize("phase", ["alone", *PHASES])
def test_the_bytes_in_the_metrics_are_those_the_processes_hold(day: Day, phase: str) -> None:
    stock = day.stocks[phase]
    assert stock.fewer.residents == 1
    assert stock.full.growth(stock.fewer) == pytest.approx(stock.full.growth_claimed(stock.fewer), rel=NEAR)
    for moment in (stock.full, stock.fewer):
        assert moment.shared == pytest.approx(moment.host_claimed, rel=NEAR)


def test_nobody_waits_and_nothing_is_held_in_the_end(day: Day) -> None:
    series = day.series
    assert sum(value for name, value in series.items() if name.startswith("coe_leases{")) == 0
    assert series[f'coe_engine_requests{{family="{FAMILY}"}}'] == 0
    assert day.left == []


def test_the_event_log_replays_to_the_same_actions(day: Day) -> None:
    command = [sys.executable, "-m", "server.cli", "tiers", "replay", str(day.log)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "led to the recorded actions" in done.stdout
