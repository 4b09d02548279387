"""Aliases: other names of models, for tools that know only the names of another provider's."""

from collections.abc import Collection, Iterator, Mapping

from router.parameters import billions
from server.config.problems import unknown

ANY = "*"
"""Stands for any text in an alias, which is then a pattern."""


class Aliases:
    """The one place in which aliases are resolved. A model's own name comes first, then an alias that is the
    very name, then a composition's budget (``coe:31B``), then the first pattern that fits."""

    def __init__(
        self,
        given: Mapping[str, str],
        experts: Collection[str] = (),
        compositions: Collection[str] = (),
    ) -> None:
        """``given``: alias or pattern to the model that it stands for."""
        self._experts = experts
        self._compositions = compositions
        self._given = given
        self._patterns = [alias for alias in self._given if ANY in alias]

    def __repr__(self) -> str:
        return f"<Aliases {', '.join(self._given) or 'none'}>"

    def __iter__(self) -> Iterator[str]:
        """Iterates over the aliases that are names, as patterns name no model that could be listed."""
        return (alias for alias in self._given if ANY not in alias)

    def is_name(self, name: str) -> bool:
        """Says whether ``name`` is a model's or an alias, without a pattern's help."""
        return name in self._experts or name in self._compositions or name in self._given

    def model_of(self, name: str) -> str | None:
        """Returns the model that an alias stands for; None: ``name`` is none."""
        alias = self._alias_of(name)
        return None if alias is None else self._given[alias]

    def names_of(self, name: str) -> tuple[str, ...]:
        """Returns the names by which a key may be permitted what a client asks for: its own first, the
        pattern that it fits, and that of the model that it stands for, without a budget."""
        alias = self._alias_of(name)
        if alias is None:
            return name, self.without_budget(name)
        return name, alias, self.without_budget(self._given[alias])

    def _alias_of(self, name: str) -> str | None:
        """Returns the alias or the pattern that ``name`` is resolved by."""
        if name in self._experts or name in self._compositions:
            return None
        if name in self._given:
            return name
        if not self._patterns or self.without_budget(name) != name:
            return None
        return next((pattern for pattern in self._patterns if _fits(pattern, name)), None)

    def without_budget(self, model: str) -> str:
        """Returns the composition in a name such as ``coe:31B``; any other name as it is."""
        name, _, budget = model.rpartition(":")
        if model in self._experts or name not in self._compositions:
            return model
        try:
            billions(budget)
        except ValueError:
            return model
        return name


NO_ALIASES = Aliases({})


def check_aliases(given: Mapping[str, str], experts: Collection[str], compositions: Collection[str]) -> None:
    """Raises ValueError for an alias that hides a model, or that stands for none."""
    known = Aliases({}, experts, compositions)
    for alias, model in given.items():
        where = f"aliases.{alias}"
        if not alias or alias != alias.strip():
            raise ValueError(f"{where}: an alias is a name without white space around it; write one")
        if alias in experts or alias in compositions:
            kind = "an expert" if alias in experts else "a composition"
            raise ValueError(f"{where}: {kind} has this name; choose another")
        if model in given:
            raise ValueError(f"{where}: {model!r} is an alias itself; write what that is, {given[model]!r}")
        if known.without_budget(model) not in {*experts, *compositions}:
            raise ValueError(f"{where}: {unknown(model, [*compositions, *experts])}")


def _fits(pattern: str, name: str) -> bool:
    """Says whether ``name`` is of the pattern, in a time that grows with its length alone: clients choose
    it."""
    first, *middle, last = pattern.split(ANY)
    at, end = len(first), len(name) - len(last)
    if at > end or not name.startswith(first) or not name.endswith(last):
        return False
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
