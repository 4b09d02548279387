"""Reads what Sentence Transformers keeps beside a model: how its vectors are pooled, and layers that follow.

``modules.json`` names the parts in their order, ``1_Pooling/config.json`` says which tokens a vector is made
of, and ``2_Dense`` has the weights of a layer. vLLM reads them when an engine starts and never again: experts
of one family have the same.
"""

import json
import re
from pathlib import Path
from typing import Any

from experts.checkpoints.hashing import sha256
from experts.errors import CheckpointMissing, CheckpointUnreadable

FILE = "modules.json"
_MODULE = re.compile(r"[0-9]_\w+")


def is_module(folder: Path) -> bool:
    """Tells whether a folder is a part's, by its name."""
    return _MODULE.fullmatch(folder.name) is not None and folder.is_dir()


def modules(folder: Path) -> dict[str, str] | None:
    """Returns the sha256 of each of these files, by its path in ``folder``; None where there are none."""
    if not (folder / FILE).is_file():
        return None
    files = [folder / FILE, *folder.glob("sentence_*_config.json"), *folder.glob("[0-9]_*/*")]
    return {file.relative_to(folder).as_posix(): sha256(file) for file in sorted(files)}


def check_modules(folder: Path) -> None:
    """Raises CheckpointMissing when a part is named that is not there: vLLM would pool in another way without
    a word."""
    for name in _named(folder / FILE):
        if not (folder / name).is_dir():
            raise CheckpointMissing(
                f"{folder}: {FILE} names {name}, and there is no such folder; complete the checkpoint"
            )


def _named(path: Path) -> list[str]:
    """Lists the folders of parts. The model's is the checkpoint's own and has no name; a normalization has no
    files."""
    if not path.is_file():
        return []
    try:
        parts: Any = json.loads(path.read_bytes())
        return [part["path"] for part in parts if part["path"] and not part["type"].endswith(".Normalize")]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointUnreadable(f"{path}: cannot be read as a list of modules: {error!r}") from None
