"""Shares among owners what is bounded for all of them, so that some of it is left for others."""

from server.access.owner import is_named

SHARE = 2
"""Factor: an owner may hold as many times what is left free. So the first one gets two thirds of all at most,
and each later one two thirds of what the others left; an owner that holds nothing may have the last piece."""


def fits(owner: str, asked: int, *, held: int, used: int, most: int) -> bool:
    """Says whether ``owner``, which holds ``held``, may have ``asked`` more where all owners hold ``used`` of
    ``most``. Where no key is needed, clients choose their owner's name, so there are no shares."""
    free = most - used - asked
    return free >= 0 and (held == 0 or not is_named(owner) or held + asked <= SHARE * free)


class Holdings:
    """Counts what each owner holds of something of which there may be ``most``. Plain state; no I/O."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self._held: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Holdings {self.used:,} of {self.most:,} by {len(self._held)}>"

    def of(self, owner: str) -> int:
        return self._held.get(owner, 0)

    def take(self, owner: str, amount: int) -> bool:
        """Takes ``amount`` for ``owner`` where it fits. Returns whether it did."""
        if not fits(owner, amount, held=self.of(owner), used=self.used, most=self.most):
            return False
        self.add(owner, amount)
        return True

    def add(self, owner: str, amount: int) -> None:
        """Counts what is held already, whether it fits or not; a negative amount is given back."""
        self.used += amount
        self._held[owner] = self.of(owner) + amount
        if not self._held[owner]:
            del self._held[owner]
