"""Chooses the type that an engine computes in, and the one it tries first."""

import re
from pathlib import Path

from experts.spec import Canary, FamilyConfig

_ILLEGAL_INSTRUCTION = re.compile(r"^Fatal Python error: Illegal instruction", re.MULTILINE)
"""The line of Python's faulthandler. vLLM's server only at times names the signal that ended its core."""


def types_to_try(
    config: FamilyConfig, platform: str, native_bfloat16: bool, canary: Canary | None
) -> tuple[str, ...]:
    """Lists values of vLLM's ``--dtype``, of which the first that proves right is used. ``canary``: the first
    expert's; without one there is no proof, and only a type that needs none is listed."""
    if config.dtype != "auto" or platform != "cpu":
        return (config.dtype,)
    return ("bfloat16", "float32") if native_bfloat16 and canary is not None else ("float32",)


def computes_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Tells whether every core has AVX512-BF16. AMX, which our plugin switches off, does not count."""
    flags = re.findall(r"^flags\s*:(.*)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE)
    return bool(flags) and all("avx512_bf16" in line.split() for line in flags)


def refused_instruction(log: Path) -> bool:
    """Tells whether the process that wrote ``log`` ended because the processor refused an instruction."""
    return _ILLEGAL_INSTRUCTION.search(log.read_text(encoding="utf-8", errors="replace")) is not None
