import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from router.artifacts.artifact import Artifact
from router.artifacts.manifest import MANIFEST
from router.decision import Decision
from router.embedders.static import StaticMiniLm
from router.errors import ArtifactError, EmbedderError, MappingError
from router.router import Router
from router.training.add_category import with_category
from tests.router.hashed_words import HashedWords
from tests.router.mapping.hidden_groups import finer, hidden
from tests.router.training.test_training import contents, given, prompts, solved

CHESS = ["zugzwang fianchetto skewer", "castling gambit skewer", "endgame castling zugzwang"]


def extended() -> Router:
    return with_category(finer(), "chess", CHESS, "chat")


ROUTERS = {
    "linear": given,
    "linear with scores": solved,
    "linear with scores and clusters": finer,
    "linear with an added category": extended,
    "linear in one step": lambda: finer().under(4.0, steps="one"),
    "neighbours": lambda: given("neighbours"),
    "neighbours with scores": lambda: solved("neighbours"),
}


def decisions(router: Router) -> list[Decision]:
    """With probabilities to the last bit."""
    texts = [each.prompt for each in (*prompts(8), *hidden(8, seed=5))] + ["", "hello there"]
    return [replace(router.decide(text), seconds=0.0) for text in texts]


@pytest.mark.parametrize("router", ROUTERS.values(), ids=list(ROUTERS))
def test_what_is_written_is_read_and_written_again_byte_for_byte(
    tmp_path: Path, router: Callable[[], Router]
) -> None:
    router().artifact.write(tmp_path / "one")
    read = Artifact.read(tmp_path / "one")
    read.write(tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert decisions(Router(read, StaticMiniLm())) == decisions(router())


def damaged(folder: Path, name: str, array: NDArray[Any] | None) -> None:
    """An artifact whose hashes are right and one of whose arrays is another one, or none."""
    extended().artifact.write(folder)
    file = next(folder.glob("arrays-*"))
    arrays = load_file(file)
    del arrays[name]
    if array is not None:
        arrays[name] = array
    save_file(arrays, file)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] = {file.name: hashlib.sha256(file.read_bytes()).hexdigest()}
    (folder / MANIFEST).write_text(json.dumps(manifest))


NAMES = (
    "rarity",
    "landmarks",
    "known",
    "added.chess",
    "logits.weights",
    "logits.bias",
    "logits.gram_weights",
    "expected.weights",
    "expected.bias",
    "expected.gram_weights",
    "expected.landmarks",
    "expected.likeness",
    "centroids",
    "scores.parameters",
    "scores.shares",
    "scores.means",
    "scores.errors",
    "scores.counts",
    "predictions.scores",
    "predictions.rows",
)


def test_these_are_all_the_arrays(tmp_path: Path) -> None:
    extended().artifact.write(tmp_path)
    assert set(load_file(next(tmp_path.glob("arrays-*")))) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_array_that_is_missing_or_of_another_shape_is_named(tmp_path: Path, name: str) -> None:
    damaged(tmp_path, name, None)
    with pytest.raises(ArtifactError, match=f"array '{name}' has shape \\(\\), expected"):
        Artifact.read(tmp_path)
    damaged(tmp_path, name, np.zeros((3, 5, 7), dtype=np.float32))
    with pytest.raises(ArtifactError, match=r"array '.*' has shape \(3, 5, 7\), expected"):
        Artifact.read(tmp_path)


def test_scores_that_make_no_table_are_refused(tmp_path: Path) -> None:
    table = extended().artifact.scores
    assert table is not None
    damaged(tmp_path, "scores.shares", 2 * table.shares)
    with pytest.raises(ArtifactError, match="score table: the shares add up to 2, expected 1"):
        Artifact.read(tmp_path)


