"""``coe router evaluate`` and ``coe router frontier``: how good an artifact and its maps are."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.cli.arguments import Parent, add_verb
from server.cli.progress import Bars
from server.cli.router import memory
from server.cli.router.graded import GRADED, add_artifact, part_of
from server.cli.router.mapping import add_steps, budgets, table_of
from server.cli.router.outputs import check_file
from server.config.settings import SettingsError

if TYPE_CHECKING:
    from router.mapping.evaluation import MapEvaluation
    from router.mapping.milp import Solution


_NO_BUDGETS = {"over": "active", "active_params": None, "total_params": None, "steps": None}


def add_to(router: Parent) -> None:
    evaluate = add_verb(
        router,
        "evaluate",
        evaluate_router,
        "accuracy, calibration and worth on prompts kept apart",
        config=False,
    )
    add_artifact(evaluate)
    evaluate.add_argument("--data", type=Path, required=True, help=GRADED)
    evaluate.add_argument(
        "--kept-apart", action="store_true", help="only what train --keep-apart left out of the same file"
    )
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write the report there as JSON")
    evaluate.add_argument("--plot", type=Path, metavar="FILE", help="draw the frontier there as PNG")

    frontier = add_verb(
        router, "frontier", show_frontier, "the maps of every budget, and what they are worth", config=False
    )
    add_artifact(frontier)
    frontier.add_argument("--data", type=Path, help=f"{GRADED}; needed without --trace")
    frontier.add_argument(
        "--over",
        choices=("active", "total"),
        default="active",
        help="parameters whose budgets are gone through: of the expert that answers, or of all that are kept",
    )
    frontier.add_argument(
        "--active-params", metavar="SIZE", help="of the expert that answers, on average, such as 31B"
    )
    frontier.add_argument("--total-params", metavar="SIZE", help="of all experts of a map, such as 180B")
    add_steps(frontier)
    memory.add_to(frontier)
    frontier.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")
    frontier.add_argument("--plot", type=Path, metavar="FILE", help="draw them there as PNG")


def evaluate_router(options: argparse.Namespace) -> int:
    from router.data.dataset import read_examples
    from router.embedders.cache import EmbeddingCache
    from router.router import Router
    from router.training.evaluate import evaluate
    from server.cli.output import write_json
    from server.cli.router.plots import save_frontier
    from server.cli.tiers.simulation_plot import matplotlib

    check_file("--json", options.json)
    check_file("--plot", options.plot)
    if options.plot is not None:
        matplotlib()
    loaded, examples = Router.load(options.artifact), read_examples(options.data)
    router_ = Router(loaded.artifact, EmbeddingCache(loaded.embedder))  # a plot decides them all again
    if options.kept_apart:
        examples = part_of(examples, apart=True)
    with Bars() as bars:
        report = evaluate(router_, examples, progress=bars.of("router"))
        print(report)
        write_json(options.json, asdict(report))
        if options.plot is not None:
            if report.worth is None:
                raise SettingsError("--plot needs an artifact with scores and graded prompts")
            found = _frontier(argparse.Namespace(**_NO_BUDGETS, **vars(options)), router_, examples, bars)
            save_frontier([each for _, each in found], options.plot)
    return 0


def show_frontier(options: argparse.Namespace) -> int:
    from router.data.dataset import read_examples
    from router.router import Router
    from server.cli.output import write_json
    from server.cli.router.plots import save_frontier
    from server.cli.tiers.simulation_plot import matplotlib

    check_file("--json", options.json)
    check_file("--plot", options.plot)
    if memory.is_asked(options):
        return _surface(options)
    if options.data is None:
        raise SettingsError(
            "--data has the graded prompts to measure maps on, or --trace requests to simulate"
        )
    if options.plot is not None:
        matplotlib()
    router_ = Router.load(options.artifact)
    with Bars() as bars:
        found = _frontier(options, router_, read_examples(options.data), bars)
    print(f"{'active B':>8}  {'total B':>8}  {'score [95 %]':22}  over the blind mix")
    for solution, each in found:
        score, over = each.composition.score, each.over_blind
        interval = f"{score.value:.2f} [{score.low:.2f}, {score.high:.2f}]"
        print(
            f"{each.composition.active:8.2f}  {solution.total:8.2f}  {interval:22}  "
            f"{over.value:+.2f} [{over.low:+.2f}, {over.high:+.2f}]"
        )
    write_json(
        options.json,
        {"maps": [{"map": asdict(solution), "worth": asdict(each)} for solution, each in found]},
    )
    if options.plot is not None:
        save_frontier([each for _, each in found], options.plot)
    return 0


def _surface(options: argparse.Namespace) -> int:
    """Simulates maps on a trace, and shows those that no other one is better than."""
    from router.artifacts.artifact import Artifact
    from server.cli.output import write_json
    from server.planning.memory_map import surface

    if options.steps == "one":
        raise SettingsError("--steps one does not go with --trace: maps are simulated, which take two steps")
    if options.data is not None or options.plot is not None or options.over != "active":
        raise SettingsError("--data, --plot and --over do not go with --trace, whose maps are simulated")
    artifact = Artifact.read(options.artifact)
    table_of(options.artifact, artifact)
    shown = surface(memory.simulated_maps(options, artifact, budgets(options)))
    if options.max_wait is not None:
        shown = [each for each in shown if each.figures.wait_s.p99 <= options.max_wait]
    print("\n".join(memory.lines(shown)))
    write_json(options.json, memory.tree(shown))
    return 0


def _frontier(
    options: argparse.Namespace, router_: Any, examples: Any, bars: Bars
) -> "list[tuple[Solution, MapEvaluation]]":
    from router.mapping.budget_solver import fixed_rows
    from router.mapping.milp import total_frontier
    from router.training.evaluate import evaluate_frontier

    table, limits = table_of(options.artifact, router_.artifact), budgets(options)
    steps = options.steps or router_.artifact.steps
    fixed = fixed_rows(table, router_.artifact.finer, router_.artifact.fixed)
    if options.over == "total":
        if limits.total is not None:
            raise SettingsError("--over total goes through the budgets of --total-params itself")
        if steps == "one":
            raise SettingsError("--over total goes through maps, which take two steps: give --steps two")
        solutions = total_frontier(table, limits.active, progress=bars.of("maps"), fixed=fixed)
    else:
        if limits.active is not None:
            raise SettingsError("--over active goes through the budgets of --active-params itself")
        solver = router_.artifact.solver(total=limits.total, steps=steps)
        solutions = solver.frontier(bars.of("maps"))
    evaluations = evaluate_frontier(router_, examples, solutions, progress=bars.of("router"))
    return list(zip(solutions, evaluations, strict=True))
