"""A model as a plan sees it: its shape, and its weights' bytes as exactly as they are known."""

from dataclasses import dataclass

from experts.checkpoints.tensor_headers import TensorHeader
from experts.footprint.architecture import Architecture
from experts.footprint.weights import header_shard_bytes, shard_bytes


@dataclass(frozen=True, slots=True)
class Model:
    """``headers``: of the checkpoint; empty where only its config.json is known. ``source``: where the
    figures come from, for people. ``plain_because``: why it can only be served one expert at a time."""

    architecture: Architecture
    source: str
    headers: tuple[TensorHeader, ...] = ()
    plain_because: str | None = None

    def shard_bytes(self, ranks: int, value_bytes: int = 2) -> int:
        """The bytes on each of ``ranks`` GPUs, in a computing type of ``value_bytes``."""
        if self.headers:
            return header_shard_bytes(self.headers, ranks, value_bytes)
        return shard_bytes(self.architecture, ranks, value_bytes)

    def __repr__(self) -> str:
        return f"<Model {self.architecture.model_type} of {self.source}>"
