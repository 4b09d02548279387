import re
from pathlib import Path

import numpy as np
import pytest

from router.artifact import Artifact
from router.embed import HashedWords
from router.errors import DatasetError, MappingError
from router.new_category import FEWEST, with_category
from router.pipeline import Router
from tests.router.hidden_groups import finer, hidden
from tests.router.test_training import given, prompts, solved

CHESS = [
    "zugzwang fianchetto skewer endgame castling gambit",
    "castling gambit bishop rook stalemate fianchetto",
    "endgame rook bishop stalemate zugzwang skewer",
    "gambit skewer rook castling endgame bishop",
]


def test_prompts_near_the_examples_are_of_the_new_category() -> None:
    router = with_category(given(), "chess", CHESS, "grandmaster")
    for prompt in (*CHESS, "stalemate castling bishop skewer gambit", "fianchetto rook zugzwang endgame"):
        decision = router.decide(prompt)
        assert (decision.category, decision.expert) == ("chess", "grandmaster")
        assert sum(decision.probabilities.values()) == pytest.approx(1.0)


def test_elsewhere_the_decisions_are_as_they_were() -> None:
    router = with_category(given(), "chess", CHESS, "grandmaster")
    for example in prompts(30):
        before, after = given().decide(example.prompt), router.decide(example.prompt)
        assert (after.category, after.expert, after.uncertain) == (
            before.category,
            before.expert,
            before.uncertain,
        )
        assert after.probabilities["chess"] < 0.1
        ratio = {name: after.probabilities[name] / chance for name, chance in before.probabilities.items()}
        assert np.ptp(list(ratio.values())) < 1e-4


def test_the_router_it_is_added_to_is_left_as_it_was() -> None:
    with_category(given(), "chess", CHESS, "grandmaster")
    assert given().categories == ("cooking", "general", "sailing")
    assert "grandmaster" not in given().experts


def test_it_is_written_and_read_like_any_other(tmp_path: Path) -> None:
    router = with_category(finer(), "chess", CHESS, "chat")
    router.artifact.write(tmp_path)
    read = Router(Artifact.read(tmp_path), HashedWords())
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


def test_a_second_one_can_be_added() -> None:
    poems = ["ode to a sonnet in rhyme", "a rhyme for an ode, verse by verse", "sonnet verse stanza ode"]
    router = with_category(with_category(given(), "chess", CHESS, "a"), "poetry", poems, "b")
    assert [router.decide(prompt).expert for prompt in (CHESS[1], poems[0])] == ["a", "b"]


def test_what_cannot_be_added_is_refused() -> None:
    with pytest.raises(
        DatasetError, match=re.escape(f"2 prompts say too little of a category; give {FEWEST}")
    ):
        with_category(given(), "chess", CHESS[:2], "grandmaster")
    with pytest.raises(MappingError, match="has a category 'cooking' already; choose another name"):
        with_category(given(), "cooking", CHESS, "grandmaster")
    with pytest.raises(MappingError, match="only a linear classifier takes a category"):
        with_category(given("neighbours"), "chess", CHESS, "grandmaster")
