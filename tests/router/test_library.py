"""The router as a library: what docs/guides/python.md promises."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import router
from router import Decision, Router
from router.errors import MappingError
from router.settings import FIVE_EXPERTS
from tests.router.training.test_training import given, solved

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "python.md"


def test_the_guides_examples_run_as_they_are_written() -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL))
    code = code.replace('"artifact/"', repr(str(FIVE_EXPERTS)))
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=GUIDE.parents[2])
    assert done.returncode == 0, done.stderr


def test_predictions_are_decisions() -> None:
    prompts = ["whisk butter and flour", "anchor the rudder"]
    made = solved()
    assert made.predict(prompts) == [made.decide(prompt).expert for prompt in prompts]
    chances = made.predict_proba(prompts)
    assert chances.shape == (2, len(made.categories))
    assert np.allclose(chances.sum(axis=1), 1)
    assert made.categories[chances[0].argmax()] == "cooking"


def test_a_map_under_a_budget_is_saved_with_the_artifact(tmp_path: Path) -> None:
    cheap = solved().under(active=1.0)
    assert cheap.experts == ("chat",)
    cheap.save(tmp_path)
    assert Router.load(str(tmp_path)).experts == ("chat",)
    with pytest.raises(MappingError, match="no scores"):
        given().under(active=1.0)


def test_an_explanation_has_the_row_of_the_decision_best_first() -> None:
    said = solved().explain("whisk butter and flour")
    assert isinstance(said.decision, Decision)
    assert said.row[0].expert == said.decision.expert == "chef"
    assert [each.score for each in said.row] == sorted((each.score for each in said.row), reverse=True)
    assert given().explain("whisk").row == ()


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Ruoter"):
        router.Ruoter  # noqa: B018
