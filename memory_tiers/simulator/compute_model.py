"""Models how long answers take on a simulated engine whose experts share its time."""

import heapq
from collections import Counter, deque


class ComputeModel:
    """Computes with one expert's weights at a time: reading them once gives each of its answers a token, so
    answers of one expert do not slow each other, and experts with answers under way share the time. At most
    ``streams`` answers run; the others queue."""

    def __init__(self, streams: int) -> None:
        self._streams = streams
        self._at = 0.0
        self._work = 0.0
        """Seconds of computing that an answer which has run since the beginning has got."""
        self._halts = 0
        self._running: list[tuple[float, int, str]] = []
        self._experts: Counter[str] = Counter()
        self._queue: deque[tuple[int, str, float]] = deque()
        self._latest = ""
        self.switches = 0
        """Answers that began for another expert than the answer before."""

    def begin(self, ticket: int, expert: str, seconds: float, at: float) -> None:
        """Begins or queues an answer. ``seconds``: what it takes alone."""
        self._to(at)
        self._queue.append((ticket, expert, seconds))
        self._fill()

    def halt(self, at: float) -> None:
        """Stops computing until ``resume`` was called as often as ``halt``."""
        self._to(at)
        self._halts += 1

    def resume(self, at: float) -> None:
        """Ends one ``halt``."""
        self._to(at)
        self._halts -= 1

    @property
    def next_end(self) -> float:
        """The time when the next answer ends if nothing happens before; infinity: never."""
        if not self._running or self._halts:
            return float("inf")
        return self._at + max(0.0, self._running[0][0] - self._work) * len(self._experts)

    def end(self, at: float) -> int:
        """Ends the answer that is due and returns its ticket."""
        self._to(at)
        self._work, ticket, expert = heapq.heappop(self._running)
        self._experts[expert] -= 1
        if not self._experts[expert]:
            del self._experts[expert]
        self._fill()
        return ticket

    def _to(self, at: float) -> None:
        if self._running and not self._halts:
            self._work += (at - self._at) / len(self._experts)
        self._at = at

    def _fill(self) -> None:
        while self._queue and len(self._running) < self._streams:
            ticket, expert, seconds = self._queue.popleft()
            heapq.heappush(self._running, (self._work + seconds, ticket, expert))
            self._experts[expert] += 1
            self.switches += expert != self._latest
            self._latest = expert
