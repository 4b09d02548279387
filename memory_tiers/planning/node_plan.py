"""A plan: what every family takes on every GPU, and what that leaves."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from memory_tiers.planning.demand import FamilyDemand
from memory_tiers.planning.gpus import Gpu

RESERVE = 0.1
"""The share of each GPU that a plan leaves free: for what it does not see (fragments, other processes) and
for what it assumes wrongly."""


@dataclass(frozen=True, slots=True)
class Share:
    """One engine's part of one GPU, in bytes. ``weights``: of the experts that may be resident; ``charged``:
    what the tiers charge them, their own graphs included."""

    family: str
    weights: int
    working_copy: int
    graphs: int
    kv: int
    activations: int
    context: int
    charged: int

    @property
    def total(self) -> int:
        return self.weights + self.working_copy + self.graphs + self.kv + self.activations + self.context


@dataclass(frozen=True, slots=True)
class GpuPlan:
    """One GPU with the engines on it. ``spare``: what is left of its budget for experts, in bytes."""

    gpu: Gpu
    shares: tuple[Share, ...]
    spare: int = 0

    @property
    def used(self) -> int:
        return sum(share.total for share in self.shares) + self.spare

    @property
    def free(self) -> int:
        """Bytes that are left; negative where it does not fit."""
        return self.gpu.bytes - self.used

    @property
    def free_share(self) -> float:
        return self.free / self.gpu.bytes

    @property
    def over(self) -> int:
        """Bytes by which it takes from the reserve, or from what there is not."""
        return max(0, self.used - round(self.gpu.bytes * (1 - RESERVE)))


@dataclass(frozen=True, slots=True)
class FamilyPlan:
    """One engine. ``resident``: experts on the device at once. ``notes``: what was chosen or lowered, and
    why."""

    demand: FamilyDemand
    devices: tuple[int, ...]
    resident: int
    max_model_len: int
    kv_cache: int
    max_num_seqs: int
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.demand.name

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV pool holds, over all sequences."""
        return self.kv_cache // self.demand.kv_bytes_per_token

    @property
    def longest_sequences(self) -> int:
        """Sequences of the longest length that the pool holds at once."""
        return self.kv_tokens // self.max_model_len

    def charged(self, resident: int) -> int:
        """Bytes that so many experts are charged on each of its GPUs."""
        return self.demand.charged * resident + self.demand.adapters

    def share(self, gpu: Gpu, resident: int) -> Share:
        """Computes its part of one of its GPUs, with so many experts."""
        demand = self.demand
        return Share(
            self.name,
            weights=demand.weights(resident),
            working_copy=demand.working_copy,
            graphs=demand.graphs(self.max_num_seqs, resident),
            charged=self.charged(resident),
            kv=self.kv_cache,
            activations=demand.activations(gpu, self.max_model_len, self.max_num_seqs),
            context=demand.context,
        )


@dataclass(frozen=True, slots=True)
class NodePlan:
    """The plan of a node. ``device``: ``tiers.device`` in bytes, over all GPUs. ``devices``:
    ``tiers.devices``, bytes of each GPU; empty where there is one sum. ``short``: what no GPU shows, such as
    a pool without room for one sequence, as lines that say what to change."""

    gpus: tuple[GpuPlan, ...]
    families: tuple[FamilyPlan, ...]
    device: int
    devices: Mapping[int, int] = field(default_factory=dict)
    short: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether every GPU keeps its reserve."""
        return not self.short and not any(gpu.over for gpu in self.gpus)

    @property
    def overflows(self) -> bool:
        """Whether a GPU has less memory than it would need, were every figure exact."""
        return bool(self.short) or any(gpu.free < 0 for gpu in self.gpus)

    @property
    def device_parts(self) -> dict[int, int]:
        """Bytes for experts on each GPU that has an engine: those that were given, or those of the plan and
        what it leaves above the reserve."""
        return dict(self.devices) or {
            plan.gpu.number: sum(share.charged for share in plan.shares)
            + max(0, plan.free - round(plan.gpu.bytes * RESERVE))
            for plan in self.gpus
            if plan.shares
        }

    def utilization(self, family: FamilyPlan) -> float:
        """vLLM's ``--gpu-memory-utilization`` of an engine: the largest share of a GPU that it takes, which
        vLLM wants free when it starts, rounded down."""
        shares = [
            share.total / gpu.gpu.bytes
            for gpu in self.gpus
            for share in gpu.shares
            if share.family == family.name
        ]
        return max(0.01, min(0.98, int(max(shares, default=0.0) * 100) / 100))
