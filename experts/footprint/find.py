"""Finds what is known of a checkpoint on this machine, or published of it, without the network."""

from collections.abc import Iterable
from pathlib import Path

from experts.checkpoints.fingerprint import read_json
from experts.checkpoints.tensor_headers import read_headers
from experts.errors import CheckpointMissing
from experts.footprint.architecture import Architecture
from experts.footprint.capability import why_plain
from experts.footprint.model import Model
from experts.footprint.published import EMBEDDED, PUBLISHED
from experts.spec import CheckpointSource


def find_model(places: Iterable[Path], sources: Iterable[CheckpointSource], family: str) -> Model:
    """Finds the model of a family: all its experts have one architecture, so any of them tells it.
    ``places``: folders where one of its checkpoints may have been prepared.

    Raises CheckpointMissing that names the file it needs, CheckpointUnreadable."""
    known = tuple(sources)
    folders = [*places, *(source.folder for source in known if source.folder), *_cached(known)]
    for folder in folders:
        if (folder / "config.json").is_file():
            return _read(folder)
    for source in known:
        if source.embedded is not None:
            return Model(EMBEDDED, "the embedded base")
        if source.huggingface is not None and source.huggingface in PUBLISHED:
            return Model(PUBLISHED[source.huggingface], f"{source.huggingface}'s published config.json")
    wanted = [str(source.folder / "config.json") for source in known if source.folder]
    wanted += [f"config.json of {source.huggingface or source.url}" for source in known if not source.folder]
    raise CheckpointMissing(
        f"family {family}: a plan needs {' or '.join(wanted[:1])}; put it there, or `coe experts prepare`"
    )


def _cached(sources: Iterable[CheckpointSource]) -> Iterable[Path]:
    """Yields the folders in Hugging Face's cache that hold a repository's config.json."""
    from huggingface_hub import try_to_load_from_cache

    for source in sources:
        if source.huggingface is not None:
            found = try_to_load_from_cache(source.huggingface, "config.json", revision=source.revision)
            if isinstance(found, str):
                yield Path(found).parent


def _read(folder: Path) -> Model:
    config = read_json(folder / "config.json")
    source = f"{(folder / 'config.json').resolve()}"
    headers = read_headers(folder) if _whole(folder) else ()
    return Model(Architecture.of(config, source), source, headers, why_plain(config))


def _whole(folder: Path) -> bool:
    """Tells whether weights are there, and of a checkpoint in pieces every file that its index names."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return any(folder.glob("*.safetensors"))
    files = set(read_json(index).get("weight_map", {}).values())
    return all((folder / name).is_file() for name in files)
