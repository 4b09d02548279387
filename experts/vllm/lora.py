"""LoRA experts: one vLLM server holds their base and computes all of their adapters in the same batch."""

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experts.checkpoints import peft
from experts.checkpoints.fingerprint import read_json
from experts.checkpoints.tensor_headers import DTYPE_BITS, TensorHeader, read_headers
from experts.engines.engine import Body, EngineStatistics
from experts.engines.resident import Resident
from experts.errors import CheckpointError, CheckpointMismatch, EngineStartFailed, LoadFailed
from experts.spec import Expert, FamilyConfig
from experts.vllm.command import INTERNAL_MODEL, VERIFIED, InstalledVllm, command, dtype_of, installed_vllm
from experts.vllm.engine import VllmEngine, absolute

logger = logging.getLogger(__name__)
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What ``--max-lora-rank`` may be."""
SPARE_PLACES = 2
"""Places for adapters beyond ``max_loras``: one for a load before what it replaces leaves, and the last one,
which stays empty: vLLM 0.32 on CPU gives requests without an adapter what is in the last place
(vllm-project/vllm#48421)."""
WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a value."""
IN_USE_PAUSE_S = 0.01


@dataclass(frozen=True, slots=True)
class _Adapter:
    """An adapter as vLLM knows it: ``model`` in requests, ``number`` in its workers. There is a digest of its
    files in the name, so prefixes computed with other weights of an expert are out of reach."""

    model: str
    number: int
    bytes: int


class LoraEngine(VllmEngine):
    """Mode ``lora``. The base is in the engine from start to end; experts are adapters, or the base itself.

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
    ) -> None:
        """Starts nothing. ``base`` is a checkpoint's folder; ``experts`` are all of the family: what their
        adapters change is what the engine has places for. Raises CheckpointError."""
        super().__init__(family, config, log_folder, vllm, media_hosts=media_hosts)
        found = vllm or installed_vllm()
        if found is not None and not found.verified:
            logger.warning("family %s: vLLM %s is installed, LoRA experts are verified on %s*",
                           family, found.version, VERIFIED)  # fmt: skip
        self._base = base
        self._base_tensors = read_headers(base)
        adapters = [peft.read_adapter(expert.folder) for expert in experts if expert.weights_bytes]
        self._targets = sorted({target for adapter in adapters for target in adapter.targets})
        self._rank = _place_rank(max((adapter.rank for adapter in adapters), default=1))
        self._adapters: dict[str, _Adapter] = {}

    @property
    def resident_limit(self) -> int:
        return self._config.max_loras

    @property
    def held_bytes(self) -> int:
        places = self._config.max_loras + SPARE_PLACES
        return self._base_bytes() + places * sum(
            self._rank * sum(tensor.shape) * self._width(tensor)
            for tensor in self._base_tensors
            if len(tensor.shape) == 2 and _module(tensor) in self._targets
        )

    def check_has_place(self, expert: Expert) -> None:
        """Whether an expert that was not there from the beginning can be loaded. Reads its headers. Raises
        CheckpointError."""
        if expert.weights_bytes:
            adapter = peft.read_adapter(expert.folder)
            adapter.check_fits(self._base_tensors)
            self._check_has_place(adapter)

    async def unload(self, name: str) -> None:
        await super().unload(name)
        adapter = self._adapters.pop(name, None)
        if adapter is not None:
            await self._drop(adapter)

    async def statistics(self) -> EngineStatistics:
        running = await self._requests_held()
        return EngineStatistics(None, tuple(self._resident), 0, 0.0, None, running)

    async def _start(self, expert: Expert, weights: Path) -> int:
        self._adapters.clear()
        try:
            await asyncio.to_thread(self._checked, expert, weights)  # sooner than after a start
        except CheckpointError as error:
            raise EngineStartFailed(f"engine of {self._family}: {expert.name}: {error}") from error
        more = self.arguments()
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

    def arguments(self) -> list[str]:
        """Of vLLM's server, beyond those of all modes."""
        places = self._config.max_loras + SPARE_PLACES
        arguments = ["--enable-lora", "--max-lora-rank", str(self._rank)]
        # As many are kept as have a place: vLLM would read one it dropped again in the middle of a step.
        arguments += ["--max-loras", str(places), "--max-cpu-loras", str(places)]
        return [*arguments, "--lora-target-modules", *self._targets] if self._targets else arguments

    async def _bring(self, expert: Expert, weights: Path, images: Path | None) -> int:
        """Before it touches the engine it has read the whole adapter. Adapters are small: no images."""
        model = await asyncio.to_thread(self._checked, expert, weights)
        old = self._adapters.get(expert.name)
        if model is None or (old is not None and old.model == model):
            return 0 if old is None else old.bytes
        self._adapters[expert.name] = await self._add(model, weights)
        if old is not None:
            await self._drop(old)
        return self._adapters[expert.name].bytes

    def _checked(self, expert: Expert, weights: Path) -> str | None:
        """The adapter's name in vLLM; None for the base itself. Raises CheckpointError."""
        if not expert.weights_bytes:
            read_json(weights / "config.json")
            return None
        adapter = peft.read_adapter(weights)
        adapter.check_fits(self._base_tensors)
        adapter.check_finite()
        self._check_has_place(adapter)
        digest = hashlib.blake2b(digest_size=8)
        for file in (peft.CONFIG, peft.WEIGHTS):
            digest.update((weights / file).read_bytes())
        return f"{expert.name}@{digest.hexdigest()}"

    def _check_has_place(self, adapter: peft.PeftAdapter) -> None:
        if adapter.rank > self._rank or not adapter.targets <= {*self._targets}:
            raise CheckpointMismatch(
                f"{adapter.folder}: {adapter!r} changes {', '.join(sorted(adapter.targets))}; the engine has "
                f"places for rank {self._rank} of {', '.join(self._targets) or 'nothing'}: restart the server"
            )

    async def _add(self, model: str, weights: Path) -> _Adapter:
        # What a caller who left had begun to load may still have the name, or a place.
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
        """Requests that were cancelled may use it for another step."""
        await self.server.call("POST", "/v1/unload_lora_adapter", {"lora_name": adapter.model})
        while adapter.number in {held["number"] for held in (await self._keep())["held"]}:  # noqa: ASYNC110
            await asyncio.sleep(IN_USE_PAUSE_S)

    async def _keep(self) -> dict[str, Any]:
        """Frees all adapters but ours and those a request uses."""
        numbers = [str(adapter.number) for adapter in self._adapters.values()]
        return await self.server.worker("coe_keep_adapters", *numbers)

    def _addressed(self, expert: str, resident: Resident, body: Body) -> dict[str, Any]:
        adapter = self._adapters.get(expert)
        model = INTERNAL_MODEL if adapter is None else adapter.model
        salt = resident.salt(expert, str(body.get("cache_salt") or ""))
        return {**body, "model": model, "cache_salt": salt}

    def _base_bytes(self) -> int:
        held = sum(tensor.parameters * self._width(tensor) for tensor in self._base_tensors)
        held //= self._config.tensor_parallel_size
        by_module = {_module(tensor): tensor for tensor in self._base_tensors}
        embedding = by_module.get("embed_tokens")
        if self._platform == "cpu" and embedding is not None and "lm_head" not in by_module:
            # The output layer is packed for the kernels, the embedding it is tied to stays as it is.
            held += embedding.parameters * self._width(embedding)
        return held

    def _width(self, tensor: TensorHeader) -> int:
        return WIDTHS.get(dtype_of(self._config, self._platform), DTYPE_BITS[tensor.dtype] // 8)


def _module(tensor: TensorHeader) -> str:
    """Last name of the module that has ``tensor`` for a weight."""
    return tensor.name.removesuffix(".weight").rpartition(".")[2]


def _place_rank(rank: int) -> int:
    fitting = [allowed for allowed in RANKS if allowed >= rank]
    if not fitting:
        raise CheckpointMismatch(
            f"an adapter of rank {rank} is over vLLM's {RANKS[-1]}; merge it into its base"
        )
    return fitting[0]
