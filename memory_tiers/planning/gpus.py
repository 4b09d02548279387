"""The GPUs that a plan is for."""

import re
from dataclasses import dataclass

from pydantic import ByteSize, TypeAdapter, ValidationError

from memory_tiers.errors import PlanImpossible

MOST = 64
"""GPUs of a node at most."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU by its number, with all its memory in bytes."""

    number: int
    bytes: int


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """Reads ``8x80GB``, ``24GB`` or ``2x80GB,1x24GiB``, numbered from 0. GB is 10^9 bytes, some 5 to 7 % less
    than a maker's GB. Raises PlanImpossible."""
    sizes: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(?:(\d{1,3})\s*x\s*)?(\S+)\s*", part)
        try:
            size = TypeAdapter(ByteSize).validate_python(found[2] if found else "")
        except ValidationError:
            size = ByteSize(0)
        count = int(found[1] or 1) if found else 0
        if size < 1 or count < 1 or len(sizes) + count > MOST:
            raise PlanImpossible(
                f"{text!r} is no list of GPUs: write 8x80GB, or 2x80GB,1x24GB (at most {MOST})"
            )
        sizes += [size] * count
    return tuple(Gpu(number, size) for number, size in enumerate(sizes))
