"""The router's piece of the configuration tree."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from router.stickiness import MARGIN


class CompositionConfig(BaseModel):
    """A named set of experts with one router; clients ask for it as a ``model``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    artifact: Path
    """Folder of a trained router, made by ``coe router train``."""
    mapping: dict[str, str] | None = None
    """Category to expert, instead of the mapping in the artifact. Must name ``general``, which also answers
    the categories left out."""
    stickiness: float = Field(default=MARGIN, ge=0, le=1)
    """How clearly a conversation's topic must have moved for another category: by how much the new one must
    be more probable than the present one. 0: every turn is decided by itself."""
    description: str = ""
    """What clients read about the composition in ``/v1/models``."""
