"""The simulated engine in a process of its own, reached as vLLM is: over HTTP on a private Unix socket."""

import sys
from pathlib import Path

from experts.spec import Expert, FamilyConfig
from experts.vllm.interleaved import InterleavedEngine
from experts.vllm_version import VERIFIED, InstalledVllm

_AS_IF = InstalledVllm("cpu", f"{VERIFIED}0")


class SimulatedProcess(InterleavedEngine):
    """Asks ``experts.simulated.server`` through all of the interleaved engine's client side."""

    def __init__(self, family: str, config: FamilyConfig, log_folder: Path) -> None:
        """Starts nothing. The server's output goes to ``log_folder/<family>.log``."""
        super().__init__(family, config, log_folder, _AS_IF)

    def _command(self, config: FamilyConfig, expert: Expert, weights: Path) -> list[str]:
        speeds = config.simulation.model_dump_json()
        return [
            sys.executable, "-m", "experts.simulated.server", "--uds", "{socket}", "--expert", expert.name,
            "--weights", str(weights.absolute()), "--speeds", speeds,
            "--task", config.task,
        ]  # fmt: skip

    async def _prove(self, expert: Expert, asked_as: str = "") -> None:
        """Does nothing: there is no model that could be wrong."""
