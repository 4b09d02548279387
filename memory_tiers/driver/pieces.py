"""The seam to wherever pieces of a file may come from instead of from disk."""

from typing import Protocol


class FilePieces(Protocol):
    """Pieces of one file, as ``experts.checkpoints.hashing`` cuts it. Called from several threads."""

    def read(self, number: int, buffer: memoryview) -> bool:
        """Fills ``buffer`` with the piece, whose size it has, once it is known to be the one that was
        prepared. False: not now, or not from here; then the disk is read."""
        ...

    def from_disk(self, size: int, seconds: float) -> None:
        """Is told how long a piece took from disk."""
        ...

    def close(self) -> None: ...


class Pieces(Protocol):
    """Implementations: ``NoPieces``, and ``server.node.weights_source.PeerWeights``, which asks other
    nodes."""

    def open(self, expert: str, file: str, size: int, checksum: str) -> FilePieces:
        """Begins to read one file of an expert. ``checksum``: as it was prepared. Never fails."""
        ...


class NoPieces:
    """Implements both: everything comes from disk."""

    def open(self, expert: str, file: str, size: int, checksum: str) -> FilePieces:
        return self

    def read(self, number: int, buffer: memoryview) -> bool:
        return False

    def from_disk(self, size: int, seconds: float) -> None:
        pass

    def close(self) -> None:
        pass

    def __repr__(self) -> str:
        return "<NoPieces>"
