"""LoRA experts: one vLLM server holds their base and computes all of their adapters in the same batch."""

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experts.checkpoints.fingerprint import read_json
from experts.checkpoints.peft import CONFIG, WEIGHTS, read_adapter
from experts.checkpoints.tensor_headers import read_headers
from experts.engines.engine import EngineStatistics
from experts.engines.nursery import Nurseries
from experts.engines.resident import Resident
from experts.errors import CheckpointError, EngineStartFailed, LoadFailed
from experts.spec import Expert, FamilyConfig
from experts.vllm.adapter_places import AdapterPlaces
from experts.vllm.address import Address
from experts.vllm.command import INTERNAL_MODEL, command
from experts.vllm.engine import VllmEngine, absolute
from experts.vllm_version import VERIFIED, InstalledVllm, installed_vllm

logger = logging.getLogger(__name__)
IN_USE_PAUSE_S = 0.01


@dataclass(frozen=True, slots=True)
class _Adapter:
    """An adapter as vLLM knows it: ``model`` in requests, ``number`` in its workers. The name has a digest of
    its files, so prefixes computed with other weights of an expert are out of reach."""

    model: str
    number: int
    bytes: int


class LoraEngine(VllmEngine):
    """An engine of mode ``lora``. The base stays in it from start to end; experts are adapters, or the base.

    Adapters come and go by ``/v1/load_lora_adapter`` and ``/v1/unload_lora_adapter``, and
    ``experts.inside_vllm.weights.adapters`` frees what the latter only forgets.
    """

    mode = "lora"

    def __init__(
        self,
        family: str,
        config: FamilyConfig,
        log_folder: Path,
        base: Path,
        experts: Sequence[Expert],
        vllm: InstalledVllm | None = None,
        media_hosts: Sequence[str] = (),
        nurseries: Nurseries | None = None,
    ) -> None:
        """Starts nothing. ``base``: a checkpoint's folder. ``experts``: all of the family, whose adapters the
        engine makes places for. Raises CheckpointError."""
        super().__init__(family, config, log_folder, vllm, media_hosts=media_hosts, nurseries=nurseries)
        found = vllm or installed_vllm()
        if found is not None and not found.verified:
            logger.warning("family %s: vLLM %s is installed, LoRA experts are verified on %s*",
                           family, found.version, VERIFIED)  # fmt: skip
        self._base = base
        adapters = [read_adapter(expert.folder) for expert in experts if expert.weights_bytes]
        self.places = AdapterPlaces.of(config, self._platform, read_headers(base), adapters)
        self._adapters: dict[str, _Adapter] = {}

    @property
    def resident_limit(self) -> int:
        return self._config.max_loras

    @property
    def held_bytes(self) -> int:
        return self.places.bytes

    def check_has_place(self, expert: Expert) -> None:
        """Raises CheckpointError where an expert that came after the engine was made cannot be loaded. Reads
        its headers."""
        if expert.weights_bytes:
            self.places.check(read_adapter(expert.folder))

    async def unload(self, name: str) -> None:
        await super().unload(name)
        adapter = self._adapters.pop(name, None)
        if adapter is not None:
            await self._drop(adapter)

    async def statistics(self) -> EngineStatistics:
        held = await self.server.occupancy()
        return EngineStatistics(None, tuple(self._resident), 0, 0.0, None, held.requests, held.kv_used)

    async def _start(self, expert: Expert, weights: Path) -> int:
        self._adapters.clear()
        try:
            await asyncio.to_thread(self._checked, expert, weights)  # sooner than after a start
        except CheckpointError as error:
            raise EngineStartFailed(f"engine of {self._family}: {expert.name}: {error}") from error
        more = self.places.arguments()
        server = await self._launch(
            command(self._config, self.mode, self._platform, expert.name, self._base, more, self._media_hosts)
        )
        try:
            await self.server.worker("coe_share_kernels")
            held = (await self.load(expert, weights)).bytes
        except LoadFailed as error:
            raise EngineStartFailed(f"engine of {self._family}: {error}") from error
        await self._warm_up(expert)
        self._watch_over(server)
        return held

    async def _bring(self, expert: Expert, weights: Path, images: Path | None) -> int:
        """Reads the whole adapter before it touches the engine. Adapters are small: no images."""
        model = await asyncio.to_thread(self._checked, expert, weights)
        old = self._adapters.get(expert.name)
        if model is None or (old is not None and old.model == model):
            return 0 if old is None else old.bytes
        self._adapters[expert.name] = await self._add(model, weights)
        if old is not None:
            await self._drop(old)
        return self._adapters[expert.name].bytes

    def _checked(self, expert: Expert, weights: Path) -> str | None:
        """Reads and checks the adapter, and returns its name in vLLM; None for the base itself.

        Raises CheckpointError."""
        if not expert.weights_bytes:
            read_json(weights / "config.json")
            return None
        adapter = read_adapter(weights)
        self.places.check(adapter)
        adapter.check_finite()
        digest = hashlib.blake2b(digest_size=8)
        for file in (CONFIG, WEIGHTS):
            digest.update((weights / file).read_bytes())
        return f"{expert.name}@{digest.hexdigest()}"

    async def _add(self, model: str, weights: Path) -> _Adapter:
        # A load whose caller was cancelled may still have the name, or a place.
        await self.server.call("POST", "/v1/unload_lora_adapter", {"lora_name": model})
        report = await self._keep()
        if len(report["held"]) > self._config.max_loras:
            raise LoadFailed(f"all {self._config.max_loras} places for adapters are in use; try again")
        body = {"lora_name": model, "lora_path": absolute(weights)}
        await self.server.command("/v1/load_lora_adapter", body)
        report = await self.server.worker("coe_adapters")
        newest = max(report["held"], key=lambda held: int(held["number"]))
        return _Adapter(model, newest["number"], newest["bytes"])

    async def _drop(self, adapter: _Adapter) -> None:
        """Frees the adapter. Requests that were cancelled may use it for another step."""
        await self.server.call("POST", "/v1/unload_lora_adapter", {"lora_name": adapter.model})
        while adapter.number in {held["number"] for held in (await self._keep())["held"]}:  # noqa: ASYNC110
            await asyncio.sleep(IN_USE_PAUSE_S)

    async def _keep(self) -> dict[str, Any]:
        """Frees all adapters but ours and those that a request uses, and returns what is held."""
        numbers = [str(adapter.number) for adapter in self._adapters.values()]
        return await self.server.worker("coe_keep_adapters", *numbers)

    def _address(self, expert: str, resident: Resident) -> Address:
        adapter = self._adapters.get(expert)
        return Address(expert, INTERNAL_MODEL if adapter is None else adapter.model, resident=resident)
