"""Keeps experts in the order in which they should leave a tier, one change at a time."""

import heapq
from collections.abc import Callable

from memory_tiers.state.records.expert_record import ExpertRecord
from memory_tiers.state.records.policy import Policy
from memory_tiers.tiers import Tier


class Ranking:
    """Is a heap whose outdated entries are skipped. A change is only noted, as there are many from one
    eviction to the next; finding the first costs O(log n) for each expert that has changed, and a step for
    each that is passed over."""

    def __init__(self, policy: Policy, tier: Tier) -> None:
        self._policy = policy
        self._tier = tier
        self._heap: list[tuple[float, int, ExpertRecord]] = []
        self._entries: dict[str, int] = {}
        """The number of the heap entry that counts, for each member."""
        self._number = 0
        self._changed: dict[str, ExpertRecord] = {}
        """Members whose heap entry is outdated or missing."""

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, expert: ExpertRecord) -> bool:
        return expert.name in self._entries

    def put(self, expert: ExpertRecord) -> None:
        """Adds the expert, or ranks it anew."""
        self._number += 1
        self._entries[expert.name] = self._number
        self._changed[expert.name] = expert

    def keep(self, expert: ExpertRecord, member: bool) -> None:
        """Puts the expert in or takes it out."""
        if member:
            self.put(expert)
        elif self._entries.pop(expert.name, None) is not None:
            self._changed.pop(expert.name, None)

    def first(self, fits: Callable[[ExpertRecord], bool]) -> ExpertRecord | None:
        """Finds the expert that should leave first among those that fit; None where none fits."""
        self._rank()
        passed = []
        found = None
        while self._heap and found is None:
            entry = self._heap[0]
            if self._counts(entry) and fits(entry[2]):
                found = entry[2]
            else:
                heapq.heappop(self._heap)
                if self._counts(entry):
                    passed.append(entry)
        for entry in passed:
            heapq.heappush(self._heap, entry)
        return found

    def _rank(self) -> None:
        for name, expert in self._changed.items():
            heapq.heappush(self._heap, (self._policy.rank(expert, self._tier), self._entries[name], expert))
        self._changed.clear()
        if len(self._heap) > 2 * len(self._entries) + 64:
            self._heap = [entry for entry in self._heap if self._counts(entry)]
            heapq.heapify(self._heap)

    def _counts(self, entry: tuple[float, int, ExpertRecord]) -> bool:
        return self._entries.get(entry[2].name) == entry[1]

    def __repr__(self) -> str:
        return f"<Ranking of {len(self)}>"
