"""``coe router train``: labelled prompts become an artifact."""

import argparse
from pathlib import Path

import server.cli.router.embedder as embedder
from server.cli.arguments import Parent, add_verb
from server.cli.progress import Bars
from server.cli.router.graded import GRADED, part_of
from server.cli.router.outputs import check_folder
from server.cli.router.sizes import pairs_in, sizes


def add_to(router: Parent) -> None:
    train = add_verb(router, "train", train_router, "train an artifact from labelled prompts", config=False)
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
        "--coarse",
        action="store_true",
        help="map categories as they are; by default finer ones, where predictions are better than means",
    )
    train.add_argument(
        "--classifier",
        choices=("linear", "neighbours"),
        default="linear",
        help="linear by default; neighbours is the published way",
    )
    embedder.add_to(train)
    train.add_argument("--cache", type=Path, metavar="FILE", help="keep embeddings there between runs")
    train.add_argument("--description", default="", help="what the data is, kept in the artifact")
    train.add_argument("--out", type=Path, required=True, help="folder of the artifact")
    train.add_argument("--seed", type=int, default=0, help="same seed, same artifact, byte for byte")


def train_router(options: argparse.Namespace) -> int:
    from router.data.dataset import read_examples
    from router.training.train import train

    check_folder("--out", options.out)
    examples = read_examples(options.data)
    if options.keep_apart:
        examples = part_of(examples, apart=False)
    with Bars() as bars:
        made = train(
            examples,
            options.out,
            mapping=pairs_in(options.mapping) if options.mapping else None,
            experts=sizes("--experts", options.experts) if options.experts else None,
            unlabelled=read_examples(options.unlabelled) if options.unlabelled else (),
            classifier=options.classifier,
            seed=options.seed,
            description=options.description,
            embedder=embedder.chosen(options),
            quick=embedder.quick(options),
            finer=not options.coarse,
            cache=options.cache,
            progress=bars.of("router"),
        )
    measured = made.artifact.cross_validated
    print(f"wrote {options.out}: {made!r}")
    print(
        f"cross-validated: accuracy {measured.accuracy:.3f}, macro F1 {measured.macro_f1:.3f}, "
        f"calibration error {measured.expected_calibration_error:.3f}, coverage {measured.coverage:.3f}"
    )
    if (stage := made.artifact.quick) is not None:
        value, low, high = stage.difference
        print(
            f"cascade: {stage.embedder.name} decides {stage.alone:.1%} alone, from a confidence of "
            f"{stage.short_limit:g} (short prompts) and {stage.longer_limit:g} on; that moves right "
            f"categories by {value:+.2f} [{low:+.2f}, {high:+.2f}] points"
        )
    if made.artifact.scores is not None:
        finer = len(made.artifact.clusters.names) if made.artifact.clusters else 0
        print(f"score table: {made.artifact.scores!r}, {finer} of them finer than the labels")
        if made.artifact.predictions is None:
            print("one step: not possible, since no finer categories help (coe router map --steps)")
    return 0
