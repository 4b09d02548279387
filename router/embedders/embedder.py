"""The seam between the router and the models that turn text into vectors."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from router.arrays import Vectors


class Embedder(Protocol):
    """Text to unit vectors. Safe to call from several threads.

    The row of a text is the same, bit for bit, whatever other texts come with it: a decision does not
    depend on its company.
    """

    @property
    def name(self) -> str:
        """The name in an artifact's manifest."""
        ...

    @property
    def sha256(self) -> str:
        """Hash of everything that the vectors depend on. An artifact is only valid with the embedder it was
        trained on."""
        ...

    @property
    def dimension(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> Vectors: ...


@runtime_checkable
class Counting(Protocol):
    """An embedder that can say how much of a text it reads."""

    def tokens_in(self, text: str) -> int: ...
