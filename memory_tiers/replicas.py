"""Copies of an expert on several engines of its family: one record for each engine, one host copy for all.

The first engine's record has the expert's own name, and stands for the expert where no engine is meant.
"""

import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from memory_tiers.members import Family, Member

SEPARATOR = "#"
"""Between an expert's, or family's, name and the number of an engine that is not the family's first."""


def replica_name(name: str, number: int) -> str:
    """Names the ``number``-th of several, counted from 0."""
    return name if number == 0 else f"{name}{SEPARATOR}{number + 1}"


def family_of(engine: str, families: Collection[str]) -> str:
    """Names the family that the engine of this name serves, of ``families``, the names of all engines."""
    family, separator, number = engine.rpartition(SEPARATOR)
    return family if separator and number.isdecimal() and family in families else engine


def on_each_engine(members: Iterable[Member], families: Sequence[Family]) -> list[Member]:
    """Lists a member for each engine of each expert's family. One of them, the same wherever it is asked, has
    the pin and the default of the expert."""
    found = []
    for member in members:
        engines = [family.name for family in families if family.serves == member.family]
        home = zlib.crc32(member.name.encode()) % len(engines) if engines else 0
        for number, engine in enumerate(engines):
            found.append(
                replace(
                    member,
                    name=replica_name(member.name, number),
                    family=engine,
                    pinned=member.pinned and number == home,
                    default=member.default and number == home,
                    expert=member.name,
                )
            )
    return found
