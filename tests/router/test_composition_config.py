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
