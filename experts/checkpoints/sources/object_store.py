"""A folder of an object store or a web server, which is downloaded into the store of checkpoints."""

import re
import shutil
from dataclasses import dataclass
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path, PurePosixPath

from experts.checkpoints.file_lock import alone
from experts.checkpoints.object_store.download import PIECE_BYTES, SUMS, download, missing_bytes, part_of
from experts.checkpoints.object_store.folder import ObjectFolder
from experts.checkpoints.sources.folder import UNWANTED, WANTED
from experts.checkpoints.sources.source import Space
from experts.errors import CheckpointMissing
from experts.progress import Progress

_MODULE = re.compile(r"[0-9]_\w+")


@dataclass(frozen=True, slots=True)
class ObjectStoreSource:
    """A folder by its URL. What was prepared stays until it is prepared anew."""

    url: str
    piece_bytes: int = PIECE_BYTES

    @property
    def origin(self) -> str:
        return self.url

    def space(self, store: Path) -> Space:
        wanted = ObjectFolder(self.url).files(belongs)
        if not wanted:
            raise CheckpointMissing(f"{self.url}: there is no file of a checkpoint; correct checkpoint.url")
        return Space(store, missing_bytes(self._parts(store), wanted))

    def provide(self, folder: Path, progress: Progress) -> None:
        parts = self._parts(folder.parent)
        store = ObjectFolder(self.url)
        files = store.files(lambda path: belongs(path) or str(path) == SUMS)
        wanted = {name: file for name, file in files.items() if name != SUMS}
        sums = store.whole(SUMS, files[SUMS]).decode(errors="replace") if SUMS in files else None
        with alone(parts.with_name(f"{parts.name}.lock")):
            parts.mkdir(exist_ok=True)
            download(store, wanted, sums, parts, progress, self.piece_bytes)
            for name, file in wanted.items():
                (folder / name).parent.mkdir(exist_ok=True)
                part_of(parts, name, file).rename(folder / name)
            shutil.rmtree(parts)

    def _parts(self, store: Path) -> Path:
        """Returns the folder of what has come so far, which outlives a preparation that fails."""
        return store / f".download-{sha256(self.url.encode()).hexdigest()[:12]}"


def belongs(path: PurePosixPath) -> bool:
    """Tells whether a file, or a folder of files, is a part of a checkpoint."""
    if _MODULE.fullmatch(path.parts[0]):
        path = path.relative_to(path.parts[0])
        if not path.parts:
            return True
    if len(path.parts) > 1:
        return False
    wanted = any(fnmatch(path.name, pattern) for pattern in WANTED)
    return wanted and not any(fnmatch(path.name, pattern) for pattern in UNWANTED)
