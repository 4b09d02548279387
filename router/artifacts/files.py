"""The files of an artifact: whether they are undamaged, and their arrays of the shapes that belong
together."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from router.artifacts.manifest import (
    MANIFEST,
    Manifest,
)
from router.classifiers.lexicon import BUCKETS
from router.classifiers.uncertainty import BITS
from router.decision import GENERAL
from router.errors import ArtifactError

Arrays = Mapping[str, NDArray[Any]]


def check_shapes(folder: Path, manifest: Manifest, arrays: Arrays) -> None:
    labels, dimension = len(manifest.categories), manifest.embedder.dimension
    if tuple(manifest.added) != manifest.categories[labels - len(manifest.added) :]:
        raise ArtifactError(f"{folder / MANIFEST}: what was added are not the last categories; train again")
    expected: dict[str, tuple[int | None, ...]] = {
        "rarity": (BUCKETS,),
        "landmarks": (None, dimension),
        "known": (3, len(BITS)),
    } | {f"added.{category}": (None, dimension) for category in manifest.added}

    def linear(name: str, outputs: int) -> dict[str, tuple[int | None, ...]]:
        return {
            f"{name}.weights": (outputs, dimension),
            f"{name}.bias": (outputs,),
            f"{name}.gram_weights": (BUCKETS, outputs),
        }

    if manifest.neighbours is None:
        expected |= linear("logits", labels)
    else:
        expected |= {"vectors": (None, dimension), "distributions": (None, labels)}
    if manifest.scored is not None:
        experts, rows = len(manifest.scored.experts), len(manifest.scored.rows)
        expected |= {"scores.parameters": (experts,), "scores.shares": (rows,)}
        expected |= dict.fromkeys(("scores.means", "scores.errors", "scores.counts"), (rows, experts))
        if manifest.clusters:
            likeness = len(arrays["expected.landmarks"]) if "expected.landmarks" in arrays else None
            expected |= linear("expected", experts) | {
                "centroids": (len(manifest.clusters), experts + 1),
                "expected.landmarks": (None, dimension),
                "expected.likeness": (experts, likeness),
            }
    elif manifest.clusters:
        raise ArtifactError(f"{folder / MANIFEST}: clusters need a score table; train again")
    for name, shape in expected.items():
        found = arrays[name].shape if name in arrays else ()
        if len(found) != len(shape) or any(b not in (a, None) for a, b in zip(found, shape, strict=True)):
            raise ArtifactError(f"{folder}: array {name!r} has shape {found}, expected {shape}; train again")
    if GENERAL not in manifest.categories or not set(manifest.mapping) >= set(manifest.categories):
        raise ArtifactError(f"{folder / MANIFEST}: the mapping must name every category and {GENERAL!r}")


def read_verified(file: Path, expected: str) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{file} cannot be read: {error.strerror}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ArtifactError(
            f"{file} is damaged: sha256 {found[:12]}..., the manifest says {expected[:12]}...; "
            "copy the folder again or train again"
        )
    return content
