"""Candidates for experts: what was found at a place, and why what was found is left out."""

from dataclasses import dataclass, field
from pathlib import Path

from experts.checkpoints.fingerprint import Traits
from experts.checkpoints.peft import PeftAdapter
from experts.checkpoints.tensor_headers import DTYPE_BITS, TensorHeader
from experts.spec import Capability, CheckpointSource, Task


@dataclass(frozen=True, slots=True)
class Place:
    """A place that somebody named. ``shown``: how people call it."""

    shown: str
    source: CheckpointSource


@dataclass(frozen=True, slots=True)
class Parsers:
    """Names of vLLM's parsers, guessed from a chat template; None: the model has no such thing, or writes it
    as no parser reads."""

    tool: str | None = None
    reasoning: str | None = None


@dataclass(frozen=True, slots=True)
class FullWeights:
    """A checkpoint of full weights. ``folder``: a view of it, as preparation would make one.
    ``plain_because``: why its experts are served one at a time; None where they may take turns."""

    place: Place
    folder: Path
    traits: Traits
    task: Task
    parsers: Parsers = Parsers()
    capabilities: tuple[Capability, ...] = ()
    plain_because: str | None = None
    quantised: str | None = None
    has_template: bool = True
    template: Path | None = None
    """A Jinja file that replaces the checkpoint's chat template."""

    @property
    def kind(self) -> str:
        return str(self.traits.architecture.get("model_type", "model"))

    @property
    def parameters(self) -> int:
        return sum(header.parameters for header in self.traits.headers)

    @property
    def weights_bytes(self) -> int:
        """Bytes of its tensors; the headers of its files, of some kB, aside."""
        return sum(_bytes(header) for header in self.traits.headers)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter. ``base``: what its description calls its base; ``tokenizer``: the hash of its own,
    where it has one."""

    place: Place
    folder: Path
    weights: PeftAdapter
    base: str
    tokenizer: str | None = None

    @property
    def weights_bytes(self) -> int:
        pairs = self.weights.pairs
        return sum(_bytes(pair.a) + _bytes(pair.b) for pair in pairs)


Found = FullWeights | Adapter


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A checkpoint that is left out, and why, in words that say what to do."""

    shown: str
    reason: str


@dataclass(frozen=True, slots=True)
class Survey:
    """All that was found at the places."""

    full: tuple[FullWeights, ...] = ()
    adapters: tuple[Adapter, ...] = ()
    left_out: tuple[LeftOut, ...] = field(default=())


def _bytes(header: TensorHeader) -> int:
    return header.parameters * DTYPE_BITS.get(header.dtype, 16) // 8
