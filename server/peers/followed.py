"""The placement that this node follows: whose word counts, the table, and what nodes were told to move."""

from typing import Literal

from cluster.election import Election, Seniority
from cluster.placement.actions import Epoch, Publish
from cluster.table import Table
from server.peers.wire import MoveNote, PlacementNews

Taken = Literal["taken", "old", "whole needed"]


class Followed:
    """Follows the highest term that was heard of, and no other table."""

    def __init__(self, own: Seniority) -> None:
        self.election = Election(own)
        self.table = Table()
        self.moves: tuple[MoveNote, ...] = ()
        self.address = ""
        """Where the node that places experts listens, as it calls itself."""

    def __repr__(self) -> str:
        return f"<Followed {self.election!r} {self.table!r}>"

    def take(self, news: PlacementNews) -> Taken:
        """Takes in what the node that places experts says."""
        if not self.election.follows(news.term, news.placer):
            return "old"
        for change in news.changes:
            epoch = Epoch(news.term, change.count)
            if news.whole:
                self.table.replace(epoch, change.entries)
            elif not self.table.follow(Publish(epoch, change.entries)):
                return "whole needed"
        if self.table.epoch is None or self.table.epoch.term != news.term:
            return "whole needed"
        self.moves, self.address = news.moves, news.address
        return "taken"
