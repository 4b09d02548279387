import random
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from router.artifacts.artifact import Artifact
from router.classifiers.uncertainty import distances_to
from router.data.dataset import Example
from router.embedders.static import StaticMiniLm
from router.errors import DatasetError, MappingError
from router.mapping.budget_solver import Solver
from router.router import Router
from router.training.add_category import FEWEST, with_category
from router.training.train import train
from tests.router.hashed_words import HashedWords
from tests.router.mapping.hidden_groups import finer, hidden
from tests.router.training.test_training import MAPPING, SIZES, TOPICS, given, solved

CHESS = [
    "zugzwang fianchetto skewer endgame castling gambit",
    "castling gambit bishop rook stalemate fianchetto",
    "endgame rook bishop stalemate zugzwang skewer",
    "gambit skewer rook castling endgame bishop",
]


def mixed(count: int = 120, seed: int = 1) -> list[Example]:
    """Of each topic, a third of whose words are of any: how sure one can be of them differs."""
    choose, anything = random.Random(seed), " ".join(TOPICS.values()).split()
    return [
        Example(
            f"{seed}/{topic}/{number}",
            " ".join(choose.choices(words.split(), k=6) + choose.choices(anything, k=3)),
            topic,
            {"chat": 0.5, "chef": float(topic == "cooking"), "skipper": float(topic == "sailing")},
        )
        for topic, words in TOPICS.items()
        for number in range(count)
    ]


@cache
def unsure() -> Router:
    with TemporaryDirectory() as folder:
        return train(mixed(), Path(folder), mapping=MAPPING, embedder=HashedWords())


def test_prompts_near_the_examples_are_of_the_new_category() -> None:
    router = with_category(unsure(), "chess", CHESS, "grandmaster")
    for prompt in (
        *CHESS,
        "stalemate castling bishop skewer gambit",
        "bishop rook endgame stalemate gambit castling",
    ):
        decision = router.decide(prompt)
        assert (decision.category, decision.expert) == ("chess", "grandmaster")
        assert sum(decision.probabilities.values()) == pytest.approx(1.0)


def test_elsewhere_the_decisions_are_as_they_were() -> None:
    router, unseen, same = with_category(unsure(), "chess", CHESS, "grandmaster"), mixed(40, seed=2), 0
    for example in unseen:
        before, after = unsure().decide(example.prompt), router.decide(example.prompt)
        same += after.likeliest == before.likeliest and (after.expert == before.expert or before.uncertain)
        ratio = [after.probabilities[name] / chance for name, chance in before.probabilities.items()]
        assert np.ptp(ratio) < 1e-4
    assert same >= 0.95 * len(unseen)


def unknown(count: int = 60) -> list[str]:
    """Of a kind that neither the training nor a new category's examples have."""
    choose, words = random.Random(5), "boson lepton quark hadron muon gluon photon parity spinor isospin"
    return [" ".join(choose.choices(words.split(), k=6)) for _ in range(count)]


def test_what_was_doubted_is_doubted_still_however_odd_an_example_is() -> None:
    odd = "qzxj wvkq xxjq zzvk jqwx"
    router = with_category(unsure(), "chess", [*CHESS, odd], "grandmaster")
    doubted = [prompt for prompt in unknown() if unsure().decide(prompt).uncertain]
    assert len(doubted) > 30
    assert all(router.decide(prompt).uncertain for prompt in doubted)
    assert router.decide(odd).category == "chess"
    (added,) = router.artifact.uncertainty.added
    assert distances_to(added.examples[:-1], added.examples[-1:]) > added.reach


def test_what_it_does_not_claim_is_doubted_exactly_as_before() -> None:
    router = with_category(unsure(), "chess", CHESS, "grandmaster")
    texts = [*unknown(), *(each.prompt for each in mixed(40, seed=2))]
    pairs = [(unsure().decide(text), router.decide(text)) for text in texts]
    others = [(before, after) for before, after in pairs if after.likeliest != "chess"]
    assert len(others) > 100
    assert [before.uncertain for before, _ in others] == [after.uncertain for _, after in others]


