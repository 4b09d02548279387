"""The router's decision for one prompt."""

from collections.abc import Mapping
from dataclasses import dataclass, field

GENERAL = "general"
"""The category of everyday chat and of every prompt that the router is unsure of. Always mapped."""
SLIGHT = 0.01
"""Less probable experts are not worth a thought."""


@dataclass(frozen=True, slots=True)
class Decision:
    category: str
    """The most probable category, or ``general`` when ``uncertain``, unless the request or its conversation
    says another."""
    cluster: str
    """The finer category that the mapping was read at, such as ``math/2``; the category where there is
    none."""
    confidence: float
    """Calibrated probability of the most probable category, also when ``uncertain``."""
    probabilities: Mapping[str, float]
    """Every category, most probable first; they add up to 1."""
    uncertain: bool
    """The confidence was too low, or the prompt too far from everything seen in training."""
    expert: str
    others: Mapping[str, float]
    """Experts that were not chosen, by the probability of their categories, at least ``SLIGHT``."""
    seconds: float
    """Spent deciding."""
    expected: Mapping[str, float] = field(default_factory=dict)
    """Score from 0 to 1 of each expert by the prompt's own text, where it chooses in one step; empty in two
    steps."""

    @property
    def likeliest(self) -> str:
        """The most probable category, whether or not it is doubted."""
        return next(iter(self.probabilities))

    def __repr__(self) -> str:
        doubt = ", uncertain" if self.uncertain else ""
        return f"<Decision {self.category} -> {self.expert}, confidence {self.confidence:.2f}{doubt}>"
