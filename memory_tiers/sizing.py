"""Sizes budgets that are auto: what device and host may fill of the memory that is free at the start. Pure.

1. In main memory each process that computes needs WORKER_BYTES beside weights and KV pool, and a reserve
   stays free. On CPU the KV pools come from it too.
2. On CPU device and host are the same memory. Where all experts fit on the device they do, and the host has
   what is left; else each has half, but the device enough for what never leaves it and one expert beside.
   What the host cannot use is the device's.
3. On CUDA each GPU has what the node's plan gives to experts there (``memory_tiers.planning``).
4. The host never has more than shared memory can take, or than all experts fill, with one of them there twice
   (as checkpoint and as the image being made of it). A host that holds no expert has nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from pydantic import ByteSize

from experts.memory.machine_memory import Room
from experts.spec import Expert, FamilyConfig
from memory_tiers.tiers import TiersConfig, TiersSettings

Platform = Literal["cpu", "cuda"]

WORKER_BYTES = 2 * 10**9
"""Memory of a process beside weights and KV pool. Measured (``coe bench engine``): two plain vLLM processes
took 6.4 GB, of which 2 x 1.2 GB are KV pool and weights, so 2.0 GB each; an interleaved one 3.2 GB, of which
1.7 GB, so 1.5 GB. Not measured on CUDA."""
RESERVE_SHARE = 0.1
"""The share of main memory for the gateway and its router, page cache, and what comes later."""
RESERVE_BYTES = 512 * 2**20
"""The least that is reserved for those."""
PACKED_SHARE = 0.25
"""The share of weights that a CPU engine keeps twice, embeddings packed and as they are: 113 MB of
SmolLM2-135M's 538 MB in float32."""


@dataclass(frozen=True, slots=True)
class FamilyNeeds:
    """One engine's experts, with its ``Engine.resident_limit`` and ``Engine.held_bytes``."""

    config: FamilyConfig
    experts: Sequence[Expert]
    resident_limit: int | None
    held: int = 0

    @property
    def workers(self) -> int:
        """How many processes compute."""
        ranks = self.config.tensor_parallel_size * self.config.engines
        return 0 if self.config.mode == "simulated" else ranks

    @property
    def kv_bytes(self) -> int:
        """Bytes of all workers' KV pools; each worker has a pool with its share of every token."""
        return self.workers * (self.config.kv_cache or 0)

    def at_once(self, sizes: Sequence[int]) -> int:
        """Sums those of ``sizes`` that the engine can hold at once."""
        return max(sizes, default=0) if self.resident_limit == 1 else sum(sizes)


@dataclass(frozen=True, slots=True)
class Machine:
    """The memory that is free, read once at the start. ``gpus``: what the node's plan gives to experts on
    each GPU; empty on CPU."""

    platform: Platform
    memory: Room
    shared: Room
    gpus: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sized:
    """Budgets in bytes. ``why``: where the numbers come from, in one line."""

    config: TiersConfig
    why: str


class Lowered(NamedTuple):
    """Settings that fit the machine. ``warning``: what was lowered, in one line; None where nothing was."""

    settings: TiersSettings
    warning: str | None


def within_shared_memory(settings: TiersSettings, shared: Room) -> Lowered:
    """Lowers a host budget in bytes to what shared memory can hold: copies over that would only fail."""
    if settings.host == "auto" or settings.host <= shared.bytes:
        return Lowered(settings, None)
    warning = (
        f"tiers.host is {settings.host:,} bytes, but {shared.source} can hold {shared.bytes:,}: the host "
        "tier does with those; lower tiers.host or make the shared memory larger"
    )
    return Lowered(settings.model_copy(update={"host": ByteSize(shared.bytes)}), warning)


