"""The verbs of ``coe router`` that train, measure and map, and their options."""

import argparse
from pathlib import Path

import server.cli.router.embedder_options as embedder_options
import server.cli.router.verbs as verbs
from server.cli.arguments import Parent, add_verb

GRADED = "JSON lines with id, prompt, category, scores (.gz too)"


def add_to(router: Parent) -> None:
    _train(add_verb(router, "train", verbs.train, "train an artifact from labelled prompts", config=False))
    evaluate = add_verb(
        router,
        "evaluate",
        verbs.evaluate,
        "accuracy, calibration and worth on prompts kept apart",
        config=False,
    )
    _artifact(evaluate)
    evaluate.add_argument("--data", type=Path, required=True, help=GRADED)
    evaluate.add_argument(
        "--kept-apart", action="store_true", help="only what train --keep-apart left out of the same file"
    )
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write the report there as JSON")
    evaluate.add_argument("--plot", type=Path, metavar="FILE", help="draw the frontier there as PNG")

    mapped = add_verb(
        router, "map", verbs.map_experts, "solve the map of an artifact under a budget", config=False
    )
    _artifact(mapped)
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
    mapped.add_argument("--out", type=Path, required=True, help="folder of the artifact with that map")

    frontier = add_verb(
        router, "frontier", verbs.frontier, "the maps of every budget, and what they are worth", config=False
    )
    _artifact(frontier)
    frontier.add_argument("--data", type=Path, required=True, help=GRADED)
    frontier.add_argument("--total-params", metavar="SIZE", help="of all experts of a map, such as 180B")
    frontier.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")
    frontier.add_argument("--plot", type=Path, metavar="FILE", help="draw them there as PNG")

    predict = add_verb(router, "predict", verbs.predict, "decide many prompts, as JSON lines", config=False)
    _artifact(predict)
    predict.add_argument("--data", type=Path, required=True, help="JSON lines with id, prompt (.gz too)")
    predict.add_argument("--out", type=Path, required=True, help="JSON lines of decisions")

    category = add_verb(
        router,
        "add-category",
        verbs.add_category,
        "add a category from a handful of prompts, without training again",
        config=False,
    )
    _artifact(category)
    category.add_argument("--name", required=True, help="of the category")
    category.add_argument("--data", type=Path, required=True, help="JSON lines with id, prompt (.gz too)")
    category.add_argument("--expert", required=True, help="who answers it")
    category.add_argument("--out", type=Path, required=True, help="folder of the artifact that has it")


def _artifact(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--artifact", type=Path, required=True, help="folder of the artifact")


def _train(train: argparse.ArgumentParser) -> None:
    train.add_argument("--data", type=Path, required=True, help=GRADED)
    train.add_argument(
        "--unlabelled", type=Path, metavar="FILE", help="more prompts, whose categories their neighbours say"
    )
    train.add_argument(
        "--keep-apart",
        action="store_true",
        help="leave a tenth of --data, chosen by id, out of training: evaluate --kept-apart",
    )
    second_step = train.add_mutually_exclusive_group(required=True)
    second_step.add_argument("--mapping", type=Path, help="YAML file of 'category: expert' lines")
    second_step.add_argument(
        "--experts",
        metavar="FILE|NAME=SIZE,...",
        help="to map by the data's scores, with sizes, such as small=7.62B; or a YAML file of such lines",
    )
    train.add_argument(
        "--classifier",
        choices=("linear", "neighbours"),
        default="linear",
        help="linear by default; neighbours is the published way",
    )
    embedder_options.add(train)
    train.add_argument("--cache", type=Path, metavar="FILE", help="keep embeddings there between runs")
    train.add_argument("--description", default="", help="what the data is, kept in the artifact")
    train.add_argument("--out", type=Path, required=True, help="folder of the artifact")
    train.add_argument("--seed", type=int, default=0, help="same seed, same artifact, byte for byte")
