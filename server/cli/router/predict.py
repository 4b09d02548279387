"""``coe router predict``: decides many prompts, as JSON lines."""

import argparse
import json
from pathlib import Path

from server.cli.arguments import Parent, add_verb
from server.cli.progress import Bars
from server.cli.router.graded import add_artifact
from server.cli.router.outputs import check_file


def add_to(router: Parent) -> None:
    made = add_verb(router, "predict", predict, "decide many prompts, as JSON lines", config=False)
    add_artifact(made)
    made.add_argument("--data", type=Path, required=True, help="JSON lines with id, prompt (.gz too)")
    made.add_argument("--out", type=Path, required=True, help="JSON lines of decisions")


def predict(options: argparse.Namespace) -> int:
    from router.data.dataset import read_examples
    from router.data.example_file import write_lines
    from router.router import Router
    from router.training.evaluate import decided

    check_file("--out", options.out)
    router_, examples = Router.load(options.artifact), read_examples(options.data)
    with Bars() as bars:
        decisions = decided(router_, examples, bars.of("router"))
    write_lines(
        options.out,
        (
            json.dumps(
                {
                    "id": example.id,
                    "category": decision.likeliest,
                    "cluster": None if decision.cluster in router_.categories else decision.cluster,
                    "confidence": decision.confidence,
                    "probabilities": dict(decision.probabilities),
                    "uncertain": decision.uncertain,
                    "expert": decision.expert,
                }
            )
            for example, decision in zip(examples, decisions, strict=True)
        ),
    )
    print(f"wrote {options.out}: {len(decisions)} decisions")
    return 0
