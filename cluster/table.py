"""The table of copies as a gateway follows it."""

from collections.abc import Iterable, Mapping

from cluster.placement.actions import Copy, Entry, Epoch, Publish


class Table:
    """The copies of each expert, as of the highest epoch that was heard of. A placement that was cut off and
    goes on publishing is not followed once another has begun: its term is lower."""

    def __init__(self) -> None:
        self.epoch: Epoch | None = None
        self._copies: dict[str, tuple[Copy, ...]] = {}

    def replace(self, epoch: Epoch, entries: Iterable[Entry]) -> bool:
        """Takes a whole table. False: it is older than what is known, and was not taken."""
        if self.epoch is not None and epoch < self.epoch:
            return False
        self.epoch = epoch
        self._copies = {entry.expert: entry.copies for entry in entries}
        return True

    def follow(self, published: Publish) -> bool:
        """Takes what changed. False: tables in between were missed, or this one is of another term, so that
        the whole is needed; an older one is passed over."""
        if self.epoch is None:
            return False
        if published.epoch <= self.epoch:
            return True
        if published.epoch != Epoch(self.epoch.term, self.epoch.count + 1):
            return False
        self.epoch = published.epoch
        for entry in published.entries:
            self._copies[entry.expert] = entry.copies
        return True

    def copies(self, expert: str) -> tuple[Copy, ...]:
        return self._copies.get(expert, ())

    @property
    def all(self) -> Mapping[str, tuple[Copy, ...]]:
        return self._copies

    def __repr__(self) -> str:
        return f"<Table of {len(self._copies)} experts as of {self.epoch}>"