def sized(settings: TiersSettings, families: Sequence[FamilyNeeds], machine: Machine) -> Sized:
    """Sizes the budgets that are auto. They may come out too small for the experts, also 0: ``check_members``
    says so with the numbers."""
    needs = _Needs(tuple(families), machine.platform)
    found, reserve = machine.memory, _reserve(machine.memory.bytes)
    free = max(0, found.bytes - needs.beside - reserve)
    most = min(machine.shared.bytes, needs.host)
    why = [
        f"{found.bytes:,} bytes are free ({found.source}), of which engines take {needs.beside:,} beside "
        f"weights and {reserve:,} stay free",
        f"{machine.shared.source} takes {machine.shared.bytes:,}",
        f"all experts fill up to {needs.host:,} on the host",
    ]
    if machine.platform == "cpu":
        device, host = _split_main_memory(settings, needs, free, most)
    else:
        device, host = 0, needs.usable(min(free, most))
    if machine.gpus:
        device = sum(machine.gpus.values())
        shown = ", ".join(f"{size:,} on GPU {number}" for number, size in machine.gpus.items())
        why.append(f"{shown} are the device's (planned, not measured)")
    placed = all(family.config.devices for family in families)  # else nobody knows what a GPU bears
    return Sized(_with(settings, device, host, machine.gpus if placed else {}), "; ".join(why))


def _split_main_memory(settings: TiersSettings, needs: "_Needs", free: int, most: int) -> tuple[int, int]:
    """Divides what is free into device and host (2); a budget in bytes is taken out first."""
    if settings.host != "auto":
        return free - settings.host, settings.host
    taken = needs.device_of(free) if settings.device == "auto" else settings.device
    host = needs.usable(min(free - taken, most))
    return free - host, host


def _reserve(memory: int) -> int:
    return max(RESERVE_BYTES, round(memory * RESERVE_SHARE))


@dataclass(frozen=True, slots=True)
class _Needs:
    """The most that families need on a platform: how large weights are on the device is known once they are
    loaded."""

    families: tuple[FamilyNeeds, ...]
    platform: Platform

    @property
    def kv(self) -> int:
        """Bytes of all KV pools."""
        return sum(family.kv_bytes for family in self.families)

    @property
    def beside(self) -> int:
        """Bytes of main memory that are not for weights."""
        workers = sum(family.workers for family in self.families)
        return workers * WORKER_BYTES + (self.kv if self.platform == "cpu" else 0)

    @property
    def host(self) -> int:
        """Bytes that all experts can fill on the host (4)."""
        sizes = self._all_sizes()
        return sum(sizes) + max(sizes)

    def device_of(self, free: int) -> int:
        """Computes the device's part of what is free in main memory (2)."""
        most = sum(
            (family.held + family.at_once(self._sizes(family))) * family.config.engines
            for family in self.families
        )
        staying = sum(
            family.held * family.config.engines + family.at_once(self._staying(family))
            for family in self.families
        )
        return most if most <= free else max(free - free // 2, staying + max(self._all_sizes()))

    def usable(self, host: int) -> int:
        """Makes a host without room for any expert 0 bytes (4)."""
        return host if host >= min(self._all_sizes()) else 0

    def _staying(self, family: FamilyNeeds) -> list[int]:
        pairs = zip(family.experts, self._sizes(family), strict=True)
        return [size for expert, size in pairs if expert.pinned or expert.default]

    def _all_sizes(self) -> list[int]:
        return [size for family in self.families for size in self._sizes(family)]

    def _sizes(self, family: FamilyNeeds) -> list[int]:
        return [_largest_form(expert, family.config, self.platform) for expert in family.experts]


def _largest_form(expert: Expert, config: FamilyConfig, platform: Platform) -> int:
    """The bytes of an expert's checkpoint or of the image made of it, whichever is larger."""
    if config.mode in ("lora", "simulated"):  # adapters are held as they are
        return expert.weights_bytes
    wide = config.dtype == "float32" or (config.dtype == "auto" and platform == "cpu")
    image = expert.parameters * (4 if wide else 2)
    if platform == "cpu":
        image += round(image * PACKED_SHARE)
    return max(expert.weights_bytes, image)


def _with(settings: TiersSettings, device: int, host: int, gpus: Mapping[int, int]) -> TiersConfig:
    """Puts these numbers where the settings say auto."""
    found: Mapping[str, object] = {
        **dict(settings),
        "devices": gpus if settings.device == "auto" else settings.devices,
        "device": ByteSize(max(0, device)) if settings.device == "auto" else settings.device,
        "host": ByteSize(max(0, host)) if settings.host == "auto" else settings.host,
    }
    return TiersConfig.model_validate(found)
