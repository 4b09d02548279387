import json
import random
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from router.artifact import MANIFEST, Artifact
from router.dataset import Example
from router.embed import HashedWords
from router.errors import ArtifactError, DatasetError, EmbedderError, MappingError, NoEligibleError
from router.evaluate import evaluate
from router.pipeline import Router
from router.train import train

TOPICS = {
    "cooking": "oven butter flour sugar whisk dough salt pepper roast simmer",
    "sailing": "mast rudder keel anchor harbour jib tiller starboard reef knot",
    "other": "shelf lamp window pencil paper basket ladder bucket mirror drawer",
}
MAPPING = {"general": "chat", "cooking": "chef", "sailing": "skipper"}


def prompts(each: int = 60) -> list[Example]:
    choose = random.Random(1)
    return [
        Example(
            f"{topic}/{index}",
            " ".join(choose.choices(words.split(), k=9)),
            topic,
            {"chef": float(topic == "cooking"), "skipper": float(topic == "sailing"), "chat": 0.5},
        )
        for topic, words in TOPICS.items()
        for index in range(each)
    ]


def trained(folder: Path, seed: int = 0) -> Router:
    return train(prompts(), folder, mapping=MAPPING, embedder=HashedWords(), seed=seed)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_training_returns_a_router_that_decides(tmp_path: Path) -> None:
    decision = trained(tmp_path / "out").decide("whisk the flour and butter, then roast the dough with salt")
    assert (decision.category, decision.expert, decision.uncertain) == ("cooking", "chef", False)
    assert next(iter(decision.probabilities)) == "cooking"
    assert sum(decision.probabilities.values()) == pytest.approx(1.0)
    assert repr(decision).startswith("<Decision cooking -> chef, confidence 0.")


def test_loading_gives_the_router_that_training_returned(tmp_path: Path) -> None:
    router, loaded = trained(tmp_path), Router.load(tmp_path)
    for prompt in ("anchor the keel", "simmer", "hello there"):
        assert loaded.decide(prompt).probabilities == router.decide(prompt).probabilities


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        trained(tmp_path / name, seed=seed)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert contents(tmp_path / "one") != contents(tmp_path / "three")


def test_training_again_replaces_the_artifact_and_leaves_other_files(tmp_path: Path) -> None:
    trained(tmp_path, seed=3)
    (tmp_path / "notes.txt").write_text("mine")
    trained(tmp_path, seed=4)
    assert sorted(name.split("-")[0] for name in contents(tmp_path)) == [
        "arrays",
        "manifest.json",
        "notes.txt",
    ]
    assert Artifact.read(tmp_path).training.seed == 4


def test_a_warm_cache_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("cold", "warm"):
        train(
            prompts(),
            tmp_path / name,
            mapping=MAPPING,
            embedder=HashedWords(),
            cache=tmp_path / "vectors.sqlite",
        )
    assert contents(tmp_path / "cold") == contents(tmp_path / "warm")


def test_the_artifact_holds_no_word_of_a_prompt(tmp_path: Path) -> None:
    trained(tmp_path)
    everything = b"".join(contents(tmp_path).values())
    assert not any(word.encode() in everything for words in TOPICS.values() for word in words.split())


def test_other_becomes_general_and_the_manifest_says_so(tmp_path: Path) -> None:
    router = trained(tmp_path)
    assert router.categories == ("cooking", "general", "sailing")
    assert json.loads((tmp_path / MANIFEST).read_text())["training"]["renamed"] == {"other": "general"}


def test_the_mapping_can_be_chosen_from_scores(tmp_path: Path) -> None:
    router = train(prompts(), tmp_path, experts=["chat", "chef", "skipper"], embedder=HashedWords())
    assert router.artifact.mapping.experts == MAPPING


def test_progress_counts_up_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    train(
        prompts(),
        tmp_path,
        mapping=MAPPING,
        embedder=HashedWords(),
        progress=lambda what, done, total: seen.append((what, done, total)),
    )
    assert {what for what, _, _ in seen} == {"embedding", "deciding"}
    assert all(done <= total for _, done, total in seen)
    assert seen[-1][1] == seen[-1][2]


def test_a_wrong_mapping_stops_training_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="did you mean 'sailing'"):
        train(prompts(), tmp_path / "out", mapping={"general": "chat", "sail": "x"}, embedder=HashedWords())
    assert not (tmp_path / "out").exists()


