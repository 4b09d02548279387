"""Plays seeds, one seed again, or resets at every byte: ``python -m tests.simulation --seeds 0 1000``."""

import argparse
import sys
import time
import traceback

from tests.simulation import clock

clock.install()

from tests.simulation import matrix, resets  # noqa: E402
from tests.simulation.world import run  # noqa: E402  the clock comes before what asks for it

MOST_FAILURES = 10
"""Seeds that fail before the rest is not played any more."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="one run, with its trace")
    which.add_argument(
        "--seeds", type=int, nargs=2, metavar=("FIRST", "END"), help="all from FIRST below END"
    )
    which.add_argument("--resets", choices=("whole", "stream"), help="at every byte of such an answer")
    which.add_argument("--matrix", action="store_true", help="what is heard of each fault in each state")
    options = parser.parse_args()
    if options.seed is not None:
        report = run(options.seed)
        print(report.scenario, *report.trace, sep="\n")
        return 0
    if options.matrix:
        print(*matrix.table(), sep="\n")
        return 0
    if options.resets is not None:
        print(resets.run(stream=options.resets == "stream"), "resets, and nothing is left behind")
        return 0
    failed = []
    began = time.perf_counter()
    for seed in range(*options.seeds):
        try:
            run(seed)
        except Exception as error:
            failed.append(seed)
            print(f"seed {seed}: {type(error).__name__}: {error}"[:1000], flush=True)
            if len(failed) == 1:
                traceback.print_exc()
            if len(failed) == MOST_FAILURES:
                break
    runs = options.seeds[1] - options.seeds[0]
    print(f"{runs} seeds, {len(failed)} failed, {time.perf_counter() - began:.1f} s")
    if failed:
        print("play one again with: python -m tests.simulation --seed", failed[0])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
