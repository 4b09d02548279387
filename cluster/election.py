"""Elects the node that decides what all of them should hold: without messages of its own, clock or I/O."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Seniority:
    """A node among others: the one that was started first (``run``) comes first; then ``id`` decides."""

    run: int
    id: str


@dataclass(frozen=True, slots=True)
class Standing:
    """A node's word about itself. ``leaving``: it is not to decide any more. ``hears``: the most senior node
    that it hears itself, of those that stay. ``term`` and ``placer``: what it follows; 0 and empty: nothing
    yet."""

    node: Seniority
    leaving: bool
    hears: Seniority | None
    term: int
    placer: str


class Election:
    """Has the most senior node decide, under a term that is higher than any before. A node that another one
    hears counts, though this one does not hear it: where only the link between two is cut, they do not take
    turns. Where nodes are cut in two, each part has a node that decides, under the same term perhaps; once
    they hear each other the senior one begins a higher term, which all follow."""

    def __init__(self, own: Seniority) -> None:
        self.own = own
        self.term = 0
        """The highest term that was heard of."""
        self.placer = ""
        """The node whose term it is, by its id: the one that was heard of first."""
        self.senior = own
        """The most senior node that is heard or heard of."""
        self.deciding = False

    def __repr__(self) -> str:
        return f"<Election term {self.term} of {self.placer or 'none'}, deciding: {self.deciding}>"

    def follows(self, term: int, placer: str) -> bool:
        """Takes in whose word comes. Returns whether it is to be followed: no higher term was heard of, and
        no other node's of the same."""
        if term > self.term:
            self.term, self.placer = term, placer
            self.deciding = self.deciding and placer == self.own.id
        return (term, placer) == (self.term, self.placer)

    def look(self, others: Iterable[Standing], *, leaving: bool) -> bool:
        """Takes in what nodes say that are heard now. Returns whether this node begins a term with this, and
        so has to begin anew what it decides by."""
        said = [*others]
        eligible = [each.node for each in said if not each.leaving]
        eligible += [each.hears for each in said if each.hears is not None]
        gone = {each.node for each in said if each.leaving}
        eligible = [each for each in eligible if each not in gone and each != self.own]
        self.senior = min(eligible, default=self.own) if leaving else min([*eligible, self.own])
        contested = any(each.term == self.term and each.placer != self.placer for each in said)
        for each in said:
            self.follows(each.term, each.placer)
        if leaving or self.senior != self.own:
            self.deciding = False
            return False
        if self.deciding and self.placer == self.own.id and not contested:
            return False
        self.term, self.placer, self.deciding = self.term + 1, self.own.id, True
        return True
