"""``coe router map``: solves the map of an artifact under a budget."""

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.cli.arguments import Parent, add_verb
from server.cli.output import write_json
from server.cli.router import memory
from server.cli.router.graded import add_artifact
from server.cli.router.outputs import check_file, check_folder
from server.cli.router.sizes import parameters
from server.config.settings import SettingsError

if TYPE_CHECKING:
    from router.mapping.milp import Budgets, Solution


def add_to(router: Parent) -> None:
    mapped = add_verb(router, "map", map_experts, "solve the map of an artifact under a budget", config=False)
    add_artifact(mapped)
    add_budgets(mapped)
    mapped.add_argument(
        "--fix",
        metavar="CATEGORY=EXPERT",
        action="append",
        default=[],
        help="the expert of a category, in this map and all that are solved from it; repeatable",
    )
    mapped.add_argument(
        "--feedback",
        type=Path,
        metavar="FILE",
        help="weigh the categories as in the decisions that a gateway kept there, graded or not",
    )
    add_steps(mapped)
    memory.add_to(mapped)
    mapped.add_argument("--json", type=Path, metavar="FILE", help="write the simulated maps there as JSON")
    mapped.add_argument("--out", type=Path, required=True, help="folder of the artifact with that map")


def add_budgets(parser: argparse.ArgumentParser) -> None:
    """Adds the options that bound a map."""
    parser.add_argument(
        "--active-params", metavar="SIZE", help="of the expert that answers, on average, such as 31B"
    )
    parser.add_argument("--total-params", metavar="SIZE", help="of all experts of the map, such as 180B")
    parser.add_argument(
        "--min-margin",
        type=float,
        default=0.0,
        metavar="POINTS",
        help="an expert must be better than a cheaper one by more (0.5 is half a percentage point)",
    )


def add_steps(parser: argparse.ArgumentParser) -> None:
    """Adds the option that says how an expert is chosen."""
    parser.add_argument(
        "--steps",
        choices=("one", "two"),
        help="two: the map gives a category its expert; one: each prompt gets the expert with the best score "
        "expected on it, less a price for size; as the artifact has it by default",
    )


def map_experts(options: argparse.Namespace) -> int:
    from router.artifacts.artifact import Artifact

    check_folder("--out", options.out)
    check_file("--json", options.json)
    artifact = Artifact.read(options.artifact)
    if options.feedback is not None:
        artifact = _as_in_traffic(options.feedback, artifact, table_of(options.artifact, artifact))
    table_of(options.artifact, artifact)
    artifact = replace(artifact, fixed={**artifact.fixed, **_fixed(options.fix)})
    if memory.is_asked(options):
        solution = _in_memory(options, artifact)
    else:
        given = budgets(options)
        solver = artifact.solver(total=given.total, min_margin=options.min_margin, steps=options.steps)
        solution = solver.solve(given.active)
    artifact.with_solution(solution).write(options.out)
    print(f"wrote {options.out}")
    print("\n".join(said(solution)))
    return 0


def _as_in_traffic(file: Path, artifact: Any, table: Any) -> Any:
    """Returns the artifact with the shares of kept decisions, and says how far these are from training's.
    Raises NotKept."""
    from router.mapping.traffic_shares import label_shares, with_shares
    from server.feedback.store import FeedbackStore

    store = FeedbackStore.open(file, create=False)
    try:
        rows = [each.cluster for each in store.kept()]
    finally:
        store.close()
    known = [row for row in rows if row in set(table.categories)]
    made = replace(artifact, scores=with_shares(table, known))
    before, after = label_shares(table, artifact.finer), label_shares(made.scores, artifact.finer)
    moved = sum(abs(after[label] - before[label]) for label in before) / 2
    print(f"traffic            {len(known):,} of {len(rows):,} decisions are at rows of the scores")
    print(f"moved shares       {moved:.1%}")
    return made


def _in_memory(options: argparse.Namespace, artifact: Any) -> "Solution":
    """Simulates maps, shows those that no other is better than, and returns the best one."""
    from server.planning.memory_map import best_within, surface

    if options.min_margin:
        raise SettingsError("--min-margin does not go with --trace: simulated maps are the best ones")
    if options.steps == "one":
        raise SettingsError("--steps one does not go with --trace: maps are simulated, which take two steps")
    maps = memory.simulated_maps(options, artifact, budgets(options))
    best, shown = best_within(maps, options.max_wait), surface(maps)
    print("\n".join(memory.lines(shown, best)))
    write_json(options.json, memory.tree(shown))
    return best.solution


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


def budgets(options: argparse.Namespace) -> "Budgets":
    """Reads the budgets of ``add_budgets``. Raises SettingsError."""
    from router.mapping.milp import Budgets

    active, total = options.active_params, options.total_params
    return Budgets(
        None if active is None else parameters("--active-params", active),
        None if total is None else parameters("--total-params", total),
    )


def said(solution: "Solution") -> Iterable[str]:
    """Yields what a solved map is worth, in lines."""
    value, error = 100 * solution.score, 100 * solution.standard_error
    yield f"table's score      {value:.2f} +- {error:.2f} points: flatters, as the best of noisy means"
    yield f"bound              {100 * solution.bound:.2f} points: no map within the budgets scores more"
    if solution.price is not None:
        yield f"price              {100 * solution.price:.4f} points for a billion parameters, in one step"
    yield f"active parameters  {solution.active:.2f} B on average"
    yield f"total parameters   {solution.total:.2f} B: {', '.join(solution.kept)}"
