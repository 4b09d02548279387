"""Describes an SQLite file of ours in every version that there was."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of a file. ``setting`` names the file in the configuration.

    ``versions``: the SQL statements of each version, the first one on. They make it of the version before, so
    what was released is never changed, and a change is one more version. A new file walks through all of
    them, as an old one does from its own.
    """

    setting: str
    application_id: int
    versions: tuple[tuple[str, ...], ...]

    @property
    def newest(self) -> int:
        """The version that this program reads and writes."""
        return len(self.versions)
