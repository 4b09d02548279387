"""``coe router add-expert``, ``replace-expert`` and ``remove-expert``: experts by their grades alone."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from server.cli.arguments import Parent, add_verb
from server.cli.progress import Bars
from server.cli.router.graded import GRADED, add_artifact
from server.cli.router.mapping import add_budgets, budgets, said, table_of
from server.cli.router.outputs import check_folder
from server.cli.router.sizes import parameters

if TYPE_CHECKING:
    from router.artifacts.artifact import Artifact


def add_to(router: Parent) -> None:
    for verb, run, text in (
        ("add-expert", add_expert, "add an expert by its grades, without training again"),
        ("replace-expert", replace_expert, "put an expert in another one's place, by its grades"),
        ("remove-expert", remove_expert, "take an expert out of an artifact"),
    ):
        made = add_verb(router, verb, run, text, config=False)
        add_artifact(made)
        made.add_argument("--name", required=True, help="of the expert")
        if verb != "remove-expert":
            made.add_argument("--params", required=True, metavar="SIZE", help="of the expert, such as 8B")
            made.add_argument("--data", type=Path, required=True, help=GRADED)
        if verb == "replace-expert":
            made.add_argument("--of", required=True, metavar="EXPERT", help="the one that it replaces")
        add_budgets(made)
        made.add_argument("--out", type=Path, required=True, help="folder of the artifact that is made")


def add_expert(options: argparse.Namespace) -> int:
    return _changed(options, None)


def replace_expert(options: argparse.Namespace) -> int:
    return _changed(options, options.of)


def remove_expert(options: argparse.Namespace) -> int:
    from router.artifacts.artifact import Artifact
    from router.training.expert_column import without_expert

    check_folder("--out", options.out)
    before = Artifact.read(options.artifact)
    _written(options, before, without_expert(before, options.name))
    return 0


def _changed(options: argparse.Namespace, replaced: str | None) -> int:
    from router.data.dataset import read_examples
    from router.router import Router
    from router.training.expert_column import with_expert, without_expert

    check_folder("--out", options.out)
    size, router = parameters("--params", options.params), Router.load(options.artifact)
    before, graded = router.artifact, read_examples(options.data)
    if replaced is not None and replaced == options.name:  # a newer version of the same name
        router, replaced = router.with_artifact(without_expert(before, replaced)), None
    with Bars() as bars:
        made = with_expert(router, options.name, size, graded, bars.of("router"))
    if replaced is not None:
        made = without_expert(made, replaced)
    print(f"{options.name} answers {_written(options, before, made):.1%} of the prompts")
    return 0


def _written(options: argparse.Namespace, before: "Artifact", made: "Artifact") -> float:
    """Solves the map, writes the artifact, and returns the share of prompts that the expert gets. Without
    budgets a map may cost what the one before did."""
    from router.mapping.budget_solver import fixed_rows
    from router.mapping.milp import Budgets, solve

    given, table = budgets(options), table_of(options.artifact, made)
    if given == Budgets():
        given = Budgets(active=before.active_parameters)
    solution = solve(table, given, options.min_margin, fixed_rows(table, made.finer, made.fixed))
    made.with_solution(solution).write(options.out)
    print(f"wrote {options.out}")
    print("\n".join(said(solution)))
    shares = table.share_of()
    return float(sum(shares[row] for row, expert in solution.experts.items() if expert == options.name))