def test_data_without_categories_cannot_train(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nothing to learn"):
        train([Example("a", "hi")], tmp_path, mapping=MAPPING, embedder=HashedWords())


def test_another_mapping_gives_another_router_and_leaves_the_first(tmp_path: Path) -> None:
    router = trained(tmp_path)
    other = router.with_mapping({"general": "chat", "cooking": "grandmother"})
    assert other.decide("butter flour dough sugar whisk oven").expert == "grandmother"
    assert router.decide("butter flour dough sugar whisk oven").expert == "chef"
    with pytest.raises(MappingError, match="did you mean 'cooking'"):
        router.with_mapping({"general": "chat", "cookin": "chef"})


def test_an_expert_that_cannot_take_the_request_is_passed_over(tmp_path: Path) -> None:
    router = trained(tmp_path)
    prompt = "butter flour dough sugar whisk oven"
    assert router.decide(prompt, {"chef", "chat"}).expert == "chef"
    passed = router.decide(prompt, {"chat", "skipper"})
    assert (passed.category, passed.expert) == ("cooking", "chat")
    assert router.decide(prompt, {"skipper"}).expert == "skipper"
    with pytest.raises(NoEligibleError, match="chat, chef, skipper"):
        router.decide(prompt, {"stranger"})


def test_words_never_seen_are_uncertain_and_become_general(tmp_path: Path) -> None:
    decision = trained(tmp_path).decide("zugzwang fianchetto skewer endgame castling gambit")
    assert decision.uncertain
    assert (decision.category, decision.expert) == ("general", "chat")
    assert repr(decision).endswith("uncertain>")


def test_a_far_prompt_is_uncertain_however_confident_the_classifier(tmp_path: Path) -> None:
    doubts = trained(tmp_path).artifact.uncertainty
    seen, opposite = doubts.landmarks[0], -doubts.landmarks.mean(axis=0)
    certain, torn = np.array([1.0, 0.0, 0.0, 0.0]), np.full(4, 0.25)
    assert not doubts.doubts(certain, seen, oddity=2.0)
    assert doubts.doubts(certain, opposite, oddity=2.0)
    assert doubts.doubts(torn, seen, oddity=2.0)
    assert doubts.doubts(certain, seen, oddity=20.0)


def test_the_clock_that_is_given_times_the_decision(tmp_path: Path) -> None:
    ticks = count()
    router = Router(trained(tmp_path).artifact, HashedWords(), clock=lambda: float(next(ticks)))
    assert router.decide("anchor").seconds == 1.0


def test_evaluation_measures_what_a_confusion_would_show(tmp_path: Path) -> None:
    router = trained(tmp_path)
    easy = [Example(f"t/{i}", f"butter flour dough oven {i}", "cooking") for i in range(9)]
    wrong = Example("t/wrong", "butter flour dough oven", "sailing")
    result = evaluate(router, [*easy, wrong, Example("t/unlabelled", "hm")])
    assert result.prompts == 10
    assert result.accuracy.value == result.expert_accuracy.value == pytest.approx(0.9)
    assert result.accuracy.low <= 0.9 <= result.accuracy.high
    assert result.categories["cooking"].precision == pytest.approx(0.9)
    assert result.categories["sailing"].recall == 0.0
    assert result.macro_f1.value == pytest.approx((18 / 19) / 2)
    assert "right expert            0.900 [" in str(result)


def test_evaluation_renames_categories_as_training_did(tmp_path: Path) -> None:
    router = trained(tmp_path)
    assert set(evaluate(router, [e for e in prompts() if e.category == "other"]).categories) == {"general"}


def test_evaluation_refuses_categories_the_router_does_not_have(tmp_path: Path) -> None:
    router = trained(tmp_path)
    with pytest.raises(DatasetError, match=r"x/1: the router has no category 'chess'"):
        evaluate(router, [Example("x/1", "e4", "chess")])
    with pytest.raises(DatasetError, match="nothing to compare"):
        evaluate(router, [Example("x/1", "e4")])


def test_a_folder_without_a_router_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"holds no router.*coe router train"):
        Router.load(tmp_path)


def test_damaged_arrays_are_refused(tmp_path: Path) -> None:
    trained(tmp_path)
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
        ("format", 2, "format: Input should be 1"),
        ("colour", "red", "colour: Extra inputs"),
        ("categories", ["general"], "array 'weights' has shape"),
        ("categories", ["cooking", "everything", "sailing"], "must name every category"),
        ("mapping", {"general": "chat"}, "must name every category"),
        ("files", {}, "array 'weights' has shape"),
    ],
)
def test_a_manifest_that_was_tampered_with_is_refused(
    tmp_path: Path, field: str, value: object, complaint: str
) -> None:
    trained(tmp_path)
    manifest = tmp_path / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {field: value}))
    with pytest.raises(ArtifactError, match=complaint):
        Router.load(tmp_path)


def test_a_manifest_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(ArtifactError, match="Invalid JSON"):
        Router.load(tmp_path)


def test_an_artifact_of_another_embedder_is_refused(tmp_path: Path) -> None:
    class Renamed(HashedWords):
        @property
        def sha256(self) -> str:
            return "0" * 64

    artifact = trained(tmp_path).artifact
    with pytest.raises(ArtifactError, match="trained on embedder hashed-words"):
        Router(artifact, Renamed())
    manifest = tmp_path / MANIFEST
    manifest.write_text(manifest.read_text().replace("hashed-words", "word2vec"))
    with pytest.raises(EmbedderError, match="word2vec"):
        Router.load(tmp_path)


def test_a_path_that_is_a_file_cannot_hold_an_artifact(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ArtifactError, match="cannot be written"):
        trained(blocked)
