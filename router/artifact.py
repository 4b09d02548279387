"""A trained router as a folder: ``manifest.json`` and one file of arrays. Numbers only, no prompt.

The arrays' file carries its hash in its name and the manifest is replaced last, so whoever reads while
another writes sees the old router or the new one. The same training gives the same bytes.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from router.classify import LinearClassifier
from router.errors import ArtifactError
from router.mapping import GENERAL, ExpertMapping
from router.scores import ScoreTable
from router.uncertainty import Uncertainty

MANIFEST = "manifest.json"


class _Piece(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EndpointRecord(_Piece):
    """An embedding model behind an endpoint. Its key is never kept."""

    url: str
    model: str
    instruction: str = ""
    """Put before each text as it is."""
    characters: int = 4096
    """What is sent of a longer text."""
    parameters_b: float | None = None
    """Billions of parameters, where they are known: they count among the active ones."""


class EmbedderRecord(_Piece):
    name: str
    dimension: int
    sha256: str
    endpoint: EndpointRecord | None = None


class TrainingRecord(_Piece):
    """How the router came to be."""

    description: str
    """Where the data is from, in the trainer's words."""
    data_sha256: str
    """Over the ids, prompts, categories and scores it was trained on, in order."""
    seed: int
    renamed: dict[str, str]
    """Categories of the data that became another one; evaluation applies the same."""
    fit: int
    calibration: int
    held_out: int
    """Prompts in each part, copies without options not counted."""


class HeldOutMetrics(_Piece):
    """Measured on the part that neither fitting nor calibration saw. See ``router.evaluate``."""

    accuracy: float
    macro_f1: float
    expected_calibration_error: float
    coverage: float
    expert_accuracy: float


class _Manifest(_Piece):
    format: Literal[1]
    embedder: EmbedderRecord
    categories: tuple[str, ...]
    temperature: float
    min_confidence: float
    max_distance: float
    mapping: dict[str, str]
    training: TrainingRecord
    held_out: HeldOutMetrics | None
    files: dict[str, str]
    """Name to sha256."""


@dataclass(frozen=True, slots=True)
class Artifact:
    embedder: EmbedderRecord
    classifier: LinearClassifier
    uncertainty: Uncertainty
    mapping: ExpertMapping
    training: TrainingRecord
    held_out: HeldOutMetrics | None = None
    scores: ScoreTable | None = None

    def write(self, folder: Path) -> None:
        """Creates the folder, or replaces the artifact in it. Raises ArtifactError when that is not
        possible."""
        arrays = save(
            {
                "weights": self.classifier.weights,
                "bias": self.classifier.bias,
                "landmarks": self.uncertainty.landmarks.astype(np.float16),
            }
        )
        digest = hashlib.sha256(arrays).hexdigest()
        name = f"arrays-{digest[:12]}.safetensors"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _replace(folder / name, arrays)
            _replace(
                folder / MANIFEST, self._manifest({name: digest}).model_dump_json(indent=2).encode() + b"\n"
            )
            for stale in folder.glob("arrays-*.safetensors"):
                if stale.name != name:
                    stale.unlink()
        except OSError as error:
            raise ArtifactError(f"{folder} cannot be written: {error.strerror}") from error

    def _manifest(self, files: Mapping[str, str]) -> _Manifest:
        return _Manifest(
            format=1,
            embedder=self.embedder,
            categories=self.classifier.labels,
            temperature=self.classifier.temperature,
            min_confidence=self.uncertainty.min_confidence,
            max_distance=self.uncertainty.max_distance,
            mapping=dict(self.mapping.experts),
            training=self.training,
            held_out=self.held_out,
            files=dict(files),
        )

    @classmethod
    def read(cls, folder: Path) -> "Artifact":
        """Raises ArtifactError that says which file is wrong and how."""
        manifest = _read_manifest(folder)
        contents = {name: _read_verified(folder / name, digest) for name, digest in manifest.files.items()}
        arrays: dict[str, NDArray[np.float32]] = {}
        for name, content in contents.items():
            try:
                arrays |= load(content)
            except SafetensorError as error:
                raise ArtifactError(f"{folder / name} is not a safetensors file: {error}") from error
        return cls._assemble(folder, manifest, arrays)

    @classmethod
    def _assemble(
        cls, folder: Path, manifest: _Manifest, arrays: Mapping[str, NDArray[np.float32]]
    ) -> "Artifact":
        count, dimension = len(manifest.categories), manifest.embedder.dimension
        expected = {"weights": (count, dimension), "bias": (count,), "landmarks": (None, dimension)}
        for name, shape in expected.items():
            found = arrays[name].shape if name in arrays else ()
            if len(found) != len(shape) or any(b not in (a, None) for a, b in zip(found, shape, strict=True)):
                raise ArtifactError(
                    f"{folder}: array {name!r} has shape {found}, expected {shape}; train again"
                )
        if GENERAL not in manifest.categories or set(manifest.mapping) != set(manifest.categories):
            raise ArtifactError(f"{folder / MANIFEST}: the mapping must name every category and {GENERAL!r}")
        return cls(
            manifest.embedder,
            LinearClassifier(manifest.categories, arrays["weights"], arrays["bias"], manifest.temperature),
            Uncertainty(
                arrays["landmarks"].astype(np.float32), manifest.min_confidence, manifest.max_distance
            ),
            ExpertMapping(manifest.mapping),
            manifest.training,
            manifest.held_out,
        )


def _read_manifest(folder: Path) -> _Manifest:
    file = folder / MANIFEST
    try:
        return _Manifest.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ArtifactError(
            f"{folder} holds no router: {MANIFEST} cannot be read ({error.strerror}); "
            "make one with: coe router train"
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ArtifactError(f"{file}, {where}: {first['msg']}") from error


def _read_verified(file: Path, expected: str) -> bytes:
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


def _replace(file: Path, content: bytes) -> None:
    with NamedTemporaryFile(dir=file.parent, prefix=".partial-", delete=False) as stream:
        partial = Path(stream.name)
        try:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
            partial.chmod(0o644)
            partial.replace(file)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
