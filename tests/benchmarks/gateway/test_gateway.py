"""``coe bench gateway`` from end to end, its load generator, and what its report says of runs."""

import asyncio
import io
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from rich.console import Console

from benchmarks.gateway.arrivals import Arrivals
from benchmarks.gateway.load import GENERATOR, PATH, Latency, Load, Outcome
from benchmarks.gateway.load_generator import Making
from benchmarks.gateway.measure import measure
from benchmarks.gateway.pinned import Cores
from benchmarks.gateway.proxy import DIRECT, NGINX, PASS_THROUGH, VLLM_ROUTER
from benchmarks.gateway.report import Added, Capacity, Plan, Report, Setting
from benchmarks.gateway.tables import show

PLAN = Plan(kinds=("stream",), streams=(2,), tokens=3, seconds=0.3, rounds=1, warming_s=0.1)
CORES = Cores(0, 1, 1)
SUBJECTS = {DIRECT, PASS_THROUGH, "gateway", "gateway, routed", "gateway, routed, read twice"}
two_cores = pytest.mark.skipif(Cores.of_this_machine() is None, reason="needs two cores")


def unheard(stage: str, done: int, total: int) -> None:
    pass


@two_cores
async def test_all_that_is_there_is_measured_and_what_is_not_says_why(tmp_path: Path) -> None:
    false = tmp_path / "nginx"
    false.write_text("#!/bin/sh\nexit 3\n")
    false.chmod(0o755)
    heard: list[tuple[str, int, int]] = []
    report = await measure(PLAN, lambda *said: heard.append(said), false, None)
    assert {each.subject for each in report.capacities} == SUBJECTS
    assert {each.subject for each in report.added} == SUBJECTS - {DIRECT}
    runs = [(each.subject, run) for each in report.capacities for run in each.runs]
    runs += [(each.subject, run) for each in report.added for run in (*each.direct, *each.through)]
    assert [(subject, run.failures) for subject, run in runs if run.failures] == []
    nginx, router = report.not_measured
    assert (nginx.subject, router.subject) == (NGINX, VLLM_ROUTER)
    assert "did not start: the engine's process ended with exit code 3" in nginx.reason
    assert router.reason == "no interpreter with vllm_router was named (--router-python)"
    assert all(done < total for _, done, total in heard)
    printed = io.StringIO()
    show(report, Console(file=printed, width=200))
    for text in ("closed loop", "open loop", "gateway, routed, read twice", "not measured: vllm-router"):
        assert text in printed.getvalue()
    assert {"capacities", "added", "compared", "not_measured"} <= report.json().keys()


@asynccontextmanager
async def answering(status: int, body: bytes, *, cut: bool = False) -> AsyncIterator[int]:
    """Its port."""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        if cut:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=status, body=body)

    app = web.Application()
    app.router.add_post(PATH, answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def plain(port: int, *, streams: int = 2, rate: float = 0.0) -> Load:
    return Load(port, "law", "plain", 3, seconds=1.0, warming_s=0.0, streams=streams, rate=rate, watched={})


async def test_whole_answers_count() -> None:
    async with answering(200, b'{"usage":1}') as port:
        for load in (plain(port), plain(port, streams=0, rate=200)):
            outcome = await Making(load).run()
            assert outcome.requests > 0
            assert outcome.failures == {}
            assert 0 < outcome.first.p50 <= outcome.last.p50 <= outcome.last.p99
            assert outcome.cpu_s.keys() == {GENERATOR}


@pytest.mark.parametrize(("status", "body"), [(200, b'{"usage":1'), (200, b"{}"), (503, b'{"usage":1}')])
async def test_answers_that_are_not_whole_are_failures(status: int, body: bytes) -> None:
    async with answering(status, body) as port:
        outcome = await Making(plain(port)).run()
        assert outcome.requests == 0
        assert list(outcome.failures) == [f"{status}: {body!r}"]


async def test_connections_that_end_in_an_answer_are_failures_and_others_follow() -> None:
    async with answering(200, b"", cut=True) as port:
        outcome = await Making(plain(port, streams=1)).run()
        assert outcome.requests == 0
        assert sum(outcome.failures.values()) > 1


async def test_arrivals_are_on_time_and_the_same_for_a_seed() -> None:
    gaps = []
    for _ in range(2):
        due: list[float] = []
        enough = asyncio.Event()

        def arrive(at: float, due: list[float] = due, enough: asyncio.Event = enough) -> None:
            assert at <= time.perf_counter()
            due.append(at)
            if len(due) >= 20:
                enough.set()

        arrivals = Arrivals(2000, 7, arrive)
        arrivals.begin()
        await asyncio.wait_for(enough.wait(), 30)
        arrivals.end()
        gaps.append([after - before for before, after in itertools.pairwise(due[:20])])
    assert gaps[0] == pytest.approx(gaps[1])


def run(requests: int, p50: float = 1.0, p99: float = 2.0, proxy_s: float = 0.5) -> Outcome:
    cpu = {"proxy": proxy_s, "engine": 0.2, GENERATOR: 0.1}
    return Outcome(requests, 1.0, Latency(p50, p99), Latency(p50, p99), 0.1, cpu, {})


def test_a_report_has_medians_differences_and_ratios() -> None:
    def capacity(subject: str, *requests: int, proxy_s: float = 0.5) -> Capacity:
        return Capacity(subject, "plain", 2, tuple(run(count, proxy_s=proxy_s) for count in requests))

    ours = capacity("gateway", 400, 100, 300)
    assert (ours.per_second, ours.per_core) == (300, 600)
    assert capacity(DIRECT, 100, proxy_s=0.0).per_core is None
    through = tuple(run(1, p50, 9.0) for p50 in (1.5, 1.4, 3.0))
    added = Added("gateway", "plain", 150.0, (run(1, 1.0),) * 3, through)
    assert (added.last.p50, added.last.p99) == pytest.approx((0.5, 7.0))
    capacities = (ours, capacity(PASS_THROUGH, 50), capacity(VLLM_ROUTER, 1000))
    plan = replace(PLAN, kinds=("plain",))
    report = Report(Setting(2, 0.0, CORES), plan, capacities, (added,), ())
    assert [(each.value, each.met) for each in report.compared] == [
        (pytest.approx(0.5), True),
        (pytest.approx(7.0), False),
        (6.0, True),
        (6.0, True),
        (pytest.approx(0.3), False),
        (pytest.approx(0.3), False),
    ]


def test_a_load_and_its_outcome_go_over_a_pipe() -> None:
    load = plain(80)
    assert Load.of(load.line()) == load
    outcome = run(5)
    assert Outcome.of(outcome.line()) == outcome
