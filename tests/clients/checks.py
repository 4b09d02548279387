"""What every session of a client has: where it goes, checks that run one after another, and what a gateway
shows when a client has left. Standard library only: each client has packages of its own."""

import asyncio
import inspect
import os
import sys
import time
import traceback
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from typing import NoReturn

URL = os.environ.get("BASE_URL", "http://127.0.0.1:8000")
"""Of the gateway, without a path."""
API = f"{URL}/v1"
KEY = os.environ.get("API_KEY", "none")
"""``none``: the gateway asks for no key."""
MODEL = os.environ.get("MODEL", "general")
COMPOSITION = os.environ.get("COMPOSITION", "coe")
EMBEDDER = os.environ.get("EMBEDDER", COMPOSITION)
"""What embeddings are asked of."""
PROMPT = "Why is the sky blue? Answer in one sentence."

Check = Callable[[], None] | Callable[[], Awaitable[None]]


class Session:
    """Checks of one client, in the order of their definition."""

    def __init__(self) -> None:
        self._checks: list[Check] = []

    def check(self, function: Check) -> Check:
        """A decorator. The check's name is the function's."""
        self._checks.append(function)
        return function

    async def run(self) -> NoReturn:
        """One line each; ends the process, with 1 where a check failed."""
        failed = 0
        for check in self._checks:
            name, began = check.__name__.replace("_", " "), time.monotonic()
            try:
                waits = check()
                if inspect.isawaitable(waits):
                    await waits
            except Exception as error:
                failed += 1
                print(f"FAIL {name}: {said(error)}", flush=True)
                traceback.print_exc()
            else:
                print(f"ok   {name} ({time.monotonic() - began:.1f} s)", flush=True)
        print(f"{len(self._checks) - failed} passed, {failed} failed", flush=True)
        sys.exit(1 if failed else 0)


def said(error: BaseException) -> str:
    """On one line, with what it came of."""
    cause = "" if error.__cause__ is None else f", of {said(error.__cause__)}"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}{cause}"


class Leaving:
    """The client leaves an answer under way inside. Fails where the gateway does not notice within a minute
    that one more client has left, or goes on holding a lease. As an async one it lets the client's loop go
    on meanwhile, in which libraries close what was left."""

    def __enter__(self) -> None:
        self._before = _left()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            for _ in self._unnoticed():
                time.sleep(0.05)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            for _ in self._unnoticed():
                await asyncio.sleep(0.05)

    def _unnoticed(self) -> Iterator[None]:
        deadline = time.monotonic() + 60
        while _left() != self._before + 1 or _total("coe_leases", ""):
            assert time.monotonic() < deadline, "the gateway did not notice that its client left"
            yield


async def until_answered() -> None:
    """Waits until an expert has begun to answer. Fails after a minute."""
    deadline = time.monotonic() + 60
    while not _total("coe_leases", ""):
        assert time.monotonic() < deadline, "no expert began to answer"
        await asyncio.sleep(0.05)


def _left() -> float:
    return _total("coe_requests_total", 'outcome="client_left"')


def _total(name: str, label: str) -> float:
    request = urllib.request.Request(f"{URL}/metrics", headers={"authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    assert any(line.startswith(f"# TYPE {name} ") for line in lines), f"there is no series {name}"
    series = (line.rsplit(" ", 1) for line in lines if line.startswith((f"{name}{{", f"{name} ")))
    return sum(float(value) for labels, value in series if label in labels)
