"""Seam of ``coe bench engine``: one way to serve several experts; and the engines that most ways use."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.engine.asking import Served
from benchmarks.engine.workload import Question
from experts.engines.engine import Engine
from experts.engines.session import session_members
from experts.simulated.engine import SimulatedEngine
from experts.spec import Expert, FamilyConfig
from experts.vllm.engine import VllmEngine
from experts.vllm.modes import full_weights_engine
from experts.vllm_version import installed_vllm
from memory_tiers.gpu_memory import gpus_here

INTERLEAVED = "interleaved"
SWAPPING = "drain then swap"
SLEEPING = "sleep and wake"
PROCESSES = "one process each"
KVCACHED = "one process each, kvcached"
LLAMA_CPP = "llama-cpp-python"


@dataclass(frozen=True, slots=True)
class Switching:
    """How often a rival changed the expert it computes with so far, and the seconds that took."""

    switches: int = 0
    seconds: float = 0.0


class Rival(Protocol):
    """Implementations: ``Interleaved``, ``DrainThenSwap``, ``SleepAndWake``, ``Processes``, ``Kvcached``,
    ``LlamaCpp``."""

    @property
    def name(self) -> str: ...

    @property
    def fewest(self) -> int:
        """Experts below which it is not measured."""
        ...

    def unfit(self, experts: Sequence[Expert]) -> str | None:
        """Why this machine cannot measure it with so many experts; None when it can be tried."""
        ...

    async def hold(self, experts: Sequence[Expert]) -> None:
        """Serves these experts from now on; starts what that needs. Called again only with more of them.
        Raises EngineError."""
        ...

    async def serve(self, question: Question, tokens: int) -> Served:
        """Serves an answer of exactly so many tokens. Called concurrently. Raises EngineError."""
        ...

    async def switching(self) -> Switching: ...

    def memory_bytes(self) -> int:
        """Returns the memory that its processes hold now."""
        ...

    async def stop(self) -> None:
        """Leaves nothing. Idempotent."""
        ...


def open_engine(family: str, config: FamilyConfig, logs: Path) -> Engine:
    """Real vLLM in the configuration's mode, or the simulated engine."""
    if config.mode == "simulated":
        return SimulatedEngine(family, config.simulation)
    return full_weights_engine(family, config, logs)


def plain(config: FamilyConfig) -> FamilyConfig:
    """Returns the same family on unmodified vLLM."""
    return config if config.mode == "simulated" else config.model_copy(update={"mode": "plain"})


def gpu_bytes_of(config: FamilyConfig) -> int | None:
    """Returns the memory of the first GPU that a family's engines compute on; None where they compute in main
    memory. Raises MemoryUnknown."""
    vllm = installed_vllm()
    if config.mode == "simulated" or vllm is None or vllm.platform != "cuda":
        return None
    return gpus_here()[config.devices[0] if config.devices else 0]


def computing_type(engine: Engine) -> str:
    """Returns the type that a started engine computes in."""
    return engine.dtype if isinstance(engine, VllmEngine) else "no model"


def engine_bytes(engine: Engine) -> int:
    """Memory of an engine's processes; pages that several share count once. Zero for a simulated engine."""
    if not isinstance(engine, VllmEngine) or engine.state != "ready":
        return 0
    return session_bytes(engine.server.process.pid)


def session_bytes(session: int) -> int:
    """Proportional set size of all processes of a session."""
    return sum(_proportional_bytes(pid) for pid in session_members(session))


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
