from pathlib import Path

import pytest
from pydantic import ValidationError

from router.settings import CompositionConfig
from router.stickiness import MARGIN


def test_an_artifact_is_all_that_is_needed() -> None:
    config = CompositionConfig.model_validate({"artifact": "router/embedded"})
    assert (config.artifact, config.mapping, config.description) == (Path("router/embedded"), None, "")
    assert config.stickiness == MARGIN


def test_a_typo_is_an_error() -> None:
    with pytest.raises(ValidationError, match="artefact"):
        CompositionConfig.model_validate({"artifact": "a", "artefact": "b"})


def test_every_field_explains_itself() -> None:
    assert all(field.description for field in CompositionConfig.model_fields.values())


def test_budgets_are_written_with_their_unit() -> None:
    config = CompositionConfig.model_validate(
        {"artifact": "a", "active_params": "31B", "total_params": "500M"}
    )
    assert (config.active_params, config.total_params, config.min_margin) == (31.0, 0.5, 0.0)
    with pytest.raises(ValidationError, match="31 is not a number of parameters such as 31B"):
        CompositionConfig.model_validate({"artifact": "a", "active_params": 31})


def test_a_map_may_be_fixed_in_part_and_solved() -> None:
    config = CompositionConfig.model_validate(
        {"artifact": "a", "mapping": {"general": "x"}, "total_params": "3B"}
    )
    assert (config.mapping, config.total_params) == ({"general": "x"}, 3.0)
