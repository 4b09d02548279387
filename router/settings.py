"""The router's piece of the configuration tree."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class CompositionConfig(BaseModel):
    """A named set of experts with one router; clients ask for it as a ``model``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    artifact: Path
    """Folder of a trained router, made by ``coe router train``."""
    mapping: dict[str, str] | None = None
    """Category to expert, instead of the mapping in the artifact. Must name ``general``, which also answers
    the categories left out."""
    description: str = ""
    """What clients read about the composition in ``/v1/models``."""
