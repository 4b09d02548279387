"""Names of experts and families, out of what folders and repositories are called."""

import re
import unicodedata
from collections.abc import Collection
from pathlib import Path

from experts.spec import CheckpointSource

_SAYS_NOTHING = re.compile(
    r"(checkpoint|step|epoch)[-_]?\d+|model|final|output|merged|adapter|best|[0-9a-f]{40}"
)
"""Last names of folders that training gives."""


def expert_name(source: CheckpointSource, taken: Collection[str]) -> str:
    """Names an expert in letters, digits and ``. _ -``, as no other in ``taken`` is called."""
    if source.huggingface is not None:
        parts = source.huggingface.split("/")
    elif source.url is not None:
        parts = source.url.partition("://")[2].split("/")
    elif source.folder is not None:
        parts = [_of_cache(part) for part in source.folder.parts if part not in ("/", "snapshots")]
    else:
        parts = [str(source.embedded)]
    name = slug(parts[-1])
    for part in reversed(parts[:-1]):
        if name and not _SAYS_NOTHING.fullmatch(name) and name not in taken:
            break
        before = slug(part)
        name = before if not name or re.fullmatch(r"[0-9a-f]{40}", name) else f"{before}-{name}".strip("-")
    return _free(name or "expert", taken)


def family_name(kind: str, parameters: int, adapters: bool, taken: Collection[str]) -> str:
    """Names a family by its architecture and size, such as ``llama-8b``."""
    size = f"{parameters / 1e9:.2g}b" if parameters >= 95e7 else f"{max(1, round(parameters / 1e6))}m"
    return _free(f"{slug(kind) or 'model'}-{size}{'-lora' if adapters else ''}", taken)


def slug(text: str) -> str:
    """Spells ``text`` in letters, digits and ``. _ -``: names travel in headers and become folders."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-zA-Z0-9._-]+", "-", plain).strip("-._").lower()


def _of_cache(part: str) -> str:
    """``models--org--name`` of Hugging Face's cache is called ``name``."""
    return part.rpartition("--")[2] if part.startswith("models--") else part


def _free(name: str, taken: Collection[str]) -> str:
    number = 1
    found = name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    return found


def words(name: str) -> frozenset[str]:
    """Returns the words of a name, in small letters."""
    return frozenset(re.findall(r"[a-z]+", name.lower()))


def shown_path(folder: Path, beside: Path) -> str:
    """Writes a folder for a configuration in ``beside``: relative where it lies there, else whole."""
    return str(folder.relative_to(beside)) if folder.is_relative_to(beside) else str(folder)
