"""A node of the simulated cluster: two tiers, each least recently used first out, and one load at a time."""

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeVar

from cluster.simulator.scenario import Scenario
from memory_tiers.tiers import Tier

_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class OpenRequest:
    """A request that a node was given. ``starts``: when its answer begins, if the node lives."""

    asked: float
    expert: str
    starts: float = 0.0
    ends: float = 0.0


class FleetNode:
    """A node: its copies, and when it is free. It answers as gateways think that it does: residency is
    decided when a request comes, and what it waits for is known then."""

    def __init__(self, name: str, scenario: Scenario) -> None:
        self.name = name
        self.up = True
        self._scenario = scenario
        self._device_fits = scenario.facts.device_bytes // scenario.expert_bytes
        self._host_fits = scenario.facts.host_bytes // scenario.expert_bytes
        self.run, self.number, self._now = 1, 0, 0.0
        self.loads = self._answers = 0
        self.changed = True
        """Whether it holds other experts than its last snapshot said."""
        self._said: tuple[float, float] = (-1.0, 0.0)
        self._empty(0.0)

    def _empty(self, now: float) -> None:
        self.device: OrderedDict[str, float] = OrderedDict()
        """When each expert is on the device."""
        self.host: OrderedDict[str, None] = OrderedDict()
        self._loading_until = now
        self._slots = [now] * self._scenario.streams
        self._open: list[tuple[float, int, OpenRequest]] = []

    def tier(self, expert: str) -> Tier:
        return "device" if expert in self.device else "host" if expert in self.host else "disk"

    def copies(self) -> dict[str, Tier]:
        held: dict[str, Tier] = dict.fromkeys(self.host, "host")
        return held | dict.fromkeys(self.device, "device")

    def queue_s(self, now: float) -> float:
        """Returns the seconds until an answer could begin, as of the latest heartbeat."""
        if now - self._said[0] >= 0.5:
            self._said = (now, max(0.0, self._slots[0] - now))
        return self._said[1]

    def loading_s(self, expert: str, now: float) -> float:
        """Returns the seconds until it could begin to load ``expert``; 0 where it need not."""
        return 0.0 if expert in self.device else max(0.0, self._loading_until - now)

    def keep(self, expert: str) -> None:
        """Brings the expert to host memory."""
        self._use(self.host, expert, None, self._host_fits)

    def bring(self, expert: str, seconds: float, now: float) -> None:
        """Brings the expert to the device, after what is being loaded."""
        self._now = now
        if expert in self.device:
            return
        self._loading_until = max(now, self._loading_until) + seconds
        self.loads += 1
        self.keep(expert)
        self._use(self.device, expert, self._loading_until, self._device_fits)

    def drop(self, expert: str, tier: Tier) -> None:
        self.device.pop(expert, None)
        if tier == "host":
            self.host.pop(expert, None)
        self.changed = True

    def answer(self, request: OpenRequest, now: float) -> None:
        """Answers a request for an expert that is on the device or on its way there."""
        self.device.move_to_end(request.expert)
        request.starts = max(now, self.device[request.expert], heapq.heappop(self._slots))
        request.ends = request.starts + self._scenario.answer_s
        heapq.heappush(self._slots, request.ends)
        self._answers += 1
        heapq.heappush(self._open, (request.ends, self._answers, request))

    def under_way(self, now: float) -> int:
        """Counts the requests that it was given and has not answered."""
        while self._open and self._open[0][0] <= now:
            heapq.heappop(self._open)
        return len(self._open)

    def lose(self, now: float) -> list[OpenRequest]:
        """Ends the node, and returns what it has not answered in full."""
        cut = [request for ends, _, request in sorted(self._open, key=_order) if ends > now]
        self.up = False
        self._empty(now)
        return cut

    def come_back(self, now: float) -> None:
        self.up, self.changed = True, True
        self.run, self.number = self.run + 1, 0
        self._empty(now)

    def _use(self, tier: OrderedDict[str, _T], expert: str, value: _T, fits: int) -> None:
        """Puts the expert into the tier as the one used last, in place of those used longest ago."""
        self.changed = self.changed or expert not in tier
        tier[expert] = value
        tier.move_to_end(expert)
        while len(tier) > fits:
            del tier[next((name for name in tier if self._may_leave(name)), next(iter(tier)))]

    def _may_leave(self, expert: str) -> bool:
        """Whether the expert is not on its way to the device."""
        return self.device.get(expert, 0.0) <= self._now


def _order(each: tuple[float, int, OpenRequest]) -> int:
    return each[1]
