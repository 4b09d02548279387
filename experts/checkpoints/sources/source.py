"""The seam of sources: what preparation asks of a place that a checkpoint comes from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from experts.progress import Progress


@dataclass(frozen=True, slots=True)
class Space:
    """Room that preparation needs, and a path on the disk it needs it on."""

    path: Path
    bytes: int


class Source(Protocol):
    """A place that a checkpoint comes from."""

    @property
    def origin(self) -> str:
        """Changes when what the source would provide changes, as far as that is known beforehand."""
        ...

    def space(self, store: Path) -> Space:
        """Raises CheckpointMissing and CheckpointMismatch where the source is not there."""
        ...

    def provide(self, folder: Path, progress: Progress) -> None:
        """Fills the existing, empty ``folder``. Raises CheckpointError, and OSError where the disk fails."""
        ...
