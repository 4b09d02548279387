"""Plays random traces of the tiers: ``python -m tests.memory_tiers.traces --seeds 10000 20000``."""

import argparse
import sys

from tests.memory_tiers.traces.test_tier_state_random import play

MOST_FAILURES = 10
"""Seeds that fail before the rest is not played any more."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs=2, metavar=("FIRST", "END"), required=True)
    parser.add_argument("--skipped", type=int, default=0, help="draws thrown away first: other traces")
    options = parser.parse_args()
    failed = 0
    for seed in range(*options.seeds):
        try:
            play(seed, options.skipped)
        except Exception as error:
            failed += 1
            print(
                f"seed {seed}, {options.skipped} skipped: {type(error).__name__}: {error}"[:1000], flush=True
            )
            if failed == MOST_FAILURES:
                break
    print(f"seeds {options.seeds[0]} to {options.seeds[1]}, {options.skipped} skipped: {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
