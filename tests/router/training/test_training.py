import random
import re
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import pytest

from router.artifacts.artifact import Artifact
from router.data.dataset import Example
from router.embedders.static import StaticMiniLm
from router.errors import DatasetError, MappingError, NoEligibleError
from router.mapping.budget_solver import Solver
from router.router import Router
from router.training.train import train
from tests.router.hashed_words import HashedWords

TOPICS = {
    "cooking": "oven butter flour sugar whisk dough salt pepper roast simmer",
    "sailing": "mast rudder keel anchor harbour jib tiller starboard reef knot",
    "general": "shelf lamp window pencil paper basket ladder bucket mirror drawer",
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


SIZES = {"chat": 1.0, "chef": 7.0, "skipper": 7.0}
Kind = Literal["linear", "neighbours"]


def trained(folder: Path, seed: int = 0, classifier: Kind = "linear") -> Router:
    return train(
        prompts(), folder, mapping=MAPPING, embedder=StaticMiniLm(), seed=seed, classifier=classifier
    )


def scored(folder: Path, classifier: Kind = "linear") -> Router:
    return train(prompts(), folder, experts=SIZES, embedder=StaticMiniLm(), classifier=classifier)


@cache
def given(classifier: Kind = "linear") -> Router:
    """Trained once, with ``MAPPING``, for tests that only ask it or write it."""
    with TemporaryDirectory() as folder:
        return trained(Path(folder), classifier=classifier)


@cache
def solved(classifier: Kind = "linear") -> Router:
    """The same with scores."""
    with TemporaryDirectory() as folder:
        return scored(Path(folder), classifier)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_training_returns_a_router_that_decides(tmp_path: Path) -> None:
    decision = trained(tmp_path / "out").decide("butter flour dough sugar whisk oven")
    assert (decision.category, decision.expert, decision.uncertain) == ("cooking", "chef", False)
    assert next(iter(decision.probabilities)) == "cooking"
    assert sum(decision.probabilities.values()) == pytest.approx(1.0)
    assert re.fullmatch(r"<Decision cooking -> chef, confidence \d\.\d\d>", repr(decision))


def test_loading_gives_the_router_that_training_returned(tmp_path: Path) -> None:
    router, loaded = trained(tmp_path), Router.load(tmp_path)
    for prompt in ("anchor the keel", "simmer", "hello there"):
        assert loaded.decide(prompt).probabilities == router.decide(prompt).probabilities


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        trained(tmp_path / name, seed=seed)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert contents(tmp_path / "one") != contents(tmp_path / "three")
    scored(tmp_path / "four", "neighbours")
    scored(tmp_path / "five", "neighbours")
    assert contents(tmp_path / "four") == contents(tmp_path / "five")


def test_training_again_replaces_the_artifact_and_leaves_other_files(tmp_path: Path) -> None:
    solved().artifact.write(tmp_path)
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
    solved().artifact.write(tmp_path)
    everything = b"".join(contents(tmp_path).values())
    assert not any(word.encode() in everything for words in TOPICS.values() for word in words.split())


def test_the_mapping_can_be_solved_from_scores() -> None:
    artifact = solved().artifact
    # Labels, and their finer categories where there are enough prompts for some.
    for name, expert in artifact.mapping.experts.items():
        assert expert == MAPPING[name.partition("/")[0]]
    table = artifact.scores
    assert table is not None
    assert (table.experts, table.parameters.tolist()) == (("chat", "chef", "skipper"), [1.0, 7.0, 7.0])
    assert {name.partition("/")[0] for name in table.categories} == set(solved().categories)
    assert table.counts.sum() == 3 * len(prompts())
    assert set(Solver(table, SIZES).map(1.0).experts.values()) == {"chat"}


def test_a_map_that_is_given_leaves_the_artifact_without_scores() -> None:
    assert (given().artifact.scores, given().artifact.clusters) == (None, None)


def test_what_was_measured_comes_from_classifiers_that_had_not_seen_the_prompt(tmp_path: Path) -> None:
    """Half of the labels are by lot, which whoever remembers prompts would know and nobody else can."""
    chance = random.Random(7)
    wrong = [
        replace(example, category=chance.choice(list(TOPICS))) if chance.random() < 0.5 else example
        for example in prompts()
    ]
    measured = train(wrong, tmp_path, mapping=MAPPING, embedder=HashedWords()).artifact.cross_validated
    assert 0.5 < measured.accuracy < 0.8
    assert measured.expected_calibration_error < 0.15
    assert given().artifact.cross_validated.accuracy > 0.95


@pytest.mark.parametrize("classifier", ["linear", "neighbours"])
def test_a_decision_does_not_depend_on_the_prompts_before_it(classifier: Kind) -> None:
    artifact = solved(classifier).artifact
    router, other = (Router(artifact, StaticMiniLm()) for _ in range(2))
    texts = [example.prompt for example in prompts(10)] + ["", "zugzwang"]
    forwards = [replace(router.decide(text), seconds=0.0) for text in texts]
    backwards = [replace(other.decide(text), seconds=0.0) for text in reversed(texts)]
    assert forwards == backwards[::-1]
    assert len({decision.category for decision in forwards}) > 2


def test_unlabelled_prompts_help_where_few_have_labels(tmp_path: Path) -> None:
    """Five labelled prompts of a topic do not have all of its words, but others that have these do."""
    choose = random.Random(2)
    words = {topic: [topic[:2] + a + b for a in "abcdefgh" for b in "ijklmnop"] for topic in TOPICS}
    everything = [
        (number, Example(f"{topic}/{number}", " ".join(choose.choices(words[topic], k=6)), topic))
        for topic in TOPICS
        for number in range(180)
    ]
    seed = [example for number, example in everything if number < 5]
    more = [replace(example, category=None) for number, example in everything if 5 <= number < 150]
    unseen = [example for number, example in everything if number >= 150]

    def accuracy(unlabelled: list[Example], folder: Path) -> float:
        router = train(
            seed,
            folder,
            mapping=MAPPING,
            embedder=HashedWords(),
            classifier="neighbours",
            unlabelled=unlabelled,
        )
        return sum(router.decide(each.prompt).likeliest == each.category for each in unseen) / len(unseen)

    assert accuracy(more, tmp_path / "helped") > accuracy([], tmp_path / "alone") + 0.02


def test_prompts_of_the_data_without_a_label_are_unlabelled_ones(tmp_path: Path) -> None:
    seed, more = prompts(10), [replace(each, category=None) for each in prompts(60)[100:120]]
    together = train(seed + more, tmp_path / "a", mapping=MAPPING, embedder=HashedWords())
    apart = train(seed, tmp_path / "b", mapping=MAPPING, embedder=HashedWords(), unlabelled=more)
    assert together.artifact.training == apart.artifact.training
    assert together.artifact.training.prompts == 30
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_progress_counts_up_to_the_end(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    train(
        prompts(),
        tmp_path,
        mapping=MAPPING,
        embedder=HashedWords(),
        progress=lambda what, done, total: seen.append((what, done, total)),
    )
    assert {what for what, _, _ in seen} == {"embedding", "classifying"}
    assert all(done <= total for _, done, total in seen)
    assert seen[-1][1] == seen[-1][2]


def test_a_wrong_mapping_stops_training_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="did you mean 'sailing'"):
        train(prompts(), tmp_path / "out", mapping={"general": "chat", "sail": "x"}, embedder=HashedWords())
    assert not (tmp_path / "out").exists()


def test_data_without_categories_cannot_train(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nothing to learn"):
        train([Example("a", "hi")], tmp_path, mapping=MAPPING, embedder=HashedWords())


def test_prompts_that_are_all_alike_cannot_train(tmp_path: Path) -> None:
    twins = [Example(str(number), f"add {number} and 2", "general") for number in range(9)]
    with pytest.raises(DatasetError, match="too few, or all near twins"):
        train(twins, tmp_path / "out", mapping={"general": "chat"}, embedder=HashedWords())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("experts", "complaint"),
    [
        ({"chat": 1.0, "poet": 3.0}, "no prompt has a score of expert 'poet'; grade some, or leave it out"),
        ({"poet": 3.0}, "no prompt has a score of poet; fill them in: coe router judge"),
        ({}, "names no expert: give a mapping, or experts that the data grades"),
    ],
)
def test_experts_that_nobody_graded_stop_training_before_anything_is_written(
    tmp_path: Path, experts: dict[str, float], complaint: str
) -> None:
    with pytest.raises(MappingError, match=complaint):
        train(prompts(), tmp_path / "out", experts=experts, embedder=HashedWords())
    assert not (tmp_path / "out").exists()


def test_another_mapping_gives_another_router_and_leaves_the_first() -> None:
    router = given()
    other = router.with_mapping({"general": "chat", "cooking": "grandmother"})
    assert other.decide("butter flour dough sugar whisk oven").expert == "grandmother"
    assert router.decide("butter flour dough sugar whisk oven").expert == "chef"
    with pytest.raises(MappingError, match="did you mean 'cooking'"):
        router.with_mapping({"general": "chat", "cookin": "chef"})


def test_an_expert_that_cannot_take_the_request_is_passed_over() -> None:
    router = given()
    prompt = "butter flour dough sugar whisk oven"
    assert router.decide(prompt, {"chef", "chat"}).expert == "chef"
    passed = router.decide(prompt, {"chat", "skipper"})
    assert (passed.category, passed.expert) == ("cooking", "chat")
    assert router.decide(prompt, {"skipper"}).expert == "skipper"
    with pytest.raises(NoEligibleError, match="chat, chef, skipper"):
        router.decide(prompt, {"stranger"})


def test_words_never_seen_are_uncertain_and_become_general(tmp_path: Path) -> None:
    router = train(prompts(), tmp_path, mapping=MAPPING, embedder=HashedWords())
    decision = router.decide(" ".join(f"zugzwang{number}" for number in range(60)))
    assert decision.uncertain
    assert (decision.category, decision.expert) == ("general", "chat")
    assert repr(decision).endswith("uncertain>")


def test_a_far_prompt_is_uncertain_however_confident_the_classifier() -> None:
    doubts = given().artifact.uncertainty
    seen, opposite = doubts.landmarks[0], -doubts.landmarks.mean(axis=0)
    certain, torn = np.array([1.0, 0.0, 0.0, 0.0]), np.full(4, 0.25)
    assert not doubts.doubts(certain, seen, oddity=2.0)
    assert doubts.doubts(certain, opposite, oddity=2.0)
    assert doubts.doubts(torn, seen, oddity=2.0)
    assert doubts.doubts(certain, seen, oddity=20.0)


def test_the_clock_that_is_given_times_the_decision() -> None:
    ticks = count()
    router = Router(given().artifact, StaticMiniLm(), clock=lambda: float(next(ticks)))
    assert router.decide("anchor").seconds == 1.0
