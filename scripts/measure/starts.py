"""Measures starts of the embedded base's engine: by itself, and forked from a process that has imported vLLM.

    python -m scripts.measure.starts --store .state/models --rounds 5

The two take turns; the first start from a nursery, which waits for the imports, is not counted. Processor
time is that of the engine's processes until it is ready.
"""

import argparse
import asyncio
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.gateway.cpu import cpu_seconds
from experts.checkpoints.prepare import prepare
from experts.engines.nursery import Nurseries
from experts.engines.session import session_members
from experts.spec import CheckpointSource, Expert, ExpertConfig, FamilyConfig
from experts.vllm.modes import full_weights_engine

FAMILY = FamilyConfig.model_validate({"max_model_len": 2048, "kv_cache": "256MiB", "max_num_seqs": 32})


@dataclass(frozen=True, slots=True)
class Start:
    """One start, to the engine's first answer."""

    seconds: float
    cpu_seconds: float


async def start(expert: Expert, nurseries: Nurseries | None) -> Start:
    with tempfile.TemporaryDirectory() as logs:
        engine = full_weights_engine("embedded", FAMILY, Path(logs), nurseries=nurseries)
        begun = time.monotonic()
        await engine.start(expert, expert.folder)
        seconds = time.monotonic() - begun
        used = cpu_seconds(session_members(engine.server.process.pid))
        await engine.stop()
    return Start(seconds, used)


async def measure(expert: Expert, rounds: int) -> dict[str, list[Start]]:
    with closing(Nurseries()) as nurseries:
        await start(expert, nurseries)
        found: dict[str, list[Start]] = {"by itself": [], "from a nursery": []}
        for number in range(rounds):
            for name, given in (("by itself", None), ("from a nursery", nurseries)):
                found[name].append(await start(expert, given))
                print(f"round {number + 1}, {name}: {found[name][-1]}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="where the experts are prepared")
    parser.add_argument("--rounds", type=int, default=5, help="medians are printed")
    options = parser.parse_args()
    config = ExpertConfig(family="embedded", checkpoint=CheckpointSource(embedded="base"))
    found = asyncio.run(measure(prepare("general", config, options.store), options.rounds))
    print("| start | s | s of processor time |\n|---|---:|---:|")
    for name, starts in found.items():
        wall, used = median(each.seconds for each in starts), median(each.cpu_seconds for each in starts)
        print(f"| {name} | {wall:.1f} | {used:.1f} |")


if __name__ == "__main__":
    main()
