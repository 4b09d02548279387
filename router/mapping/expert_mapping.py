"""The second step: category to expert, given by hand or solved from scores."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from router.decision import GENERAL
from router.errors import MappingError


@dataclass(frozen=True, slots=True)
class ExpertMapping:
    """Every category of the router to the expert that answers it. Build it with ``given`` or ``solved``."""

    experts: Mapping[str, str]
    finer: Mapping[str, str] = field(default_factory=dict)
    """Finer category to its label, for those that have a line of their own."""
    fixed: frozenset[str] = frozenset()
    """Rows whose expert was given by hand, and not for its score."""
    price: float | None = None
    """Score that a billion parameters must be worth where a prompt chooses by what its own text says (one
    step, ``router.mapping.one_step``); None: its row of the map chooses (two steps)."""
    among: tuple[str, ...] = ()
    """The experts that one step chooses among."""

    def __getitem__(self, category: str) -> str:
        """At a finer category without a line of its own, what its label has."""
        return self.experts.get(category) or self.experts[category.rpartition("/")[0]]

    def names(self) -> tuple[str, ...]:
        """The experts that can be chosen, each once, sorted."""
        return tuple(sorted({*self.experts.values(), *self.among}))

    def rows_of(self, category: str) -> tuple[str, ...]:
        """Returns the rows of ``category``: the very one, and the finer ones of a label (``math/2`` of
        ``math``).

        Raises MappingError for a category the mapping does not have.
        """
        rows = [row for row in self.experts if category in (row, self.finer.get(row))]
        if not rows:
            raise MappingError(unknown_category(category, self.experts))
        return tuple(sorted(rows))

    @classmethod
    def given(cls, experts: Mapping[str, str], categories: Collection[str]) -> "ExpertMapping":
        """Categories left out go to the expert of ``general``.

        Raises MappingError for a category the router does not have, and when ``general`` is missing.
        """
        for category in experts:
            if category not in categories:
                raise MappingError(unknown_category(category, categories))
        if GENERAL not in experts:
            raise MappingError(
                f"the mapping names no expert for {GENERAL!r}: it answers what the router is unsure of"
            )
        complete = {category: experts.get(category, experts[GENERAL]) for category in sorted(categories)}
        return cls(complete, fixed=frozenset(complete))

    @classmethod
    def solved(
        cls,
        experts: Mapping[str, str],
        shares: Mapping[str, float],
        finer: Mapping[str, str],
        fixed: Collection[str] = (),
        price: float | None = None,
        among: Collection[str] = (),
    ) -> "ExpertMapping":
        """``experts``: of every row of a score table, whose ``shares`` these are. ``finer``: finer category
        to its label, which goes to the expert that most of its prompts go to. ``fixed``: rows whose expert
        was given. ``price``, ``among``: of one step."""
        weights: defaultdict[str, dict[str, float]] = defaultdict(dict)
        for row, expert in sorted(experts.items()):
            of_label = weights[finer.get(row, row)]
            of_label[expert] = of_label.get(expert, 0.0) + shares[row]
        return cls(
            {label: max(weight, key=weight.__getitem__) for label, weight in weights.items()} | dict(experts),
            {row: label for row, label in finer.items() if row in experts},
            frozenset(fixed),
            price,
            tuple(among),
        )


def unknown_category(category: str, categories: Collection[str]) -> str:
    """Words the error of a category that is none of ``categories``."""
    close = get_close_matches(category, categories, n=1, cutoff=0.0)
    return (
        f"the router has no category {category!r}; did you mean {close[0]!r}? "
        f"It has: {', '.join(sorted(categories))}"
    )
