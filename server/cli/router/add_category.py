"""``coe router add-category``: a category from a handful of prompts, without training again."""

import argparse
from pathlib import Path

from server.cli.arguments import Parent, add_verb
from server.cli.router.graded import add_artifact
from server.cli.router.outputs import check_folder


def add_to(router: Parent) -> None:
    category = add_verb(
        router,
        "add-category",
        add_category,
        "add a category from a handful of prompts, without training again",
        config=False,
    )
    add_artifact(category)
    category.add_argument("--name", required=True, help="of the category")
    category.add_argument("--data", type=Path, required=True, help="JSON lines with id, prompt (.gz too)")
    category.add_argument("--expert", required=True, help="who answers it")
    category.add_argument("--out", type=Path, required=True, help="folder of the artifact that has it")


def add_category(options: argparse.Namespace) -> int:
    from router.data.dataset import read_examples
    from router.router import Router
    from router.training.add_category import with_category

    check_folder("--out", options.out)
    router_ = Router.load(options.artifact)
    prompts = [example.prompt for example in read_examples(options.data)]
    made = with_category(router_, options.name, prompts, options.expert)
    made.artifact.write(options.out)
    print(f"wrote {options.out}: {made!r}")
    return 0
