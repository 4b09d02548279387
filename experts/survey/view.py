"""Views of checkpoints: temporary folders of links, exactly as preparation would make them, without weights
where these are still on a hub or in an object store."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experts.checkpoints.fingerprint import read_json
from experts.checkpoints.object_store.folder import ObjectFolder
from experts.checkpoints.sources.configured import source_of
from experts.checkpoints.sources.folder import UNWANTED, link
from experts.checkpoints.sources.huggingface import missing
from experts.checkpoints.sources.object_store import belongs
from experts.checkpoints.tensor_headers import TensorHeader
from experts.errors import CheckpointUnreadable
from experts.progress import silent
from experts.spec import CheckpointSource

INDEX = "model.safetensors.index.json"
MAX_HEADER = 100_000_000
"""Bytes; safetensors refuses longer headers."""
SMALL = ("*.json", "*.jinja", "tokenizer.model", "[0-9]_*/*", "adapter_model.safetensors")


@dataclass(frozen=True, slots=True)
class View:
    """``headers``: of weights that are not in ``folder``; None where they are."""

    folder: Path
    headers: tuple[TensorHeader, ...] | None = None


def view_of(source: CheckpointSource, into: Path) -> View:
    """Makes a view in ``into``, a folder that is not there yet. Of a repository that is not on this machine
    the small files are fetched. Raises CheckpointError."""
    into.mkdir(parents=True)
    try:
        if source.huggingface is not None:
            return _of_repository(source.huggingface, source.revision, into)
        if source.url is not None:
            _of_store(source.url, into)
            return View(into)
        origin = source_of(source)
        origin.space(into)
        origin.provide(into, silent)
    except OSError as error:
        raise CheckpointUnreadable(f"cannot be read: {error.strerror or error}") from error
    return View(into)


def _of_repository(name: str, revision: str | None, into: Path) -> View:
    from huggingface_hub import snapshot_download

    try:
        snapshot = snapshot_download(
            name, revision=revision, allow_patterns=list(SMALL), ignore_patterns=list(UNWANTED)
        )
    except OSError as error:
        raise missing(f"{name}@{revision or 'default branch'}", error) from error
    link(sorted(Path(snapshot).iterdir()), into)
    if (into / "adapter_config.json").is_file() or _whole(into):
        return View(into)
    return View(into, _headers_on_hub(name, revision))


def _whole(folder: Path) -> bool:
    """Whether the cache has every file of the weights."""
    if not (folder / INDEX).is_file():
        return any(folder.glob("*.safetensors"))
    return all((folder / name).is_file() for name in set(read_json(folder / INDEX)["weight_map"].values()))


def _headers_on_hub(name: str, revision: str | None) -> tuple[TensorHeader, ...]:
    """Reads the headers of a repository's files, some kB of each. Raises CheckpointMissing."""
    from huggingface_hub import HfApi

    try:
        found: Any = HfApi().get_safetensors_metadata(name, revision=revision)
    except (
        Exception
    ) as error:  # the library's own, httpx's and json's: all say that the headers are not to be had
        raise missing(f"{name}@{revision or 'default branch'}", OSError(str(error))) from error
    return tuple(_sorted([
        TensorHeader(tensor, info.dtype, tuple(info.shape))
        for file in found.files_metadata.values()
        for tensor, info in file.tensors.items()
    ]))  # fmt: skip


def _of_store(url: str, into: Path) -> None:
    """Reads the small files, and of weights the header, in front of a hole as long as the rest."""
    store = ObjectFolder(url)
    for name, file in store.files(belongs).items():
        (into / name).parent.mkdir(exist_ok=True)
        whole = not name.endswith(".safetensors") or name == "adapter_model.safetensors" or file.bytes < 8
        if whole:
            (into / name).write_bytes(store.whole(name, file))
            continue
        length = int.from_bytes(store.read(name, [(0, 8)])[0], "little")
        if length > MAX_HEADER:
            raise CheckpointUnreadable(f"{name}: not a whole safetensors file; upload the checkpoint again")
        with (into / name).open("wb") as output:
            output.write(store.read(name, [(0, min(8 + length, file.bytes))])[0])
            output.truncate(file.bytes)


def _sorted(headers: Sequence[TensorHeader]) -> list[TensorHeader]:
    return sorted(headers, key=lambda header: header.name)
