"""Measures what open pages cost a gateway, and how old the state is that they show.

    python -m scripts.measure.pages --pages 100 --experts 150 --rounds 3

Starts a gateway over a simulated engine, reads one stream of it without an end and asks for short answers
beside it, so that there is always something to tell. Its processor time is measured in turns with no page
open and with all of them. The age is from when the gateway looked at its state to when a page had it, and the
pause between two looks comes on top of it. The first line is what each request costs for its story.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

from experts.simulated.engine import SimulatedEngine
from experts.spec import SimulationConfig
from memory_tiers.lease import Lease
from memory_tiers.observations import LeaseEnded, LeaseGranted
from router.composition import Choice
from router.decision import Decision
from scripts.measure.gaps import Stream, configured, gateway
from server.config.observation import ObservationConfig
from server.exchange.answer.token_counter import TokenCounter
from server.exchange.cancellation import Cancellable
from server.live.feed import EVERY_S
from server.observation.observer import Observer
from server.routing.routing import Route
from server.transport.disconnect import Disconnect

PER_S = 10
"""Short answers asked for a second."""


@dataclass
class Page:
    """An open page, as far as the gateway can tell: it reads the stream of changes."""

    url: str
    ages: list[float] = field(default_factory=list)
    bytes: int = 0

    async def read(self) -> None:
        """Reads until it is cancelled."""
        parts = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**24)
        writer.write(b"GET /v1/coe/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        with contextlib.closing(writer):
            while line := await reader.readline():
                self.bytes += len(line)
                if line.startswith(b'data: {"at":'):
                    self.ages.append(time.time() - json.loads(line[12 : line.index(b",")]))
        raise RuntimeError("the stream ended")


@contextlib.asynccontextmanager
async def open_pages(url: str, count: int) -> AsyncIterator[list[Page]]:
    """Pages that have their snapshot."""
    pages = [Page(url) for _ in range(count)]
    reading = [asyncio.create_task(page.read()) for page in pages]
    try:
        while not all(page.ages for page in pages):  # noqa: ASYNC110  # what they read comes from elsewhere
            await asyncio.sleep(0.05)
        yield pages
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def ask_on(url: str) -> None:
    """Asks for short answers until it is cancelled."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        for number in range(10**9):
            body = {"model": f"expert-{number % 8}", "max_tokens": 4}
            body |= {"messages": [{"role": "user", "content": "Hi"}]}
            (await http.post("/v1/chat/completions", json=body)).raise_for_status()
            await asyncio.sleep(1 / PER_S)


async def share_of_a_core(process: psutil.Process, seconds: float) -> float:
    """Measures the processor time of the gateway, its engine left out."""
    before, began = sum(process.cpu_times()[:2]), time.monotonic()
    await asyncio.sleep(seconds)
    return (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)


async def measure(url: str, process: psutil.Process, pages: int, rounds: int, seconds: float) -> None:
    """Prints medians of ``rounds``."""
    beside = [asyncio.create_task(Stream(url).read()), asyncio.create_task(ask_on(url))]
    without, with_pages, ages, sizes = [], [], list[float](), []
    try:
        await asyncio.sleep(3)
        for _ in range(rounds):
            without.append(await share_of_a_core(process, seconds))
            async with open_pages(url, pages) as opened:
                for page in opened:
                    page.ages.clear()
                    page.bytes = 0
                with_pages.append(await share_of_a_core(process, seconds))
                ages += [age for page in opened for age in page.ages]
                sizes.append(sum(page.bytes for page in opened) / len(opened) / seconds)
    finally:
        for task in beside:
            task.cancel()
        for done in await asyncio.gather(*beside, return_exceptions=True):
            if isinstance(done, Exception):
                print(f"beside: {done!r}")
    before, after = statistics.median(without), statistics.median(with_pages)
    ages.sort()
    print(f"no page          {before * 100:5.2f} % of a core")
    print(f"{pages:3} pages        {after * 100:5.2f} % of a core: {(after - before) * 100:.2f} % more")
    print(f"to each page     {statistics.median(sizes) / 1e3:5.1f} kB/s")
    median, late = ages[len(ages) // 2], ages[int(len(ages) * 0.99)]
    print(f"age of the state {median * 1e3:5.1f} ms, p99 {late * 1e3:.1f} ms")
    print(f"                 and at most {EVERY_S * 1e3:.0f} ms from one look to the next")


def cost_of_a_story(count: int = 100_000) -> float:
    """Measures in seconds what is noted of one routed request on its way, with its line of the log."""
    observer = Observer(ObservationConfig())
    decision = Decision("math", "math", 0.9, {"math": 0.9}, False, "math", {}, 0.001)
    route = Route("math", {}, "coe", Choice(decision, "map", decision, "a prompt"))
    lease = Lease("math", SimulatedEngine("small", SimulationConfig()), "device", 0.0, 0.0, lambda: None)
    record = logging.LogRecord("coe.requests", logging.INFO, "", 0, "a line", (), None)
    record.message = "a line"  # as the handler that writes it has left it
    disconnect = Disconnect()
    disconnect.working = asyncio.current_task()
    clock, began = observer.clock, time.process_time()
    for _ in range(count):
        story = observer.stories.begin("id", "/v1/chat/completions", "-", TokenCounter())
        with Cancellable(story, disconnect):
            story.route_at = clock()
            story.routed(route, clock())
            story.leased(lease, clock())
            observer.observe(LeaseGranted("math", "device", 0.0, 0.0))
            story.first_at = clock()
            observer.observe(LeaseEnded("math", 0.0))
        observer.stories.end(story, "200")
        observer.log_lines.handle(record)
    return (time.process_time() - began) / count


async def timed() -> float:
    """In a task, as requests are answered."""
    return cost_of_a_story()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", type=int, default=100, help="pages that are open")
    parser.add_argument("--experts", type=int, default=150, help="experts of the gateway")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each turn")
    options = parser.parse_args()
    print(f"a story costs    {asyncio.run(timed()) * 1e6:5.2f} us of processor time, without any page")
    with tempfile.TemporaryDirectory() as folder:
        configuration = configured(Path(folder), options.experts)
        with gateway(configuration) as (url, process):
            asyncio.run(measure(url, process, options.pages, options.rounds, options.seconds))


if __name__ == "__main__":
    main()
