"""The router's piece of the configuration tree."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from router.parameters import Billions
from router.stickiness import MARGIN, STAY_MARGIN

EMBEDDED = Path(__file__).parent / "embedded"
FIVE_EXPERTS = Path(__file__).parent / "five_experts"
SHIPPED = {"embedded": EMBEDDED, "five-experts": FIVE_EXPERTS}
"""The routers that ship, by the names that a configuration has for them."""


def _shipped(artifact: object) -> object:
    return SHIPPED.get(artifact, artifact) if isinstance(artifact, str) else artifact


class CanaryConfig(BaseModel):
    """A map that is tried on a share of the conversations."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    artifact: Annotated[Path, BeforeValidator(_shipped)]
    """Folder of the artifact whose map is tried, made from the composition's own by ``coe router map``,
    ``add-expert``, ``replace-expert`` or ``remove-expert``; a relative path counts from the configuration
    file."""
    share: float = Field(default=0, ge=0, le=1)
    """Share of the conversations that it answers, from 0 to 1, where it names another expert. 0: what it
    would change is only counted."""


class CompositionConfig(BaseModel):
    """A named set of experts with one router; clients ask for it as a ``model``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    artifact: Annotated[Path, BeforeValidator(_shipped)]
    """Folder of a trained router, made by ``coe router train``; a relative path counts from the configuration
    file. Two ship and go by name: embedded for the embedded experts, five-experts for the paper's five."""
    experts: dict[str, str] = {}
    """Names of experts in the artifact to their names here, where these differ (``Qwen/Qwen2-72B-Instruct:
    large``)."""
    mapping: dict[str, str] | None = None
    """Category to expert, instead of the mapping in the artifact. Must name ``general``, which also answers
    the categories left out. Beside active_params or total_params it says what the solved map must have, and
    the categories left out are solved."""
    active_params: Billions | None = None
    """Average number of parameters of the expert that answers, such as 31B: the map is solved for it when the
    server starts, from the artifact's scores. Absent, and total_params too: the map is the artifact's."""
    total_params: Billions | None = None
    """Largest number of parameters of all experts of the map together, also of a map for a budget in the
    model's name (``coe:31B``)."""
    steps: Literal["one", "two"] | None = None
    """How an expert is chosen: two: the map gives the prompt's category one; one: each prompt gets the expert
    with the best score expected of it, less a price for size that keeps active_params on average. One needs
    an artifact with finer categories. Absent: as the artifact has it, which is two unless ``coe router map
    --steps one`` made it."""
    min_margin: float = Field(default=0, ge=0, le=100)
    """Points of score (of 100) by which an expert must be better than a cheaper one of the map to be chosen,
    where a map is solved."""
    stickiness: float = Field(default=MARGIN, ge=0, le=1)
    """How clearly a conversation's topic must have moved for another category: by how much the new one must
    be more probable than the present one. 0: every turn is decided by itself."""
    stay_margin: float = Field(default=STAY_MARGIN, ge=0, le=100)
    """Points of score (of 100) by which another expert must be better on a turn for a conversation to leave
    the expert of the turn before, where that one is no larger. It is what the prefix cache and the weights on
    the device are worth."""
    residency_margin: float = Field(default=0, ge=0, le=100)
    """Points of score (of 100) by which an expert on the device may be worse than the map's and still answer
    in its place, where the map's is not there and the other no larger. 0: where experts are does not
    count."""
    languages: dict[str, str] = {}
    """ISO 639 code of a language (``hu``, ``ja``, ``ar``) to the expert that answers what is asked in it,
    whatever the map says. Told by py3langid, the extra ``languages``; other languages go by the map."""
    canary: CanaryConfig | None = None
    """Map that is tried beside this one, under the same budgets; ``coe feedback trial`` compares them.
    Absent: none."""
    fallback: bool | str = True
    """The expert that answers when the chosen one is broken. true: the next of the map, as for a request that
    the chosen one could not take. false: none, the client gets the error. Or the name of an expert."""
    description: str = ""
    """Text that clients read about the composition in ``/v1/models``."""
