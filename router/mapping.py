"""The second step: category to expert, given by hand or chosen from scores."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from router.dataset import Example
from router.errors import MappingError

GENERAL = "general"
"""The category of everyday chat and of every prompt that the router is unsure of. Always mapped."""


@dataclass(frozen=True, slots=True)
class ExpertMapping:
    """Every category of the router to the expert that answers it. Build it with ``given`` or
    ``from_scores``."""

    experts: Mapping[str, str]

    def __getitem__(self, category: str) -> str:
        return self.experts[category]

    def names(self) -> tuple[str, ...]:
        """The experts that can be chosen, each once, sorted."""
        return tuple(sorted(set(self.experts.values())))

    def rows_of(self, category: str) -> tuple[str, ...]:
        """Where it is read for ``category``: at the very one, then at finer ones (``math/2`` of ``math``).

        Raises MappingError for a category the mapping does not have.
        """
        rows = [row for row in self.experts if row == category or row.rpartition("/")[0] == category]
        if not rows:
            raise MappingError(_unknown(category, self.experts))
        return tuple(sorted(rows))

    @classmethod
    def given(cls, experts: Mapping[str, str], categories: Collection[str]) -> "ExpertMapping":
        """Categories left out go to the expert of ``general``.

        Raises MappingError for a category the router does not have, and when ``general`` is missing.
        """
        for category in experts:
            if category not in categories:
                raise MappingError(_unknown(category, categories))
        if GENERAL not in experts:
            raise MappingError(
                f"the mapping names no expert for {GENERAL!r}: it answers what the router is unsure of"
            )
        return cls({category: experts.get(category, experts[GENERAL]) for category in sorted(categories)})

    @classmethod
    def from_scores(
        cls,
        examples: Iterable[Example],
        experts: Sequence[str],
        categories: Collection[str],
        *,
        prior: float = 20.0,
    ) -> "ExpertMapping":
        """For each category the expert with the best mean score; ties go to the one named first.

        A mean is shrunk towards the expert's mean over all prompts by ``prior`` imagined prompts, so that a
        category of five prompts does not choose by luck. Raises MappingError for an expert without any score.
        """
        if not experts:
            raise MappingError(
                "the training names no expert: give a mapping, or experts that the data grades"
            )
        graded = [example for example in examples if example.scores]
        overall = {expert: _mean_score(graded, expert) for expert in experts}
        by_category: dict[str, list[Example]] = {category: [] for category in categories}
        for example in graded:
            by_category.get(example.category or GENERAL, []).append(example)

        def shrunk(category: str, expert: str) -> float:
            scores = [example.scores[expert] for example in by_category[category] if expert in example.scores]
            return (sum(scores) + prior * overall[expert]) / (len(scores) + prior)

        return cls(
            {
                category: max(experts, key=lambda expert: shrunk(category, expert))
                for category in sorted(categories)
            }
        )


def _mean_score(examples: Sequence[Example], expert: str) -> float:
    scores = [example.scores[expert] for example in examples if expert in example.scores]
    if not scores:
        graded = sorted({name for example in examples for name in example.scores})
        raise MappingError(
            f"no prompt has a score of expert {expert!r}; graded are: {', '.join(graded) or 'none'}"
        )
    return sum(scores) / len(scores)


def _unknown(category: str, categories: Collection[str]) -> str:
    close = get_close_matches(category, categories, n=1, cutoff=0.0)
    return (
        f"the router has no category {category!r}; did you mean {close[0]!r}? "
        f"It has: {', '.join(sorted(categories))}"
    )
