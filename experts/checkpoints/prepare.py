"""Prepares an expert: a checkpoint from its source becomes ``<store>/<name>/``, whole or not at all.

Work happens in ``<store>/.<name>.new``, renamed into place when everything in it is written, checked and
hashed. One preparation of a name runs at a time (a lock the system takes back from a killed process), so
anything in the temporary folder at its start is a leftover.
"""

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from experts.checkpoints.file_lock import alone
from experts.checkpoints.hashing import Hashes
from experts.checkpoints.manifest import (
    Manifest,
    check_hashes,
    check_sizes,
    describe,
    read_manifest,
    write_manifest,
)
from experts.checkpoints.prepared import base_name, folder_of, open_expert
from experts.checkpoints.sentence_modules import check_modules
from experts.checkpoints.sources.configured import source_beside, source_of
from experts.checkpoints.sources.source import Source
from experts.errors import CheckpointError, NoSpace
from experts.progress import Progress, silent
from experts.spec import Canary, CheckpointSource, Expert, ExpertConfig, Task

SPARE_BYTES = 64 * 2**20
"""Bytes that stay free on the disk beyond what preparation writes."""
FULL = (errno.ENOSPC, errno.EDQUOT)


def free_bytes(path: Path) -> int:
    """Returns the free bytes of the disk that holds ``path`` or would hold it."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def prepare(
    name: str,
    config: ExpertConfig,
    store: Path,
    progress: Progress = silent,
    free: Callable[[Path], int] = free_bytes,
    base: CheckpointSource | None = None,
    task: Task = "generate",
) -> Expert:
    """Makes sure that ``store`` holds the expert as configured. Does next to nothing when it already does.
    ``base``: the base of a family of LoRA experts, which is prepared first. ``task``: the family's.

    Raises CheckpointError where the source is missing, damaged or another than it should be; NoSpace before
    the first byte is written or when the disk fills up. An earlier preparation stays in any case.
    """
    field = f"experts.{name}.checkpoint"
    if base is None:
        with _said_of(field):
            _prepare(name, config.checkpoint, source_of(config.checkpoint), store, progress, free)
    else:
        whole = base_name(config.family)
        with _said_of(f"families.{config.family}.base"):
            _prepare(whole, base, source_of(base), store, progress, free)
        made = read_manifest(store / whole)
        with _said_of(field):
            source = source_beside(config.checkpoint, base, store / whole, made.origin)
            _prepare(name, config.checkpoint, source, store, progress, free, made)
    return open_expert(name, config, store, base, task)


@contextmanager
def _said_of(field: str) -> Iterator[None]:
    """Has an error of a checkpoint name the field of the configuration that it comes from. The disk's do
    not: another checkpoint would fail as well."""
    try:
        yield
    except NoSpace:
        raise
    except CheckpointError as error:
        raise type(error)(f"{field}: {error}") from error


def _prepare(
    name: str,
    checkpoint: CheckpointSource,
    source: Source,
    store: Path,
    progress: Progress,
    free: Callable[[Path], int],
    base: Manifest | None = None,
) -> None:
    folder = folder_of(name, store)
    try:
        store.mkdir(parents=True, exist_ok=True)
        with alone(store / f".{name}.lock"):
            if not _is_current(folder, checkpoint, source.origin, base, progress):
                _require_space(name, source, store, free)
                _replace(folder, source, checkpoint, progress, base)
    except OSError as error:
        if error.errno in FULL:
            raise NoSpace(f"expert {name}: {store}: the disk filled up during preparation; make room, then "
                          "prepare again") from error  # fmt: skip
        raise CheckpointError(f"expert {name}: cannot prepare in {store}: {error}") from error


def write_canary(name: str, store: Path, manifest: Manifest, canary: Canary) -> None:
    """Adds ``canary``, computed from the checkpoint that ``manifest`` describes. Does nothing when the expert
    has been prepared anew since. Raises CheckpointError."""
    folder = folder_of(name, store)
    with alone(store / f".{name}.lock"):
        if read_manifest(folder) == manifest:
            write_manifest(folder, manifest.model_copy(update={"canary": canary}))


def _is_current(
    folder: Path, checkpoint: CheckpointSource, origin: str, base: Manifest | None, progress: Progress
) -> bool:
    """Tells whether ``folder`` holds that very source, undamaged. Files with another date, and those that an
    earlier version left without a checksum, are hashed once more."""
    try:
        manifest = read_manifest(folder)
        if (manifest.source, manifest.origin) != (checkpoint, origin):
            return False
        if base is not None and (manifest.base, manifest.fingerprint) != (base.source, base.fingerprint):
            return False
        check_sizes(folder, manifest)
        check_modules(folder)
        dates = {name: (folder / name).stat().st_mtime_ns for name in manifest.files}
        if any(
            dates[name] != record.mtime_ns or record.checksum is None
            for name, record in manifest.files.items()
        ):
            found = check_hashes(folder, manifest, progress)
            write_manifest(folder, _renewed(manifest, dates, found))
    except CheckpointError:
        return False
    return True


def _renewed(manifest: Manifest, dates: dict[str, int], found: dict[str, Hashes]) -> Manifest:
    files = {
        name: record.model_copy(update={"mtime_ns": dates[name], "checksum": found[name].checksum})
        for name, record in manifest.files.items()
    }
    return manifest.model_copy(update={"files": files})


def _require_space(name: str, source: Source, store: Path, free: Callable[[Path], int]) -> None:
    space = source.space(store)
    available = free(space.path)
    if space.bytes and available < space.bytes + SPARE_BYTES:
        raise NoSpace(
            f"expert {name} needs {space.bytes + SPARE_BYTES:,} bytes on the disk of {space.path}, which has "
            f"{available:,} free; make room or choose another folder"
        )


def _replace(
    folder: Path, source: Source, checkpoint: CheckpointSource, progress: Progress, base: Manifest | None
) -> None:
    new, old = (folder.parent / f".{folder.name}.{which}" for which in ("new", "old"))
    _remove(new, old)
    try:
        new.mkdir()
        source.provide(new, progress)
        write_manifest(new, describe(new, checkpoint, source.origin, progress, base))
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        _remove(new, old)


def _remove(*folders: Path) -> None:
    for folder in folders:
        if folder.is_symlink() or folder.exists():
            shutil.rmtree(folder)
