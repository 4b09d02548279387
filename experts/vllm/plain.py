"""Unmodified vLLM that holds one expert of full weights, and replaces it by pause, reload and resume."""

import asyncio
import logging
import time
from dataclasses import replace
from pathlib import Path

from experts.checkpoints.tensor_headers import TensorHeader, check_same_family, read_headers
from experts.engines.engine import EngineStatistics
from experts.engines.resident import Resident
from experts.errors import CheckpointError, EngineStartFailed, LoadFailed
from experts.spec import Expert
from experts.vllm.address import Address
from experts.vllm.command import INTERNAL_MODEL
from experts.vllm.engine import VllmEngine, absolute
from experts.vllm.server import VllmServer

logger = logging.getLogger(__name__)
_NOTHING_YET = EngineStatistics(
    active=None, resident=(), switches=0, switch_seconds=0.0, busy_seconds=None, running=0
)


class PlainEngine(VllmEngine):
    """An engine of mode ``plain``."""

    mode = "plain"

    # Of the run that has started.
    _family_tensors: tuple[TensorHeader, ...] = ()
    _computing = Path()
    """The folder whose weights are in the model, also when their expert has been unloaded."""
    _reloads = _NOTHING_YET

    @property
    def resident_limit(self) -> int:
        return 1

    async def statistics(self) -> EngineStatistics:
        held = await self.server.occupancy()
        resident = tuple(self._resident)
        active = resident[0] if resident else None
        counted = replace(self._reloads, active=active, resident=resident)
        return replace(counted, running=held.requests, kv_used=held.kv_used)

    async def _start(self, expert: Expert, weights: Path) -> int:
        held = await super()._start(expert, weights)
        try:
            self._family_tensors = await asyncio.to_thread(read_headers, weights)
        except CheckpointError as error:
            raise EngineStartFailed(f"engine of {self._family}: {error}") from error
        self._reloads = _NOTHING_YET
        self._computing = weights
        return held

    async def _bring(self, expert: Expert, weights: Path, images: Path | None) -> int:
        found = await asyncio.to_thread(read_headers, weights)
        check_same_family(weights, self._family_tensors, found)
        server, before = self.server, dict(self._resident)
        self._resident.clear()  # until the weights in the model are known
        begun = time.monotonic()
        try:
            await server.command("/pause?mode=wait")
            await self._reload(server, weights)
            await server.command("/resume")
            seconds = self._reloads.switch_seconds + time.monotonic() - begun
            if self._can_prove(expert):
                await self._prove(expert)
        except LoadFailed:  # the weights may be half overwritten, or wrong
            await server.command("/pause?mode=wait")
            await self._restore_or_end(server, self._computing)
            self._resident.update(before)
            raise
        finally:
            if server.process.running:
                await server.command("/resume")
        self._computing = weights
        self._reloads = replace(self._reloads, switches=self._reloads.switches + 1, switch_seconds=seconds)
        return expert.weights_bytes

    async def _reload(self, server: VllmServer, weights: Path) -> None:
        await server.worker("coe_reload", absolute(weights))
        await server.command("/reset_prefix_cache")

    async def _restore_or_end(self, server: VllmServer, weights: Path) -> None:
        """Puts the weights before back; where that fails, ends the engine."""
        try:
            await self._reload(server, weights)
            await server.worker("coe_forget")
        except LoadFailed:
            logger.error(
                "family %s: the weights before could not be restored, ending the engine", self._family
            )
            await server.process.stop(grace_s=0)  # what it would answer is unknown

    def _address(self, expert: str, resident: Resident) -> Address:
        return Address(expert, INTERNAL_MODEL)
