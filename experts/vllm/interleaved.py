"""Full-weight experts that take turns token by token: vLLM with the classes of ``experts.inside_vllm``."""

import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from experts.engines.engine import EngineStatistics
from experts.engines.resident import Resident
from experts.errors import EngineUnavailable, LoadFailed
from experts.spec import Expert
from experts.vllm.address import Address
from experts.vllm.captures import Captures
from experts.vllm.command import INTERNAL_MODEL
from experts.vllm.engine import VllmEngine, absolute
from experts.vllm.server import VllmServer


class InterleavedEngine(VllmEngine):
    """An engine of mode ``interleaved``. It holds any number of experts. An expert is loaded in slices,
    between which the engine computes with others."""

    mode = "interleaved"

    _proven: frozenset[tuple[str, Resident]] = frozenset()
    """Experts, with the weights of theirs that have passed their canary."""

    def __init__(self, family: str, *arguments: Any, **more: Any) -> None:
        super().__init__(family, *arguments, **more)
        self._captures = Captures(family)

    @property
    def resident_limit(self) -> None:
        return None

    @property
    def sleep_after_s(self) -> float | None:
        return self._config.sleep_after_s

    async def sleep(self) -> None:
        self._captures.end_all()
        self._resident.clear()  # first: a request that comes meanwhile is refused
        async with self._captures.no_load:
            await self.server.worker("coe_sleep")
            # It names blocks that are gone. vLLM keeps it where a request that was aborted is not gone yet.
            said = orjson.loads(await self.server.command("/reset_prefix_cache") or b"{}")
            if not said.get("success", True):
                raise LoadFailed("its prefix cache is in use by a request that is not gone yet")
        if self._state == "ready":  # it may have died just now
            self._state = "asleep"

    async def stop(self) -> None:
        self._captures.end_all()
        await super().stop()

    async def unload(self, name: str) -> None:
        self._captures.end(name)
        # Removed here first: a request that comes meanwhile is refused rather than failed by the engine.
        if self._resident.pop(name, None) is not None:
            await self.server.worker("coe_unload", name)

    async def statistics(self) -> EngineStatistics:
        held = await self.server.occupancy()
        report = await self.server.worker("coe_statistics")
        return EngineStatistics(
            active=report["active"],
            resident=tuple(report["resident"]),
            switches=report["switches"],
            switch_seconds=report["switch_seconds"],
            busy_seconds=report["busy_seconds"],
            running=held.requests,
            kv_used=held.kv_used,
        )

    async def _held(self, expert: Expert) -> int:
        return int((await self.server.worker("coe_statistics"))["held_bytes"])

    async def _bring(self, expert: Expert, weights: Path, images: Path | None) -> int:
        async with self._captures.no_load:
            if self._state == "asleep":
                await self.server.worker("coe_wake")
                if self._state == "asleep":  # it may have died just now
                    self._state = "ready"
            report = await self._load(expert, weights, images)
        if report.get("captures"):
            self._captures.begin(self.server, expert.name, partial(self._prove_graphs, expert))
        return int(report["held_bytes"])

    async def _prove_graphs(self, expert: Expert, tried_as: str) -> None:
        if self._can_prove(expert):
            await self._prove(expert, tried_as)

    async def _load(self, expert: Expert, weights: Path, images: Path | None) -> dict[str, Any]:
        server, resident = self.server, Resident.of(weights)
        try:
            kept = absolute(images) if images else ""
            report = await server.worker("coe_load", expert.name, absolute(weights), resident.stamp, kept)
            while not report["whole"]:
                report = await server.worker("coe_load_more", expert.name)
            report = await server.worker("coe_load_end", expert.name)
            # An image whose weights have been proven is known to be right by its checksums.
            known = not report["converted"] and (expert.name, resident) in self._proven
            if self._can_prove(expert) and not known:
                self._resident.pop(expert.name, None)  # no request may use it yet
                await self._prove(expert)
                self._proven |= {(expert.name, resident)}
        except BaseException:
            await self._give_up_loading(server, expert.name)
            raise
        return report

    async def _give_up_loading(self, server: VllmServer, name: str) -> None:
        """Has the workers free what they loaded, as far as they still answer."""
        with suppress(EngineUnavailable, LoadFailed):
            if name not in self._resident:
                await server.worker("coe_unload", name)  # it may have been held already
                return
            # Where the last call was cancelled, which of its weights are held is unknown.
            self._resident[name] = Resident(f"{self._resident[name].stamp} {time.monotonic_ns()}")
            await server.worker("coe_load_abandon", name)

    def _address(self, expert: str, resident: Resident) -> Address:
        return Address(expert, INTERNAL_MODEL, named=True, resident=resident)
