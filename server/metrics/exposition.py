"""Prometheus' text format 0.0.4, written in pieces: between them the event loop has its turn."""

import asyncio
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

AT_A_TIME = 200
"""Samples that are written without a pause: less than a millisecond."""


async def exposition(registry: CollectorRegistry) -> bytes:
    """All families. One may come in several pieces, one after another. Left out is when a series was made,
    which the format has no place for but a series of its own."""
    lines: list[str] = []
    begun = ""
    for family in registry.collect():
        if family.name != begun:
            begun = family.name
            lines += _head(family)
        await asyncio.sleep(0)
        samples = [sample for sample in family.samples if sample.name != f"{family.name}_created"]
        for start in range(0, len(samples), AT_A_TIME):
            lines += map(_line, samples[start : start + AT_A_TIME])
            await asyncio.sleep(0)
    return "".join(lines).encode()


def _head(family: Metric) -> Iterator[str]:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    meaning = family.documentation.replace("\\", "\\\\").replace("\n", "\\n")
    yield f"# HELP {name} {meaning}\n"
    yield f"# TYPE {name} {family.type}\n"


def _line(sample: Sample) -> str:
    value = floatToGoString(sample.value)  # type: ignore[no-untyped-call]
    if not sample.labels:
        return f"{sample.name} {value}\n"
    labels = ",".join(f'{name}="{_escaped(text)}"' for name, text in sorted(sample.labels.items()))
    return f"{sample.name}{{{labels}}} {value}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
