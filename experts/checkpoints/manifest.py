"""``coe.json`` in a prepared folder: the origin of its files, their hashes and sizes."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from experts.checkpoints.fingerprint import fingerprint
from experts.checkpoints.hashing import Hashes, hashes
from experts.checkpoints.sentence_modules import check_modules
from experts.checkpoints.tensor_headers import read_headers
from experts.errors import CheckpointMismatch, CheckpointMissing, CheckpointUnreadable
from experts.progress import Progress, silent
from experts.spec import Canary, CheckpointSource, Strict

FILE = "coe.json"
AGAIN = "run: coe experts prepare"


class FileRecord(Strict):
    """One file of a prepared folder."""

    bytes: int
    mtime_ns: int
    sha256: str
    checksum: str | None = None
    """The checksum of ``experts.checkpoints.hashing``; absent where an earlier version prepared the folder,
    until this one does."""


class Manifest(Strict):
    """The description of a prepared folder. ``files`` are all files but this one, by their paths in it.
    ``canary`` is added once the folder is in place; an expert without one serves unchecked by it."""

    version: Literal[1] = 1
    source: CheckpointSource
    origin: str
    files: Mapping[str, FileRecord]
    weights_bytes: int
    parameters: int
    fingerprint: str
    base: CheckpointSource | None = None
    """The source that a LoRA family's base was prepared from."""
    canary: Canary | None = None


def describe(
    folder: Path,
    source: CheckpointSource,
    origin: str,
    progress: Progress = silent,
    base: Manifest | None = None,
) -> Manifest:
    """Reads all of ``folder`` and describes it. ``base``: the manifest of a LoRA family's base, of which the
    folder holds an adapter, or no weights. Raises CheckpointMissing and CheckpointUnreadable."""
    for needed in ("config.json", "tokenizer.json"):
        if not (folder / needed).is_file():
            raise CheckpointMissing(
                f"{origin}: {needed} is missing; a checkpoint in Hugging Face layout has it"
            )
    check_modules(folder)
    no_weights = base is not None and not any(folder.glob("*.safetensors"))
    headers = () if no_weights else read_headers(folder)
    stats = {
        file.relative_to(folder).as_posix(): file.stat()
        for file in sorted(folder.rglob("*"))
        if file.name != FILE and not file.is_dir()
    }
    found = hash_files(folder, {name: stat.st_size for name, stat in stats.items()}, progress)
    return Manifest(
        source=source,
        origin=origin,
        files={
            name: FileRecord(
                bytes=stat.st_size,
                mtime_ns=stat.st_mtime_ns,
                sha256=found[name].sha256,
                checksum=found[name].checksum,
            )
            for name, stat in stats.items()
        },
        weights_bytes=sum(file.stat().st_size for file in folder.glob("*.safetensors")),
        parameters=sum(header.parameters for header in headers) + (base.parameters if base else 0),
        fingerprint=base.fingerprint if base else fingerprint(folder, headers),
        base=base.source if base else None,
    )


def read_manifest(folder: Path) -> Manifest:
    """Reads a folder's manifest. Raises CheckpointMissing and CheckpointUnreadable, which say how to prepare
    the expert."""
    path = folder / FILE
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointMissing(f"expert {folder.name} is not prepared in {folder.parent}; {AGAIN}") from None
    except OSError as error:
        raise CheckpointUnreadable(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise CheckpointUnreadable(
            f"{path}: not a manifest of this version ({error.error_count()} errors); {AGAIN}"
        ) from None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replaces a folder's manifest in one step."""
    new = folder / f".{FILE}"
    new.write_text(manifest.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")
    os.replace(new, folder / FILE)


def check_sizes(folder: Path, manifest: Manifest) -> None:
    """Checks quickly that every file is there and as long as it was.

    Raises CheckpointMissing, CheckpointUnreadable.
    """
    for name, record in manifest.files.items():
        try:
            found = (folder / name).stat().st_size
        except FileNotFoundError:
            raise CheckpointMissing(f"{folder / name}: the file is gone; {AGAIN}") from None
        except OSError as error:
            raise CheckpointUnreadable(f"{folder / name}: cannot be read: {error.strerror}") from None
        if found != record.bytes:
            raise CheckpointUnreadable(f"{folder / name}: {found:,} bytes, not {record.bytes:,}; {AGAIN}")


def check_hashes(folder: Path, manifest: Manifest, progress: Progress = silent) -> dict[str, Hashes]:
    """Checks the content of every file. Returns the hashes found, also those that the manifest lacks.

    Raises CheckpointMismatch naming the first file whose content changed.
    """
    sizes = {name: record.bytes for name, record in manifest.files.items()}
    try:
        found = hash_files(folder, sizes, progress)
    except OSError as error:
        raise CheckpointUnreadable(f"{error.filename}: cannot be read: {error.strerror}") from None
    for name, record in manifest.files.items():
        if found[name].sha256 != record.sha256:
            raise CheckpointMismatch(
                f"{folder / name}: sha256 is {found[name].sha256}, not {record.sha256}; {AGAIN}"
            )
        if record.checksum not in (None, found[name].checksum):
            raise CheckpointMismatch(f"{folder / name}: the checksum in {FILE} is not the file's; {AGAIN}")
    return found


def hash_files(folder: Path, sizes: Mapping[str, int], progress: Progress) -> dict[str, Hashes]:
    """Hashes files of ``folder``, by their names in it, whose ``sizes`` are known."""
    done, total = 0, sum(sizes.values())

    def advance(read: int) -> None:
        nonlocal done
        done += read
        progress("hash", done, total)

    return {name: hashes(folder / name, advance) for name in sizes}
