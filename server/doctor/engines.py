"""Examines what engines need: vLLM, what we hold on to in it, libraries, the driver. Imports no vLLM."""

import ctypes
from collections.abc import Callable, Sequence

from experts.errors import MemoryUnknown
from experts.vllm_version import VERIFIED, InstalledVllm
from server.doctor.finding import Finding, error, ok, warning


def vllm(found: InstalledVllm | None) -> Finding:
    if found is None:
        do = "pip install 'composition-of-experts[cpu]', or [cuda] (docs/start/install.md)"
        return error("vLLM", "is not installed; only mode: simulated serves", do)
    said = f"{found.version} for {found.platform}"
    if not found.verified:
        return warning("vLLM", said, f"{VERIFIED}* was run; mode: plain asks least of it")
    return ok("vLLM", said)


def seams(found: InstalledVllm | None, missing: str | None) -> Finding:
    """``missing``: the first thing that interleaving holds on to and vLLM lacks."""
    if found is None:
        return warning("seams", "there is no vLLM to look into", "install it")
    if missing is not None:
        do = f"families fall back to plain mode; vLLM {VERIFIED}* has all"
        return warning("seams", f"vLLM has no {missing}, which interleaving holds on to", do)
    return ok("seams", "vLLM has all that interleaving holds on to")


def libraries(found: InstalledVllm | None, load: Callable[[str], object] = ctypes.CDLL) -> Finding:
    """Loads the system's library that vLLM's kernels on CPU link to."""
    if found is None or found.platform != "cpu":
        return ok("libraries", "none beyond the build's own is needed")
    try:
        load("libnuma.so.1")
    except OSError as problem:
        return error("libraries", f"vLLM's kernels need {problem}", "sudo apt-get install libnuma1")
    return ok("libraries", "libnuma.so.1 loads")


def gpus(found: InstalledVllm | None, measure: Callable[[], Sequence[int]], driver: str | None) -> Finding:
    """``measure`` returns the bytes of each GPU; ``driver``: the version of NVIDIA's, where one is loaded."""
    cuda = found is not None and found.platform == "cuda"
    try:
        sizes = measure()
    except MemoryUnknown as problem:
        if cuda:
            return error("GPUs", "nobody says what they have", str(problem))
        if driver is not None:
            return warning(
                "GPUs", f"driver {driver}", "this vLLM computes on the CPU: COE_BUILD=cuda scripts/install"
            )
        return ok("GPUs", "no driver of NVIDIA's is loaded; engines compute on the CPU")
    said = ", ".join(f"{size / 1e9:.0f} GB" for size in sizes) + (f", driver {driver}" if driver else "")
    if sizes and not cuda:
        return warning("GPUs", said, "this vLLM computes on the CPU: COE_BUILD=cuda scripts/install")
    if cuda and not sizes:
        return error(
            "GPUs", "vLLM is for CUDA, and no GPU answers", "load NVIDIA's driver; look with nvidia-smi"
        )
    return ok("GPUs", said if sizes else "none; engines compute on the CPU")


def compiler(found: InstalledVllm | None, path: str | None) -> Finding:
    """``path``: of a C++ compiler."""
    if found is not None and found.platform == "cuda" and path is None:
        do = "sudo apt-get install g++ python3-dev"
        return error("compiler", "there is none; on CUDA vLLM and triton compile kernels at run time", do)
    return ok("compiler", path or "none, and none is needed")
