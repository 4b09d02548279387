"""Places of checkpoints as people name them: folders, folders of them, files, URLs, repositories of a hub."""

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from experts.checkpoints.object_store.folder import ObjectFolder
from experts.checkpoints.sources.folder import nearest
from experts.errors import CheckpointMissing
from experts.spec import CheckpointSource
from experts.survey.candidate import LeftOut, Place

DEPTH = 4
"""Folders below a folder that are looked into: Hugging Face's own cache has its checkpoints that deep."""
MARKS = ("config.json", "adapter_config.json", "model_index.json")
WEIGHTS = ("*.safetensors", "*.gguf", "*.bin", "*.pth", "*.pt")
REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def places_of(named: str) -> Iterator[Place | LeftOut]:
    """Yields the checkpoints at ``named``. Raises CheckpointMissing where nothing is there: a typing error,
    which is nothing to leave out."""
    if not named.strip():
        raise CheckpointMissing(f"{named!r} names no checkpoint; name a folder, a repository or a URL")
    if "://" in named:
        yield from _in_store(named)
        return
    path = Path(named).expanduser()
    try:
        if path.is_dir():
            yield from _in_folder(path, named)
        elif path.exists():
            yield _of_file(path)
        elif path.is_symlink():
            yield LeftOut(named, f"is a link to {path.readlink()}, which is not there")
        elif REPOSITORY.fullmatch(named) and not named.startswith("."):
            yield Place(named, CheckpointSource(huggingface=named))
        else:
            raise CheckpointMissing(f"{named}: no such file or folder{nearest(path)}")
    except OSError as error:
        yield LeftOut(named, f"cannot be read: {error.strerror}")


def _in_folder(folder: Path, shown: str) -> Iterator[Place | LeftOut]:
    found = [*_checkpoints(folder, DEPTH)]
    if not found:
        yield LeftOut(shown, "there is no checkpoint in it: no config.json, adapter_config.json or weights")
    for inner in found:
        name = shown if inner == folder else str(Path(shown) / inner.relative_to(folder))
        ggufs = sorted(inner.glob("*.gguf"))
        if ggufs and not _marked(inner):
            yield from (_of_file(file) for file in ggufs)
        else:
            yield Place(name, CheckpointSource(folder=inner.resolve()))


def _in_store(url: str) -> Iterator[Place | LeftOut]:
    """Yields the folder of that URL, or those in it, that look like checkpoints."""
    try:
        source = CheckpointSource(url=url)
    except ValidationError as error:
        raise CheckpointMissing(str(error.errors()[0]["ctx"]["error"])) from None
    assert source.url is not None
    store = ObjectFolder(source.url)
    if _looks_like_one(store):
        yield Place(source.url, source)
        return
    inner = [store.inside(name) for name in store.folders()]
    found = [each.url for each in inner if _looks_like_one(each)]
    yield from (Place(each, CheckpointSource(url=each)) for each in found)
    if not found:
        yield LeftOut(url, "there is no checkpoint in it: no config.json, adapter_config.json or weights")


def _looks_like_one(store: ObjectFolder) -> bool:
    def marks(path: PurePosixPath) -> bool:
        return path.name in MARKS or any(fnmatch(path.name, pattern) for pattern in WEIGHTS)

    return bool(store.files(marks))


def _checkpoints(folder: Path, depth: int) -> Iterator[Path]:
    """Yields folders that look like checkpoints, those at the top first; those in one are parts of it."""
    if _marked(folder) or any(next(folder.glob(pattern), None) for pattern in WEIGHTS):
        yield folder
    elif depth:
        for inner in sorted(folder.iterdir()):
            if inner.is_dir() and not inner.name.startswith("."):
                yield from _checkpoints(inner, depth - 1)


def _marked(folder: Path) -> bool:
    return any((folder / name).exists() for name in MARKS)


def _of_file(path: Path) -> LeftOut:
    """A checkpoint is a folder. What is said of a file, by its ending."""
    shown = str(path)
    match path.suffix.lower():
        case ".gguf":
            return LeftOut(
                shown,
                "GGUF is llama.cpp's format, which vLLM 0.32 does not read; name the folder or the "
                "repository of the model that it was made from",
            )
        case ".safetensors" | ".json" | ".bin" | ".jinja":
            return LeftOut(shown, f"is one file of a checkpoint; name its folder, {path.parent}")
    return LeftOut(shown, "is a file; a checkpoint is a folder with config.json and *.safetensors")


def distinct(places: Iterable[Place | LeftOut]) -> Iterator[Place | LeftOut]:
    """Yields each source once."""
    seen: set[CheckpointSource] = set()
    for place in places:
        if isinstance(place, LeftOut):
            yield place
        elif place.source not in seen:
            seen.add(place.source)
            yield place
