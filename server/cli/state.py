"""``coe state``: shows where things are kept, and moves what an older version kept elsewhere."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from server.cli.arguments import Parent, add_verb
from server.cli.output import console
from server.cli.tables import table
from server.config.older_layout import DATABASE, Left, left_behind
from server.config.places import KEPT, kept_at
from server.config.settings import SettingsError, load, read
from server.storage.relocation import check_unlocked, check_unused, is_ours, move


def add_to(parent: Parent) -> None:
    verbs = parent.add_parser("state", help="what is kept, and where").add_subparsers(
        required=True, metavar="VERB"
    )
    add_verb(verbs, "show", show, "where things are kept, and how many bytes")
    add_verb(verbs, "move", move_all, "move files from where an older version kept them")


def show(options: argparse.Namespace) -> int:
    settings = load(options.config)
    shown = table("setting", "path", "bytes", numbers=("bytes",))
    shown.add_row("state", str(settings.state), "")
    for setting in KEPT:
        path = kept_at(settings, setting)
        shown.add_row(setting, "not kept on disk" if path is None else str(path), _bytes(path))
    console().print(shown)
    return 0


def move_all(options: argparse.Namespace) -> int:
    left = [*left_behind(read(options.config), options.config.resolve().parent)]
    _check(left)
    for each in left:
        try:
            move(each.old, each.new)
        except OSError as error:
            raise SettingsError(f"{each.old} cannot be moved to {each.new}: {error}") from error
        print(f"{each.setting}: {each.old} -> {each.new}")
    if not left:
        print(f"{options.config}: everything is where it is kept now")
    return 0


def _check(left: Sequence[Left]) -> None:
    """Checks that all can be moved. Raises SettingsError where something is in the way, and DatabaseError
    where something is still in use."""
    for each in left:
        if each.new.exists():
            raise SettingsError(
                f"{each.setting}: both {each.old} and {each.new} are there; remove the one that you do not "
                "need, or give this configuration a state folder of its own (state)"
            )
        database = each.old / DATABASE if each.setting == "batches.folder" else each.old
        if each.setting == "batches.folder":
            check_unlocked(each.old / "lock")
        if is_ours(database):
            check_unused(database)


def _bytes(path: Path | None) -> str:
    """Counts the bytes of a file with its log, or of a folder; empty where there is none."""
    if path is None:
        return ""
    files = path.rglob("*") if path.is_dir() else path.parent.glob(f"{path.name}*")
    sizes = [file.stat().st_size for file in files if file.is_file()]
    return f"{sum(sizes):,}" if sizes else ""
