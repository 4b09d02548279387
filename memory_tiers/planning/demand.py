"""A family's demand on a node: its configuration, its model, and how many experts take turns."""

from dataclasses import dataclass

from experts.footprint.kv_cache import kv_bytes_per_token
from experts.footprint.model import Model
from experts.footprint.run_time import (
    activation_bytes,
    batched_tokens,
    context_bytes,
    graph_bytes,
    graph_set_bytes,
)
from experts.spec import FamilyConfig
from memory_tiers.planning.gpus import Gpu

BATCHED = "--max-num-batched-tokens"
KV_TYPE = "--kv-cache-dtype"


@dataclass(frozen=True, slots=True)
class FamilyDemand:
    """``experts``: how many it has; ``pinned``: how many of them never leave. ``adapters``: bytes of the
    places for LoRA adapters, on each GPU."""

    name: str
    config: FamilyConfig
    model: Model
    experts: int
    pinned: int = 0
    adapters: int = 0

    @property
    def ranks(self) -> int:
        return self.config.tensor_parallel_size

    @property
    def mode(self) -> str:
        """The mode it is served in: plain where its weights cannot take turns in one engine."""
        if self.config.mode == "interleaved" and self.model.plain_because:
            return "plain"
        return self.config.mode

    @property
    def shard(self) -> int:
        """Bytes of one expert on each of its GPUs; of a LoRA family, of the base."""
        return self.model.shard_bytes(self.ranks, 4 if self.config.dtype == "float32" else 2)

    @property
    def kv_bytes_per_token(self) -> int:
        eight = self.argument(KV_TYPE).startswith("fp8")
        value = 1 if eight else 4 if self.config.dtype == "float32" else 2
        return kv_bytes_per_token(self.model.architecture, self.ranks, value)

    @property
    def most_resident(self) -> int:
        """How many experts can be on the device at once, if there is memory."""
        return self.experts if self.mode == "interleaved" else 1

    @property
    def least_resident(self) -> int:
        """How many must be: those that are pinned and one beside them. Turns need two: one alone would pay
        for the working copy and never share it; that is what plain mode is for."""
        return min(self.most_resident, max(2, self.pinned + 1))

    @property
    def working_copy(self) -> int:
        """Bytes of the tensors that an interleaved engine computes with on a GPU, beside one image an expert,
        where all experts share one set of CUDA graphs, which have captured their addresses. A family of one
        expert needs no second copy."""
        shares = self.config.cuda_graphs == "shared" and not self._eager
        return self.shard if self.mode == "interleaved" and self.experts > 1 and shares else 0

    @property
    def graph_set(self) -> int:
        """Bytes of the CUDA graphs that each expert has of its own on a GPU."""
        if self.mode != "interleaved" or self.config.cuda_graphs == "shared" or self._eager:
            return 0
        return graph_set_bytes(self.model.architecture)

    @property
    def charged(self) -> int:
        """Bytes that an expert on the device is charged on each of its GPUs: weights, and its graphs."""
        return self.shard + self.graph_set

    def weights(self, resident: int) -> int:
        """Bytes of so many experts on each GPU."""
        return self.shard * resident + self.adapters

    def activations(self, gpu: Gpu, max_model_len: int, sequences: int) -> int:
        given = self.argument(BATCHED)
        tokens = batched_tokens(
            gpu.bytes, max_model_len, sequences, int(given) if given.isdecimal() else None
        )
        return activation_bytes(self.model.architecture, self.ranks, tokens, sequences)

    def graphs(self, sequences: int, resident: int) -> int:
        """Bytes of graphs for batches of up to so many sequences, with so many experts."""
        if self._eager:
            return 0
        return self.graph_set * resident or graph_bytes(self.model.architecture, sequences)

    @property
    def _eager(self) -> bool:
        return "--enforce-eager" in self.config.extra_args

    @property
    def context(self) -> int:
        return context_bytes(self.ranks)

    def argument(self, name: str) -> str:
        """Returns the value of one of ``extra_args``; empty where it is not given."""
        given = self.config.extra_args
        for place, word in enumerate(given):
            if word.startswith(f"{name}="):
                return word.partition("=")[2]
            if word == name and place + 1 < len(given):
                return given[place + 1]
        return ""
