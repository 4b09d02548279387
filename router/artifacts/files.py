"""The files of an artifact: whether they are undamaged, and their arrays of the shapes that belong
together."""

import hashlib
from pathlib import Path

from router.artifacts.manifest import MANIFEST, Manifest
from router.artifacts.stage_arrays import Arrays
from router.classifiers.lexicon import BUCKETS
from router.classifiers.uncertainty import BITS
from router.decision import GENERAL
from router.errors import ArtifactError


def check_shapes(folder: Path, manifest: Manifest, arrays: Arrays) -> None:
    labels, dimension = len(manifest.categories), manifest.embedder.dimension
    if tuple(manifest.added) != manifest.categories[labels - len(manifest.added) :]:
        raise ArtifactError(f"{folder / MANIFEST}: what was added are not the last categories; train again")
    expected: dict[str, tuple[int | None, ...]] = {
        "rarity": (BUCKETS,),
        "landmarks": (None, dimension),
        "known": (3, len(BITS)),
    } | {f"added.{category}": (None, dimension) for category in manifest.added}

    def linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int | None, ...]]:
        return {
            f"{name}.weights": (outputs, inputs),
            f"{name}.bias": (outputs,),
            f"{name}.gram_weights": (BUCKETS, outputs),
        }

    if manifest.neighbours is None:
        expected |= linear("logits", labels, dimension)
    else:
        expected |= {"vectors": (None, dimension), "distributions": (None, labels)}
    quick, finer = manifest.quick, dimension
    if quick is not None:
        finer = quick.embedder.dimension
        expected |= linear("quick.logits", labels, finer)
        expected |= {"quick.landmarks": (None, finer), "quick.known": (3, len(BITS))}
        expected |= {f"quick.added.{category}": (None, finer) for category in manifest.added}
        if quick.added.keys() != manifest.added.keys():
            raise ArtifactError(f"{folder / MANIFEST}: both stages must have what was added; train again")
    if manifest.scored is not None:
        table = manifest.scored
        experts, rows = len(table.experts), len(table.rows)
        expected |= {"scores.parameters": (experts,), "scores.shares": (rows,)}
        expected |= dict.fromkeys(("scores.means", "scores.errors", "scores.counts"), (rows, experts))
        if manifest.clusters:
            # Experts may have come and gone since the clusters were made.
            trained = len(manifest.predicted or arrays.get("expected.bias", table.experts))
            likeness = len(arrays["expected.landmarks"]) if "expected.landmarks" in arrays else None
            expected |= linear("expected", trained, finer) | {
                "centroids": (len(manifest.clusters), trained + 1),
                "expected.landmarks": (None, finer),
                "expected.likeness": (trained, likeness),
            }
    if manifest.predicted:
        expected |= {"predictions.scores": (None, len(manifest.predicted)), "predictions.rows": (None,)}
    elif manifest.one_step is not None:
        raise ArtifactError(f"{folder / MANIFEST}: one step needs what is predicted; train again")
    if (manifest.clusters or manifest.predicted) and manifest.scored is None:
        raise ArtifactError(f"{folder / MANIFEST}: clusters need a score table; train again")
    for name, shape in expected.items():
        found = arrays[name].shape if name in arrays else ()
        if len(found) != len(shape) or any(b not in (a, None) for a, b in zip(found, shape, strict=True)):
            raise ArtifactError(f"{folder}: array {name!r} has shape {found}, expected {shape}; train again")
    if manifest.predicted and not _are_places(
        arrays, 0 if manifest.scored is None else len(manifest.scored.rows)
    ):
        raise ArtifactError(f"{folder}: array 'predictions.rows' names no rows of the scores; train again")
    if GENERAL not in manifest.categories or not set(manifest.mapping) >= set(manifest.categories):
        raise ArtifactError(f"{folder / MANIFEST}: the mapping must name every category and {GENERAL!r}")


def _are_places(arrays: Arrays, rows: int) -> bool:
    """Whether each prediction has a row of the score table."""
    places, scores = arrays["predictions.rows"], arrays["predictions.scores"]
    return len(places) == len(scores) and bool(((places >= 0) & (places < rows)).all())


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
