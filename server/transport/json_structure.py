"""Size of the tree that a JSON text makes, counted without making it.

A parser lets no other thread run until it is done, and a tree of many small things takes it seconds: 16 MiB
of ``[]`` are five million lists. So things are counted first, by operations on whole pieces of bytes, which
take some milliseconds a megabyte and let others run in between.
"""

from dataclasses import dataclass

import numpy as np

from server.config.limits import LimitsConfig

PIECE = 2**17
"""Bytes counted at once."""
_QUOTE, _COMMA, _COLON, _OPENING, _CLOSING = b'",:[]'
_TO_BRACE = ord("{") - ord("[")
"""Distance from a bracket's byte to the brace's, for opening and closing ones alike."""


@dataclass(frozen=True, slots=True)
class Structure:
    """Upper bounds of a JSON tree's size. ``depth``: of nested arrays and objects. ``parts``: arrays, objects
    and keys. ``values``: others, such as numbers and texts. ``escapes``: backslashes in texts. They mean
    nothing for what is not JSON."""

    depth: int
    parts: int
    values: int
    escapes: int

    @property
    def tree_bytes(self) -> int:
        """Estimates the tree's bytes beside its texts."""
        return 150 * self.parts + 60 * self.values


def excess(structure: Structure, limits: LimitsConfig) -> str | None:
    """Says which limit is exceeded; None: none."""
    if structure.depth > limits.json_depth:
        return f"is nested deeper than {limits.json_depth} levels"
    for count, most, what in (
        (structure.parts, limits.json_parts, "arrays, objects and keys"),
        (structure.values, limits.json_values, "values"),
        (structure.escapes, limits.json_escapes, "escaped characters"),
    ):
        if count > most:
            return f"has {count:,} {what}; at most {most:,} are taken"
    return None


def brackets(raw: bytes) -> int:
    """Returns quickly an upper bound of the arrays and objects."""
    return raw.count(b"{") + raw.count(b"[")


def structure_of(raw: bytes) -> Structure:
    """Reads ``raw`` once, in pieces."""
    counter = _Counter()
    rest = b""
    for start in range(0, len(raw), PIECE):
        piece = rest + raw[start : start + PIECE]
        # The last backslash of an odd number may escape what comes with the next piece.
        rest = piece[-1:] if (len(piece) - len(piece.rstrip(b"\\"))) % 2 else b""
        counter.take(_without_escapes(piece[: len(piece) - len(rest)]))
    parts, values = counter.openings + counter.colons, counter.commas + 1
    return Structure(counter.deepest, parts, values, raw.count(b"\\"))


def _without_escapes(piece: bytes) -> bytes:
    """Returns ``piece`` without backslashes and escaped quotes: the quotes left begin and end texts."""
    if b"\\" not in piece:
        return piece
    return piece.replace(b"\\\\", b"").replace(b'\\"', b"")


class _Counter:
    def __init__(self) -> None:
        self.openings = self.colons = self.commas = self.deepest = 0
        self._depth = 0
        self._inside = False  # a text

    def take(self, piece: bytes) -> None:
        """Counts the structural bytes of the next piece, which are outside of texts."""
        if not piece:
            return
        marks = np.frombuffer(piece, np.uint8)
        # One more quote, and a text has begun or ended.
        parity = np.add.accumulate(marks == _QUOTE, dtype=np.uint8)
        outside = marks[(parity & 1) == int(self._inside)]
        self._inside ^= bool(parity[-1] & 1)
        opening = (outside == _OPENING) | (outside == _OPENING + _TO_BRACE)
        closing = (outside == _CLOSING) | (outside == _CLOSING + _TO_BRACE)
        depths = self._depth + np.cumsum(opening.astype(np.int8) - closing.astype(np.int8), dtype=np.int64)
        if len(depths):
            self._depth = int(depths[-1])
            self.deepest = max(self.deepest, int(depths.max()))
        self.openings += int(np.count_nonzero(opening))
        self.colons += int(np.count_nonzero(outside == _COLON))
        self.commas += int(np.count_nonzero(outside == _COMMA))
