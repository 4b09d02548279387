"""A local folder in Hugging Face's layout, which the prepared folder links to."""

import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from experts.checkpoints.sentence_modules import is_module
from experts.checkpoints.sources.source import Space
from experts.errors import CheckpointMissing
from experts.progress import Progress

WANTED = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model")
UNWANTED = ("[!0-9]*/*", "[0-9][!_]*/*", "*/*/*", "consolidated*", "coe.json")
"""Files in folders below, except those of ``sentence_modules``, and weights a second time in their maker's
own format."""


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder of this machine."""

    folder: Path

    @property
    def origin(self) -> str:
        return str(self.folder)

    def space(self, store: Path) -> Space:
        if not self.folder.is_dir():
            raise CheckpointMissing(f"{self.folder}: no such folder{nearest(self.folder) or '; correct it'}")
        return Space(store, 0)

    def provide(self, folder: Path, progress: Progress) -> None:
        link(sorted(self.folder.iterdir()), folder)


def nearest(path: Path) -> str:
    """Asks whether what is beside ``path`` and has nearly its name was meant; empty where nothing is."""
    try:
        beside = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        beside = []
    close = difflib.get_close_matches(path.name, beside, n=1)
    return f"; did you mean {path.parent / close[0]}?" if close else ""


def link(files: Iterable[Path], folder: Path) -> None:
    """Makes symbolic links in ``folder`` to those of ``files`` that belong to a checkpoint."""
    for file in files:
        if is_module(file):
            (folder / file.name).mkdir()
            link(sorted(file.iterdir()), folder / file.name)
        wanted = any(fnmatch(file.name, pattern) for pattern in WANTED)
        if wanted and not any(fnmatch(file.name, pattern) for pattern in UNWANTED) and file.is_file():
            os.symlink(file.absolute(), folder / file.name)
