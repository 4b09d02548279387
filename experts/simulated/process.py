"""The simulated engine in a process of its own, reached as vLLM is: over HTTP on a private Unix socket."""

import sys
from pathlib import Path

from experts.spec import Expert, FamilyConfig
from experts.vllm.command import VERIFIED, InstalledVllm
from experts.vllm.interleaved import InterleavedEngine

_AS_IF = InstalledVllm("cpu", f"{VERIFIED}0")


class SimulatedProcess(InterleavedEngine):
    """All of the interleaved engine's client side, and ``experts.simulated.server`` in vLLM's place."""

    def __init__(self, family: str, config: FamilyConfig, log_folder: Path) -> None:
        """Starts nothing. The server writes to ``log_folder/<family>.log``."""
        super().__init__(family, config, log_folder, _AS_IF)

    def _command(self, config: FamilyConfig, expert: Expert, weights: Path) -> list[str]:
        speeds = config.simulation.model_dump_json()
        return [
            sys.executable, "-m", "experts.simulated.server", "--uds", "{socket}", "--expert", expert.name,
            "--weights", str(weights.absolute()), "--speeds", speeds,
            "--task", config.task,
        ]  # fmt: skip

    async def _prove(self, expert: Expert) -> None:
        """There is no model that could be wrong."""
