"""A copy of an expert that is being read, of which others may already read the pieces that are there."""

from collections.abc import Callable
from functools import partial
from pathlib import Path


class Arriving:
    """Says which pieces are in ``folder``. Safe from any thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._there: set[tuple[str, int]] = set()

    def __repr__(self) -> str:
        return f"<Arriving in {self.folder}: {len(self._there)} pieces>"

    def has(self, file: str, number: int) -> bool:
        return (file, number) in self._there

    def noting(self, file: str) -> Callable[[int], None]:
        """Returns what is told each piece of the file once it is written."""
        return partial(self._note, file)

    def _note(self, file: str, number: int) -> None:
        self._there.add((file, number))
