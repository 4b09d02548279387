"""Which prompts of a file a composition with experts for languages would take from the map, and how long that
takes to tell.

    python -m scripts.measure.languages --data prompts.jsonl.gz --languages de es fr hu ja ko pt ru zh ar
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from router.data.dataset import read_examples
from router.errors import RouterError
from router.languages import Languages


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--languages", nargs="+", required=True, metavar="CODE", help="ISO 639, such as hu")
    options = parser.parse_args(arguments)
    try:
        examples = read_examples(options.data)
        before = time.process_time()
        languages = Languages({code: code for code in options.languages})
        languages.expert_of(["hello"])
        opened = time.process_time()
        told = [languages.expert_of([example.prompt]) for example in examples]
        seconds = time.process_time() - opened
    except RouterError as error:
        print(f"languages: {error}", file=sys.stderr)
        return 1
    each_ms = 1e3 * seconds / max(1, len(examples))
    print(f"{len(examples):,} prompts, {each_ms:.2f} ms each; opened in {opened - before:.1f} s of CPU time")
    for name, count in Counter(code for code in told if code is not None).most_common():
        print(f"{name}: {count}")
    for example, code in zip(examples, told, strict=True):
        if code is not None:
            print(f"{example.id}: {code}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
