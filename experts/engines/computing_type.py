"""In which type an engine computes, and which it tries before."""

import re
from pathlib import Path

from experts.spec import Canary, FamilyConfig

_ILLEGAL_INSTRUCTION = re.compile(r"^Fatal Python error: Illegal instruction", re.MULTILINE)
"""What Python's faulthandler writes. vLLM's server only at times names the signal that ended its core."""


def types_to_try(
    config: FamilyConfig, platform: str, native_bfloat16: bool, canary: Canary | None
) -> tuple[str, ...]:
    """For vLLM's ``--dtype``, the first that proves right is to be used. ``canary``: of the first expert;
    without it nothing could be proved, and only a type that needs no proof is named."""
    if config.dtype != "auto" or platform != "cpu":
        return (config.dtype,)
    return ("bfloat16", "float32") if native_bfloat16 and canary is not None else ("float32",)


def computes_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether every core says that it has AVX512-BF16. AMX, which our plugin switches off, does not count."""
    flags = re.findall(r"^flags\s*:(.*)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE)
    return bool(flags) and all("avx512_bf16" in line.split() for line in flags)


def refused_instruction(log: Path) -> bool:
    """Whether a process that wrote to ``log`` ended because the processor refused an instruction."""
    return _ILLEGAL_INSTRUCTION.search(log.read_text(encoding="utf-8", errors="replace")) is not None
