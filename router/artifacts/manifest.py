"""The description of an artifact: ``manifest.json``, read strictly."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from router.errors import ArtifactError

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
    """Characters sent of a longer text."""
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
    prompts: int
    """Labelled ones of the data."""
    plain: int
    """Prompts that ship with the package."""


class CrossValidated(_Piece):
    """Measured on the data's prompts, each by a classifier that had not seen it. See
    ``router.training.evaluate``."""

    accuracy: float
    macro_f1: float
    expected_calibration_error: float
    coverage: float
    accuracy_when_certain: float


class Scored(_Piece):
    """The columns and rows of the score table; its numbers are arrays."""

    experts: tuple[str, ...]
    rows: tuple[str, ...]


class OneStepRecord(_Piece):
    """The choice of one step: among which experts, and the score that a billion parameters must be worth."""

    price: float
    experts: tuple[str, ...]


class QuickRecord(_Piece):
    """The quick stage of a cascade; its numbers are arrays. ``router.artifacts.quick`` says what each is."""

    embedder: EmbedderRecord
    temperature: float
    max_surprise: float
    added: dict[str, float] = {}
    short_limit: float
    longer_limit: float
    alone: float
    difference: tuple[float, float, float]


class Manifest(_Piece):
    format: Literal[2]
    embedder: EmbedderRecord
    categories: tuple[str, ...]
    classifier: Literal["linear", "neighbours"]
    temperature: float
    neighbours: int | None
    max_surprise: float
    added: dict[str, float] = {}
    """The last categories, if they were added to a trained router: how far each reaches."""
    quick: QuickRecord | None = None
    """Absent: every prompt is read by ``embedder``."""
    mapping: dict[str, str]
    fixed: dict[str, str] = {}
    """Categories whose expert was given by hand: every map that is solved has it."""
    scored: Scored | None
    clusters: tuple[str, ...]
    predicted: tuple[str, ...] = ()
    """The experts of the predictor that made the clusters, an empty name for one that is gone. Absent, as in
    artifacts of earlier versions: one step cannot be solved."""
    one_step: OneStepRecord | None = None
    """Absent: the map chooses, in two steps."""
    training: TrainingRecord
    cross_validated: CrossValidated
    files: dict[str, str]
    """Name to sha256."""


def read_manifest(folder: Path) -> Manifest:
    """Raises ArtifactError."""
    file = folder / MANIFEST
    try:
        return Manifest.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ArtifactError(
            f"{folder} holds no router: {MANIFEST} cannot be read ({error.strerror}); "
            "make one with: coe router train"
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ArtifactError(f"{file}, {where}: {first['msg']}") from error
