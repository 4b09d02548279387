"""The seam between the tier manager and whatever computes: one engine serves the experts of one family.

Implementations: ``InterleavedEngine``, ``PlainEngine``, ``EmbedEngine`` and ``LoraEngine`` in
``experts.vllm``, ``experts.simulated.engine.SimulatedEngine`` and, asked over HTTP,
``experts.simulated.process.SimulatedProcess``. One contract-test suite
(``tests/experts/engines/test_engine_contract.py``) runs over all of them.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from experts.spec import Expert

EngineState = Literal["stopped", "asleep", "starting", "ready", "dead"]
Body = Mapping[str, Any]
"""A JSON object on its way to vLLM; the gateway owns a few fields and passes the others through."""
NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of a load: the bytes that the expert now holds on the device, the seconds it took."""

    bytes: int
    seconds: float
    image_bytes: int = 0
    """Bytes of its engine-format image in host memory; 0 when there is none."""


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """Counters since the engine started. ``resident``: the experts on the device; ``active``: the one
    computing now, None where none is or all are (LoRA experts share every step and never switch)."""

    active: str | None
    resident: tuple[str, ...]
    switches: int
    switch_seconds: float
    busy_seconds: float | None
    """Seconds of all steps, switches included; None where they are not measured (plain vLLM)."""
    running: int
    """Requests that the engine holds, computing or waiting; zero when none was left behind."""
    kv_used: float | None = None
    """Share of the KV cache that requests under way use, from 0 to 1; None where there is none."""


class EngineResponse(Protocol):
    """An HTTP response of the engine whose first bytes have arrived."""

    status: int
    content_type: str

    def chunks(self) -> AsyncIterator[bytes]:
        """Yields the body as it comes, in whole events where it is a stream. Raises EngineLost when the
        engine ends before the response does, AnswerFailed when it gives the response up."""
        ...

    async def whole(self) -> bytes:
        """Reads all of the body, in the place of ``chunks``. Raises what that does."""
        ...

    async def close(self) -> None:
        """Ends the request; the engine stops computing for it. Idempotent, and safe after the end."""
        ...


class Answering(Protocol):
    """Takes requests, as an engine does."""

    @property
    def state(self) -> EngineState: ...

    async def request(
        self, expert: str, path: str, body: Body, headers: Mapping[str, str] = NO_HEADERS
    ) -> EngineResponse:
        """Sends ``body`` to vLLM's ``path`` (such as ``/v1/chat/completions``), computed with ``expert``.

        The engine adds what it needs to tell experts apart (model name, xargs, cache salt) and replaces its
        internal model name by ``expert`` in what comes back. Returns when the first bytes have arrived.
        ``headers`` of its trace go along. Raises EngineUnavailable when no answer came (the client can have
        seen nothing) and ExpertNotResident when ``expert`` is not on the device. An HTTP error of vLLM is a
        response with its status. Cancelling the caller cancels the work in the engine.
        """
        ...

    async def alive(self) -> bool:
        """Asks the engine, within a second or two, whether a request would reach it."""
        ...


class Engine(Answering, Protocol):
    """One engine. The tier manager calls loads and unloads one at a time; requests come concurrently.

    An engine starts with one expert resident. Whatever fails in ``load`` leaves the resident ones serving.
    """

    @property
    def family(self) -> str: ...

    @property
    def resident_limit(self) -> int | None:
        """Most experts the engine can hold whatever their size; None: only memory counts. An engine of one
        (plain vLLM) gives no memory back: it only takes another expert instead."""
        ...

    @property
    def held_bytes(self) -> int:
        """Bytes of the device's budget that the engine takes as long as it runs, whichever experts are
        resident: the base of LoRA experts and the places for their adapters. Zero where all weights are some
        expert's."""
        ...

    @property
    def devices(self) -> tuple[int, ...]:
        """The numbers of the GPUs that it computes on, where these are configured; an expert takes an equal
        part of each."""
        ...

    @property
    def sleep_after_s(self) -> float | None:
        """Seconds after which it may ``sleep`` when it is unused; None: it cannot."""
        ...

    async def start(self, expert: Expert, weights: Path) -> Loaded:
        """Starts with ``expert`` resident, reading ``weights`` (a folder as in ``Expert.folder``), warmed up.

        Allowed when ``stopped`` or ``dead``. Raises EngineStartFailed with the first cause in its log.
        """
        ...

    async def stop(self) -> None:
        """Ends the engine and everything it started; leaves nothing. Idempotent, also while starting."""
        ...

    async def sleep(self) -> None:
        """Gives back the device's memory, and keeps its processes; no expert is resident then, and ``load``
        wakes it. No request uses it. Raises EngineUnavailable, LoadFailed: it is then to be stopped."""
        ...

    async def died(self) -> str:
        """Waits until the started engine ends without ``stop`` and returns why, with the last log lines."""
        ...

    async def load(self, expert: Expert, weights: Path, images: Path | None = None) -> Loaded:
        """Makes ``expert`` resident, reading ``weights``. With a ``resident_limit`` of one it takes the place
        of the resident expert, which the caller has made sure no request uses; with more, the engine holds
        one above its limit until the caller unloads the one that is replaced. Loading a resident expert again
        is allowed and reads the weights anew, if their files changed.

        ``images``: a folder of this expert's in host memory, which may hold its weights in the engine's own
        format from an earlier load. A good image there is used instead of ``weights``; where there is none,
        an engine that can leaves one. Raises LoadFailed (DeviceFull where memory of the device has run out),
        EngineUnavailable."""
        ...

    async def unload(self, name: str) -> None:
        """Frees the device memory of a resident expert that no request uses. Unknown names are ignored."""
        ...

    async def statistics(self) -> EngineStatistics:
        """Raises EngineUnavailable."""
        ...
