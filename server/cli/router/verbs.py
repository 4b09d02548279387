"""What the verbs of ``coe router`` do that train, measure and map. Heavy imports stay inside."""

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from router.parameters import billions
from server.cli.progress import Bars
from server.config.settings import SettingsError

if TYPE_CHECKING:
    from router.data.dataset import Example
    from router.mapping.evaluation import Worth
    from router.mapping.milp import Budgets, Solution


def train(options: argparse.Namespace) -> int:
    import router.training.train
    from router.data.dataset import read_examples
    from server.cli.router.embedder import chosen

    examples = read_examples(options.data)
    if options.keep_apart:
        examples = _part(examples, apart=False)
    with Bars() as bars:
        made = router.training.train.train(
            examples,
            options.out,
            mapping=_lines(options.mapping) if options.mapping else None,
            experts=sizes("--experts", options.experts) if options.experts else None,
            unlabelled=read_examples(options.unlabelled) if options.unlabelled else (),
            classifier=options.classifier,
            seed=options.seed,
            description=options.description,
            embedder=chosen(options),
            cache=options.cache,
            progress=bars.of("router"),
        )
    measured = made.artifact.cross_validated
    print(f"wrote {options.out}: {made!r}")
    print(
        f"cross-validated: accuracy {measured.accuracy:.3f}, macro F1 {measured.macro_f1:.3f}, "
        f"calibration error {measured.expected_calibration_error:.3f}, coverage {measured.coverage:.3f}"
    )
    if made.artifact.scores is not None:
        finer = len(made.artifact.clusters.names) if made.artifact.clusters else 0
        print(f"score table: {made.artifact.scores!r}, {finer} of them finer than the labels")
    return 0


def evaluate(options: argparse.Namespace) -> int:
    import router.training.evaluate
    from router.data.dataset import read_examples
    from router.embedders.cache import EmbeddingCache
    from router.router import Router
    from server.cli.output import write_json
    from server.cli.router.frontier_plot import save
    from server.cli.tiers.simulation_plot import matplotlib

    if options.plot is not None:
        matplotlib()
    loaded, examples = Router.load(options.artifact), read_examples(options.data)
    router_ = Router(loaded.artifact, EmbeddingCache(loaded.embedder))  # a plot decides them all again
    if options.kept_apart:
        examples = _part(examples, apart=True)
    with Bars() as bars:
        report = router.training.evaluate.evaluate(router_, examples, progress=bars.of("router"))
        print(report)
        write_json(options.json, asdict(report))
        if options.plot is not None:
            if report.worth is None:
                raise SettingsError("--plot needs an artifact with scores and graded prompts")
            found = _frontier(options, router_, examples, None, bars)
            save([worth for _, worth in found], options.plot)
    return 0


def map_experts(options: argparse.Namespace) -> int:
    from router.artifact import Artifact
    from router.mapping.expert_mapping import ExpertMapping
    from router.mapping.milp import solve

    artifact = Artifact.read(options.artifact)
    table = _table(options.artifact, artifact)
    solution = solve(table, _budgets(options), options.min_margin)
    made = replace(artifact, mapping=ExpertMapping.solved(solution.experts, table.share_of()))
    made.write(options.out)
    print(f"wrote {options.out}")
    print("\n".join(_said(solution)))
    return 0


def frontier(options: argparse.Namespace) -> int:
    from router.data.dataset import read_examples
    from router.router import Router
    from server.cli.output import write_json
    from server.cli.router.frontier_plot import save
    from server.cli.tiers.simulation_plot import matplotlib

    if options.plot is not None:
        matplotlib()
    router_ = Router.load(options.artifact)
    with Bars() as bars:
        found = _frontier(options, router_, read_examples(options.data), options.total_params, bars)
    print(f"{'active B':>8}  {'total B':>8}  {'score [95 %]':22}  over the blind mix")
    for solution, worth in found:
        score, over = worth.composition.score, worth.over_blind
        interval = f"{score.value:.2f} [{score.low:.2f}, {score.high:.2f}]"
        print(
            f"{worth.composition.active:8.2f}  {solution.total:8.2f}  {interval:22}  "
            f"{over.value:+.2f} [{over.low:+.2f}, {over.high:+.2f}]"
        )
    write_json(
        options.json,
        {"maps": [{"map": asdict(solution), "worth": asdict(worth)} for solution, worth in found]},
    )
    if options.plot is not None:
        save([worth for _, worth in found], options.plot)
    return 0


