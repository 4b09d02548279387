"""The places that a LoRA engine has for adapters, and the memory that they and the base take."""

from collections.abc import Sequence
from dataclasses import dataclass

from experts.checkpoints.peft import PeftAdapter
from experts.checkpoints.tensor_headers import DTYPE_BITS, TensorHeader
from experts.errors import CheckpointMismatch
from experts.spec import FamilyConfig
from experts.vllm.command import dtype_of

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM's ``--max-lora-rank`` may have."""
SPARE_PLACES = 2
"""Places for adapters beyond ``max_loras``: one for a load before what it replaces leaves, and the last one,
which stays empty: vLLM 0.32 on CPU gives requests without an adapter what is in the last place
(vllm-project/vllm#48421)."""
WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a value."""


@dataclass(frozen=True, slots=True)
class AdapterPlaces:
    """Places of one size: ``rank`` for each of the modules called one of ``targets``."""

    config: FamilyConfig
    platform: str
    base: tuple[TensorHeader, ...]
    targets: tuple[str, ...]
    rank: int

    @classmethod
    def of(
        cls,
        config: FamilyConfig,
        platform: str,
        base: tuple[TensorHeader, ...],
        adapters: Sequence[PeftAdapter],
    ) -> "AdapterPlaces":
        """Makes the places that all of ``adapters`` fit into. Raises CheckpointMismatch."""
        targets = sorted({target for adapter in adapters for target in adapter.targets})
        rank = _place_rank(max((adapter.rank for adapter in adapters), default=1))
        return cls(config, platform, base, tuple(targets), rank)

    @property
    def number(self) -> int:
        return self.config.max_loras + SPARE_PLACES

    @property
    def bytes(self) -> int:
        """The memory of base and places, whichever experts are resident."""
        return self._base_bytes() + self.number * sum(
            self.rank * sum(tensor.shape) * self._width(tensor)
            for tensor in self.base
            if len(tensor.shape) == 2 and _module(tensor) in self.targets
        )

    def arguments(self) -> list[str]:
        """Returns the arguments of vLLM's server that make the places."""
        arguments = ["--enable-lora", "--max-lora-rank", str(self.rank)]
        # As many are kept as have a place: vLLM would read one it dropped again in the middle of a step.
        arguments += ["--max-loras", str(self.number), "--max-cpu-loras", str(self.number)]
        return [*arguments, "--lora-target-modules", *self.targets] if self.targets else arguments

    def check(self, adapter: PeftAdapter) -> None:
        """Raises CheckpointMismatch where ``adapter`` does not fit the base or a place."""
        adapter.check_fits(self.base)
        if adapter.rank > self.rank or not adapter.targets <= {*self.targets}:
            raise CheckpointMismatch(
                f"{adapter.folder}: {adapter!r} changes {', '.join(sorted(adapter.targets))}; the engine has "
                f"places for rank {self.rank} of {', '.join(self.targets) or 'nothing'}: restart the server"
            )

    def _base_bytes(self) -> int:
        held = sum(tensor.parameters * self._width(tensor) for tensor in self.base)
        held //= self.config.tensor_parallel_size
        by_module = {_module(tensor): tensor for tensor in self.base}
        embedding = by_module.get("embed_tokens")
        if self.platform == "cpu" and embedding is not None and "lm_head" not in by_module:
            # The output layer is packed for the kernels, the embedding it is tied to stays as it is.
            held += embedding.parameters * self._width(embedding)
        return held

    def _width(self, tensor: TensorHeader) -> int:
        """Returns the bytes of one of the tensor's values in the engine."""
        return WIDTHS.get(dtype_of(self.config, self.platform), DTYPE_BITS[tensor.dtype] // 8)


def _module(tensor: TensorHeader) -> str:
    """Returns the last name of the module that ``tensor`` is the weight of."""
    return tensor.name.removesuffix(".weight").rpartition(".")[2]


def _place_rank(rank: int) -> int:
    """Rounds ``rank`` up to one that vLLM takes."""
    fitting = [allowed for allowed in RANKS if allowed >= rank]
    if not fitting:
        raise CheckpointMismatch(
            f"an adapter of rank {rank} is over vLLM's {RANKS[-1]}; merge it into its base"
        )
    return fitting[0]
