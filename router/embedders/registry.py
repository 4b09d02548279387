"""The embedders by name: those that ship, and the one that an artifact was trained on."""

import os
from collections.abc import Callable, Mapping
from weakref import WeakValueDictionary

from router.artifacts.manifest import EmbedderRecord
from router.embedders.embedder import Embedder
from router.embedders.endpoint import URL_VARIABLE, EndpointEmbedder
from router.embedders.minilm import MiniLmOnnx
from router.embedders.static import StaticMiniLm
from router.errors import EmbedderError

PARAMETERS = {MiniLmOnnx.name: 0.0227, StaticMiniLm.name: 0.0117}
"""Billions, of the embedders that ship."""

_open = WeakValueDictionary[tuple[str, int], Embedder]()
"""Open embedders by name and number of threads, as long as they are used."""


def embedders(*, threads: int = 1) -> Mapping[str, Callable[[], Embedder]]:
    """Returns a function for each embedder that ships, by name, which opens it."""
    return {
        MiniLmOnnx.name: lambda: MiniLmOnnx(threads=threads),
        StaticMiniLm.name: StaticMiniLm,
    }


def embedder_named(name: str, *, threads: int = 1) -> Embedder:
    """The embedder that an artifact's manifest names, the open one where there is one. Raises
    EmbedderError for a name we do not have."""
    known = embedders(threads=threads)
    if name not in known:
        raise EmbedderError(f"no embedder is called {name!r}; there are {', '.join(sorted(known))}")
    embedder = _open.get((name, threads))
    if embedder is None:
        embedder = _open[name, threads] = known[name]()
    return embedder


def record_of(embedder: Embedder) -> EmbedderRecord:
    """Describes ``embedder`` for an artifact, which opens the same one again by it."""
    endpoint = embedder.record if isinstance(embedder, EndpointEmbedder) else None
    return EmbedderRecord(
        name=embedder.name, dimension=embedder.dimension, sha256=embedder.sha256, endpoint=endpoint
    )


def embedder_of(record: EmbedderRecord, *, threads: int = 1) -> Embedder:
    """The embedder that an artifact was trained on. An endpoint is not asked before it is needed. Raises
    EmbedderError, and EndpointError when COE_EMBEDDER_URL is no address."""
    if record.endpoint is not None:
        return EndpointEmbedder(record.endpoint, record.dimension, url=os.environ.get(URL_VARIABLE))
    return embedder_named(record.name, threads=threads)