def test_prompts_of_the_new_category_are_not_doubted() -> None:
    router, choose = with_category(unsure(), "chess", CHESS, "grandmaster"), random.Random(8)
    words = sorted(set(" ".join(CHESS).split()))
    asked = [" ".join(choose.sample(words, k=6)) for _ in range(50)]
    assert sum(unsure().decide(prompt).uncertain for prompt in asked) >= 20
    assert sum(router.decide(prompt).category == "chess" for prompt in asked) >= 45


def test_the_router_it_is_added_to_is_left_as_it_was() -> None:
    with_category(given(), "chess", CHESS, "grandmaster")
    assert given().categories == ("cooking", "general", "sailing")
    assert "grandmaster" not in given().experts


def test_it_is_written_and_read_like_any_other(tmp_path: Path) -> None:
    router = with_category(finer(), "chess", CHESS, "chat")
    router.artifact.write(tmp_path)
    read = Router(Artifact.read(tmp_path), StaticMiniLm())
    for prompt in [*CHESS, *(example.prompt for example in hidden(5, seed=7))]:
        one, other = read.decide(prompt), router.decide(prompt)
        assert (one.category, one.cluster, one.probabilities) == (
            other.category,
            other.cluster,
            other.probabilities,
        )
    assert read.decide(CHESS[0]).cluster == "chess"


def test_in_the_score_table_it_scores_what_all_prompts_do() -> None:
    before = solved().artifact.scores
    after = with_category(solved(), "chess", CHESS, "chat").artifact.scores
    assert before is not None
    assert after is not None
    assert after.categories == (*before.categories, "chess")
    np.testing.assert_allclose(after.means[-1], before.shares @ before.means)
    assert after.shares.sum() == pytest.approx(1)
    assert after.shares[-1] < after.shares[:-1].min()
    assert not after.counts[-1].any()


def test_a_second_one_can_be_added(tmp_path: Path) -> None:
    poems = ["ode to a sonnet in rhyme", "a rhyme for an ode, verse by verse", "sonnet verse stanza ode"]
    router = with_category(with_category(unsure(), "chess", CHESS, "a"), "poetry", poems, "b")
    assert [router.decide(prompt).expert for prompt in (CHESS[1], poems[0])] == ["a", "b"]
    router.artifact.write(tmp_path)
    read = Router(Artifact.read(tmp_path), HashedWords())
    for prompt in (*CHESS, *poems, *unknown(10)):
        assert replace(read.decide(prompt), seconds=0) == replace(router.decide(prompt), seconds=0)


def test_what_cannot_be_added_is_refused() -> None:
    with pytest.raises(
        DatasetError, match=re.escape(f"2 prompts say too little of a category; give {FEWEST}")
    ):
        with_category(given(), "chess", CHESS[:2], "grandmaster")
    with pytest.raises(MappingError, match="has a category 'cooking' already; choose another name"):
        with_category(given(), "cooking", CHESS, "grandmaster")
    with pytest.raises(MappingError, match="a category needs a name"):
        with_category(given(), " ", CHESS, "grandmaster")
    with pytest.raises(MappingError, match="no scores of an expert 'gambler'; it has: chat, chef, skipper"):
        with_category(solved(), "chess", CHESS, "gambler")
    with pytest.raises(MappingError, match="only a linear classifier takes a category"):
        with_category(given("neighbours"), "chess", CHESS, "grandmaster")


def test_its_expert_stays_in_every_map_that_is_solved(tmp_path: Path) -> None:
    made = with_category(solved(), "chess", CHESS, "skipper").artifact
    made.write(tmp_path)
    artifact = Artifact.read(tmp_path)
    for budget in (2.0, None):
        solver = Solver(artifact.scores, SIZES, finer=artifact.finer, fixed=artifact.fixed)
        assert solver.map(budget)["chess"] == "skipper"