def test_predictions_at_rows_that_are_none_are_refused(tmp_path: Path) -> None:
    predictions = extended().artifact.predictions
    assert predictions is not None
    for rows in (predictions.rows + 1000, predictions.rows - 1000, predictions.rows[:-1]):
        damaged(tmp_path, "predictions.rows", rows)
        with pytest.raises(
            ArtifactError, match=r"'predictions\.rows' names no rows of the scores; train again"
        ):
            Artifact.read(tmp_path)


def test_arrays_that_are_none_are_refused(tmp_path: Path) -> None:
    given().artifact.write(tmp_path)
    file = next(tmp_path.glob("arrays-*"))
    file.write_bytes(b"no arrays")
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    manifest["files"] = {file.name: hashlib.sha256(b"no arrays").hexdigest()}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="is not a safetensors file"):
        Artifact.read(tmp_path)


def test_a_folder_without_a_router_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"holds no router.*coe router train"):
        Router.load(tmp_path)


def test_damaged_arrays_are_refused(tmp_path: Path) -> None:
    solved().artifact.write(tmp_path)
    arrays = next(tmp_path.glob("arrays-*"))
    arrays.write_bytes(arrays.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactError, match=r"arrays-.* is damaged: sha256"):
        Router.load(tmp_path)
    arrays.unlink()
    with pytest.raises(ArtifactError, match=r"arrays-.* cannot be read"):
        Router.load(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("format", 1, "format: Input should be 2"),
        ("colour", "red", "colour: Extra inputs"),
        ("categories", ["general"], r"array 'logits\.weights' has shape \(3, 384\), expected \(1, 384\)"),
        ("categories", ["cooking", "everything", "sailing"], "must name every category"),
        ("mapping", {"general": "chat"}, "must name every category"),
        ("added", {"cooking": 0.5}, "what was added are not the last categories; train again"),
        ("files", {}, r"array 'rarity' has shape \(\), expected \(65536,\)"),
        ("clusters", ["cooking/0", "cooking/1"], "clusters need a score table; train again"),
        ("scored", {"experts": ["chat"], "rows": ["general"]}, r"array 'scores\.parameters' has shape \(\)"),
    ],
)
def test_a_manifest_that_was_tampered_with_is_refused(
    tmp_path: Path, field: str, value: object, complaint: str
) -> None:
    given().artifact.write(tmp_path)
    manifest = tmp_path / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {field: value}))
    with pytest.raises(ArtifactError, match=complaint):
        Router.load(tmp_path)


def test_a_manifest_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(ArtifactError, match="Invalid JSON"):
        Router.load(tmp_path)


def test_an_artifact_of_another_embedder_is_refused(tmp_path: Path) -> None:
    artifact = given().artifact
    artifact.write(tmp_path)
    with pytest.raises(ArtifactError, match="trained on embedder minilm-static-384"):
        Router(artifact, HashedWords())
    manifest = tmp_path / MANIFEST
    manifest.write_text(manifest.read_text().replace("minilm-static-384", "word2vec"))
    with pytest.raises(EmbedderError, match="word2vec"):
        Router.load(tmp_path)


def test_a_path_that_is_a_file_cannot_hold_an_artifact(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ArtifactError, match="cannot be written"):
        given().artifact.write(blocked)


def test_experts_may_be_called_otherwise_than_in_training(tmp_path: Path) -> None:
    router = with_category(solved(), "chess", CHESS, "chat")
    renamed = router.with_names({"chat": "org/chat", "chef": "cook"})
    renamed.artifact.write(tmp_path)
    artifact = Artifact.read(tmp_path)
    assert artifact.scores is not None
    assert artifact.scores.experts == ("org/chat", "cook", "skipper")
    assert artifact.fixed == {"chess": "org/chat"}
    assert set(artifact.mapping.names()) == {"org/chat", "cook", "skipper"}
    with pytest.raises(MappingError, match="no expert 'baker'; it has: chat, chef, skipper"):
        router.with_names({"baker": "cook"})
    with pytest.raises(MappingError, match="two experts of the router would be called 'skipper'"):
        router.with_names({"chef": "skipper"})
