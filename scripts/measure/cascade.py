"""Measures the quick stage of a router beside its last stage alone, on prompts that it was not trained on.

    python -m scripts.measure.cascade --artifact router/embedded --plain prompts.txt
    python -m scripts.measure.cascade --artifact artifact/ --data graded.jsonl.gz

Of ``--data`` the prompts count that ``coe router train --keep-apart`` left out. Times are of CPU, one core.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from router.data.dataset import Example, read_examples
from router.data.plain_prompts import plain_prompts
from router.decision import GENERAL, Decision
from router.errors import MappingError, RouterError
from router.router import Router
from server.cli.output import write_json
from server.cli.router.graded import add_artifact, part_of

WARMING = 5
"""Decisions before the first that is timed."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Counts of prompts: those that get their label's category, those in ``general``, those doubted."""

    right: int
    general: int
    doubted: int
    mean_ms: float

    @classmethod
    def of(cls, examples: Sequence[Example], decisions: Sequence[Decision], seconds: float) -> "Stage":
        return cls(
            sum(one.category == each.category for one, each in zip(decisions, examples, strict=True)),
            sum(one.category == GENERAL for one in decisions),
            sum(one.uncertain for one in decisions),
            1e3 * seconds / len(examples),
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """``alone``: prompts that the quick stage decides alone. ``alike``: prompts that get one category by the
    cascade and by its last stage."""

    prompts: int
    alone: int
    alike: int
    cascade: Stage
    last: Stage


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_artifact(parser)
    prompts = parser.add_mutually_exclusive_group(required=True)
    prompts.add_argument("--data", type=Path, help="graded or labelled prompts")
    prompts.add_argument("--plain", type=Path, help="prompts under [category] headings")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    try:
        if options.plain is None:
            examples = part_of(read_examples(options.data), apart=True)
        else:
            examples = plain_prompts(options.plain)
        found = measured(Router.load(options.artifact), examples)
    except (RouterError, OSError) as error:
        print(f"cascade: {error}", file=sys.stderr)
        return 1
    print(f"{found.prompts} prompts, {found.alone} decided by the quick stage alone, {found.alike} alike")
    for name, stage in {"cascade": found.cascade, "last stage alone": found.last}.items():
        print(
            f"{name}: {stage.right} get their category, {stage.general} are in {GENERAL}, "
            f"{stage.doubted} doubted; {stage.mean_ms:.2f} ms on average"
        )
    write_json(options.json, asdict(found))
    return 0


def measured(router: Router, examples: Sequence[Example]) -> Measured:
    """Raises MappingError for a router without a quick stage."""
    if router.artifact.quick is None:
        raise MappingError("the artifact has no quick stage; train it with --quick")
    last = Router(replace(router.artifact, quick=None), router.embedder)
    (both, both_seconds), (slow, slow_seconds) = (_timed(each, examples) for each in (router, last))
    quickly = router.decide_quickly([each.prompt for each in examples])
    return Measured(
        len(examples),
        sum(decision is not None for decision in quickly),
        sum(one.category == other.category for one, other in zip(both, slow, strict=True)),
        Stage.of(examples, both, both_seconds),
        Stage.of(examples, slow, slow_seconds),
    )


def _timed(router: Router, examples: Sequence[Example]) -> tuple[list[Decision], float]:
    for example in examples[:WARMING]:
        router.decide(example.prompt)
    began = time.thread_time()
    decisions = [router.decide(example.prompt) for example in examples]
    return decisions, time.thread_time() - began


if __name__ == "__main__":
    sys.exit(main())