def predict(options: argparse.Namespace) -> int:
    from router.data.dataset import read_examples
    from router.data.example_file import write_lines
    from router.router import Router
    from router.training.evaluate import decided

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


def add_category(options: argparse.Namespace) -> int:
    from router.data.dataset import read_examples
    from router.router import Router
    from router.training.add_category import with_category

    router_ = Router.load(options.artifact)
    prompts = [example.prompt for example in read_examples(options.data)]
    made = with_category(router_, options.name, prompts, options.expert)
    made.artifact.write(options.out)
    print(f"wrote {options.out}: {made!r}")
    return 0


def sizes(option: str, text: str) -> dict[str, float]:
    """``name=7.62B,...``, or a YAML file of ``name: 7.62B`` lines, to billions. Raises SettingsError."""
    if "=" not in text and Path(text).exists():
        written = list(_lines(Path(text)).items())
    else:
        parts = (each.rpartition("=") for each in text.split(","))
        written = [(name.strip(), size.strip()) for name, _, size in parts]
    found: dict[str, float] = {}
    for name, size in written:
        if not name or name in found:
            raise SettingsError(
                f"{option} {name or size!r}: write each once as NAME=SIZE, such as small=7.62B, or a file"
            )
        found[name] = parameters(option, size)
    return found


def parameters(option: str, size: str) -> float:
    """Billions. Raises SettingsError."""
    try:
        return billions(size)
    except ValueError as error:
        raise SettingsError(f"{option}: {error}") from error


def _part(examples: "list[Example]", *, apart: bool) -> "list[Example]":
    """Without the held-out tenth, or that alone."""
    from router.data.dataset import split

    parts = split(examples)
    held_out = {example.id for example in parts.held_out}
    return [example for example in examples if (example.id in held_out) == apart]


def _budgets(options: argparse.Namespace) -> "Budgets":
    from router.mapping.milp import Budgets

    active, total = options.active_params, options.total_params
    return Budgets(
        None if active is None else parameters("--active-params", active),
        None if total is None else parameters("--total-params", total),
    )


def _table(folder: Path, artifact: Any) -> Any:
    if artifact.scores is None:
        raise SettingsError(
            f"{folder} has no scores to solve a map from; train it on graded prompts with --experts"
        )
    return artifact.scores


def _frontier(
    options: argparse.Namespace, router_: Any, examples: Any, total: str | None, bars: Bars
) -> "list[tuple[Solution, Worth]]":
    import router.mapping.milp
    from router.training.evaluate import frontier_worth

    table = _table(options.artifact, router_.artifact)
    limit = None if total is None else parameters("--total-params", total)
    solutions = router.mapping.milp.frontier(table, total=limit, progress=bars.of("maps"))
    worths = frontier_worth(router_, examples, solutions, progress=bars.of("router"))
    return list(zip(solutions, worths, strict=True))


def _said(solution: "Solution") -> Iterable[str]:
    value, error = 100 * solution.score, 100 * solution.standard_error
    yield f"table's score      {value:.2f} +- {error:.2f} points: flatters, as the best of noisy means"
    yield f"bound              {100 * solution.bound:.2f} points: no map within the budgets scores more"
    yield f"active parameters  {solution.active:.2f} B on average"
    yield f"total parameters   {solution.total:.2f} B: {', '.join(solution.kept)}"


def _lines(path: Path) -> dict[str, str]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(tree, Mapping) or not all(isinstance(v, str) for pair in tree.items() for v in pair):
        raise SettingsError(f"{path}: expected lines of 'name: value'")
    return dict(tree)
