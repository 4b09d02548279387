"""A folder of an object store or a web server, through fsspec: its files, and pieces of them.

Address and credentials are those of each store's own programs (AWS_ENDPOINT_URL, AWS_PROFILE, ...). fsspec's
file systems are extras of this package, and are imported when a folder is opened.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from experts.errors import CheckpointMissing, CheckpointUnreadable
from experts.spec import STORES

CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; and AWS_ENDPOINT_URL where the store "
    "is not Amazon's",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS",
    "azure": "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    "http": "its address",
}
"""The thing to look at where a store refuses, by the store's extra."""
VERSIONS = ("ETag", "etag", "generation", "LastModified", "Last-Modified", "last_modified", "updated")
"""Fields of a file's description that change when the file does, by the file systems' own names."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a store. ``version`` changes when its contents do; empty where the store does not say."""

    bytes: int
    version: str


class ObjectFolder:
    """A folder by its URL. Raises CheckpointMissing, in one line that says what to do."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        with self._translated():
            import fsspec

            # A store has one connection in a process; what it once listed may be old.
            self._files, self._root = fsspec.url_to_fs(self.url, use_listings_cache=False)

    def files(self, wanted: Callable[[PurePosixPath], bool]) -> dict[str, StoredFile]:
        """Lists files that lie in it and in those of its folders that are ``wanted``, and are wanted
        themselves, by their paths."""
        with self._translated():
            found = {}
            for name, entry in self._entries("").items():
                is_file = entry["type"] == "file"
                if is_file or wanted(PurePosixPath(name)):
                    found.update({name: entry} if is_file else self._entries(f"{name}/"))
            return {
                path: self._described(path, entry)
                for path, entry in sorted(found.items())
                if entry["type"] == "file" and wanted(PurePosixPath(path))
            }

    def folders(self) -> list[str]:
        """Lists the names of folders in it."""
        with self._translated():
            return sorted(name for name, entry in self._entries("").items() if entry["type"] != "file")

    def inside(self, name: str) -> "ObjectFolder":
        """Returns a folder in it, over the same connections."""
        inner = copy(self)
        inner.url, inner._root = f"{self.url}/{name}", self._place(name)
        return inner

    def describe(self, path: str) -> StoredFile:
        """Describes one file anew."""
        with self._translated():
            return self._described(path, self._files.info(self._place(path)))

    def read(self, path: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """Reads pieces of a file, at the same time where the store can. ``spans``: first byte, and the one
        after the last. Raises CheckpointUnreadable where it gives others."""
        with self._translated():
            place = self._place(path)
            starts, ends = (list(each) for each in zip(*spans, strict=True)) if spans else ([], [])
            pieces: list[bytes] = self._files.cat_ranges([place] * len(spans), starts, ends, on_error="raise")
        for piece, (start, end) in zip(pieces, spans, strict=True):
            if len(piece) != end - start:
                raise CheckpointUnreadable(
                    f"{self.url}/{path}: {len(piece):,} bytes came, and {end - start:,} were asked for from "
                    f"byte {start:,}; the server has to give pieces of files (Range)"
                )
        return pieces

    def whole(self, path: str, file: StoredFile) -> bytes:
        """Reads a small file."""
        return b"".join(self.read(path, [(0, file.bytes)] if file.bytes else []))

    def _place(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _entries(self, inside: str) -> dict[str, Mapping[str, Any]]:
        """Lists files and folders in ``inside``, which is empty or ends in a slash, by their paths."""
        top = f"{self._root}/"
        listed = self._files.ls(f"{top}{inside}", detail=True)
        paths = ((str(entry["name"]), entry) for entry in listed)
        names = {name[len(top) :].rstrip("/"): entry for name, entry in paths if name.startswith(top)}
        return {name: entry for name, entry in names.items() if name and name != inside.rstrip("/")}

    def _described(self, path: str, entry: Mapping[str, Any]) -> StoredFile:
        if entry.get("size") is None:  # a web server's list has names alone
            entry = self._files.info(self._place(path))
        if entry.get("size") is None:
            raise CheckpointUnreadable(f"{self.url}/{path}: the server does not say how long it is")
        version = next((str(entry[field]) for field in VERSIONS if entry.get(field)), "")
        return StoredFile(int(entry["size"]), version)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Translates whatever a file system raises. Each has errors of its own, of many roots."""
        extra = STORES[self.url.partition("://")[0]]
        try:
            yield
        except CheckpointUnreadable:
            raise
        except ImportError as error:
            raise CheckpointMissing(
                f"{self.url}: what reads it is not installed: pip install 'composition-of-experts[{extra}]'"
            ) from error
        except FileNotFoundError as error:
            raise CheckpointMissing(
                f"{self.url}: there is nothing, or nothing that may be seen; correct checkpoint.url"
            ) from error
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
            raise CheckpointMissing(f"{self.url}: {reason}; check {CREDENTIALS[extra]}") from error
