"""Remembers what the placement told nodes to move, and what became of it."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from cluster.placement.actions import Unwant, Want
from memory_tiers.tiers import Tier
from server.peers.wire import MoveNote

KEPT = 20
"""Moves that are remembered after their end."""


@dataclass(frozen=True, slots=True)
class Move:
    """A move that was ordered at ``began``, in seconds of a clock."""

    note: MoveNote
    began: float


class Moves:
    """Moves under way, and the latest that have ended. ``version`` grows with each change."""

    def __init__(self) -> None:
        self.version = 0
        self._open: dict[tuple[str, str], Move] = {}
        self._ended: deque[MoveNote] = deque(maxlen=KEPT)

    def __repr__(self) -> str:
        return f"<Moves [under way: {len(self._open)}]>"

    def begin(self, action: Want | Unwant, at: float) -> MoveNote:
        """Notes an order, and returns it as it is told."""
        below: dict[Tier, Tier] = {"device": "host", "host": "disk"}
        leaves = isinstance(action, Unwant)
        tier: Tier = below[action.tier] if leaves else action.tier
        source = None if isinstance(action, Unwant) else action.source
        note = MoveNote(
            node=action.node,
            expert=action.expert,
            tier=tier,
            leaves=leaves,
            source=source,
            seconds=0.0,
            outcome="",
        )
        self._open[action.node, action.expert] = Move(note, at)
        self.version += 1
        return note

    def fail(self, node: str, expert: str, why: str, at: float) -> None:
        """Notes that the node does not do it."""
        self._end((node, expert), why, at)

    def end(
        self, under_way: Callable[[str, str], bool], there: Callable[[MoveNote], bool], at: float
    ) -> None:
        """Notes the end of moves that are not ``under_way`` any more: done if the expert is ``there``."""
        for key in [key for key in self._open if not under_way(*key)]:
            self._end(key, "done" if there(self._open[key].note) else "given up", at)

    def notes(self, at: float) -> tuple[MoveNote, ...]:
        """Describes all of them, those under way first, then the latest."""
        under_way = [self._at(move, at) for move in self._open.values()]
        return (*under_way, *reversed(self._ended))

    def _end(self, key: tuple[str, str], outcome: str, at: float) -> None:
        move = self._open.pop(key, None)
        if move is not None:
            self._ended.append(self._at(move, at).model_copy(update={"outcome": outcome}))
            self.version += 1

    def _at(self, move: Move, at: float) -> MoveNote:
        return move.note.model_copy(update={"seconds": at - move.began})
