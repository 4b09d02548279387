"""``coe router map``: solves the map of an artifact under a budget."""

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.cli.arguments import Parent, add_verb
from server.cli.router.graded import add_artifact
from server.cli.router.outputs import check_folder
from server.cli.router.sizes import parameters
from server.config.settings import SettingsError

if TYPE_CHECKING:
    from router.mapping.milp import Budgets, Solution


def add_to(router: Parent) -> None:
    mapped = add_verb(router, "map", map_experts, "solve the map of an artifact under a budget", config=False)
    add_artifact(mapped)
    mapped.add_argument(
        "--active-params", metavar="SIZE", help="of the expert that answers, on average, such as 31B"
    )
    mapped.add_argument("--total-params", metavar="SIZE", help="of all experts of the map, such as 180B")
    mapped.add_argument(
        "--min-margin",
        type=float,
        default=0.0,
        metavar="POINTS",
        help="an expert must be better than a cheaper one by more (0.5 is half a percentage point)",
    )
    mapped.add_argument(
        "--fix",
        metavar="CATEGORY=EXPERT",
        action="append",
        default=[],
        help="the expert of a category, in this map and all that are solved from it; repeatable",
    )
    mapped.add_argument("--out", type=Path, required=True, help="folder of the artifact with that map")


def map_experts(options: argparse.Namespace) -> int:
    from router.artifacts.artifact import Artifact
    from router.mapping.budget_solver import fixed_rows
    from router.mapping.milp import solve

    check_folder("--out", options.out)
    artifact = Artifact.read(options.artifact)
    table = table_of(options.artifact, artifact)
    artifact = replace(artifact, fixed={**artifact.fixed, **_fixed(options.fix)})
    rows = fixed_rows(table, artifact.finer, artifact.fixed)
    solution = solve(table, _budgets(options), options.min_margin, rows)
    artifact.with_solution(solution).write(options.out)
    print(f"wrote {options.out}")
    print("\n".join(_said(solution)))
    return 0


def table_of(folder: Path, artifact: Any) -> Any:
    """Returns the scores of the artifact in ``folder``. Raises SettingsError where it has none."""
    if artifact.scores is None:
        raise SettingsError(
            f"{folder} has no scores to solve a map from; train it on graded prompts with --experts"
        )
    return artifact.scores


def _fixed(options: list[str]) -> dict[str, str]:
    pairs = [option.partition("=") for option in options]
    if not all(category and expert for category, _, expert in pairs):
        raise SettingsError(f"--fix {' '.join(options)}: write each as CATEGORY=EXPERT")
    return {category: expert for category, _, expert in pairs}


def _budgets(options: argparse.Namespace) -> "Budgets":
    from router.mapping.milp import Budgets

    active, total = options.active_params, options.total_params
    return Budgets(
        None if active is None else parameters("--active-params", active),
        None if total is None else parameters("--total-params", total),
    )


def _said(solution: "Solution") -> Iterable[str]:
    value, error = 100 * solution.score, 100 * solution.standard_error
    yield f"table's score      {value:.2f} +- {error:.2f} points: flatters, as the best of noisy means"
    yield f"bound              {100 * solution.bound:.2f} points: no map within the budgets scores more"
    yield f"active parameters  {solution.active:.2f} B on average"
    yield f"total parameters   {solution.total:.2f} B: {', '.join(solution.kept)}"
