"""The simulated cluster: requests go to nodes, nodes are lost, and what moved and waited is counted."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path

from cluster.placement.actions import Unwant, Want
from cluster.simulator.fleet_node import FleetNode, OpenRequest
from cluster.simulator.placements import PLACEMENTS, Ours, Placement
from cluster.simulator.scenario import Scenario, outages, requests


@dataclass(slots=True)
class FleetFigures:
    """The result of a placement. ``loads``: to a device; ``peer_bytes``: over the network from another node's
    memory; ``cut``: streams under way that ended with their node; ``asked_again``: requests that had not
    begun and went elsewhere; ``event_us``: processor time that the placement's state took for an
    event."""

    requests: int = 0
    wait_p50_s: float = 0.0
    wait_p99_s: float = 0.0
    wait_mean_s: float = 0.0
    loads: int = 0
    peer_bytes: int = 0
    disk_bytes: int = 0
    cut: int = 0
    asked_again: int = 0
    events: int = 0
    event_us_mean: float = 0.0
    event_us_p99: float = 0.0
    event_us_most: float = 0.0

    def json(self) -> dict[str, float]:
        return asdict(self)


@dataclass(slots=True)
class Fleet:
    """All nodes under one placement, from the first request to the last."""

    scenario: Scenario
    placement_name: str
    event_log: Path | None = None
    """File of our placement's events, to be replayed."""
    nodes: dict[str, FleetNode] = field(default_factory=dict)
    figures: FleetFigures = field(default_factory=FleetFigures)
    _holders: dict[str, int] = field(default_factory=dict)
    _waits: list[OpenRequest] = field(default_factory=list)
    _now: float = 0.0
    _loads: int = 0

    def run(self, progress: Callable[[float], None] = lambda share: None) -> FleetFigures:
        """Runs the scenario. ``progress`` is told the share that is done. Raises SimulationImpossible,
        LogUnwritable."""
        scenario = self.scenario
        scenario.check()
        self.nodes = {f"n{number}": FleetNode(f"n{number}", scenario) for number in range(scenario.nodes)}
        placement = PLACEMENTS[self.placement_name](scenario, self.nodes, self._obey)
        if isinstance(placement, Ours) and self.event_log is not None:
            with closing(placement.record(self.event_log)):
                return self._play(placement, progress)
        return self._play(placement, progress)

    def _play(self, placement: Placement, progress: Callable[[float], None]) -> FleetFigures:
        scenario = self.scenario
        away = sorted(
            [(each.at, False, each.node) for each in outages(scenario)]
            + [(each.back, True, each.node) for each in outages(scenario)]
        )
        for number, request in zip(count(1), requests(scenario), strict=False):
            while away and away[0][0] <= request.at:
                at, back, node = away.pop(0)
                self._change(placement, self.nodes[f"n{node}"], at, back)
            if self._now < scenario.warm_up_s <= request.at:
                self._start_counting()
            self._now = request.at
            placement.until(request.at)
            self._ask(placement, OpenRequest(request.at, request.expert))
            if number % 1000 == 0:
                progress(request.at / scenario.seconds)
        return self._counted(placement)

    def _change(self, placement: Placement, node: FleetNode, at: float, back: bool) -> None:
        self._now = at
        if back:
            node.come_back(at)
            return
        placement.until(at)
        cut = node.lose(at)
        placement.lost(node, at)
        for request in cut:
            if request.starts > at:
                self.figures.asked_again += 1
                self._ask(placement, request)
            else:
                self.figures.cut += 1

    def _ask(self, placement: Placement, request: OpenRequest) -> None:
        node = placement.node_for(request.expert, self._now)
        self._bring(node, request.expert)
        node.answer(request, self._now)
        if request.asked == self._now:
            self._waits.append(request)

    def _obey(self, order: Want | Unwant) -> None:
        node = self.nodes[order.node]
        match order:
            case Unwant(_, expert, tier):
                node.drop(expert, tier)
            case Want(_, expert, "device"):
                self._bring(node, expert)
            case Want(_, expert):
                self._transfer(node, expert)
                node.keep(expert)

    def _bring(self, node: FleetNode, expert: str) -> None:
        if expert in node.device:
            return
        tier, scenario = node.tier(expert), self.scenario
        from_peer = self._transfer(node, expert)
        seconds = scenario.facts.seconds(scenario.expert_bytes, tier, from_peer=from_peer)
        node.bring(expert, seconds, self._now)

    def _transfer(self, node: FleetNode, expert: str) -> bool:
        """Counts the bytes of a copy that the node does not have. True: they come from another's memory."""
        if node.tier(expert) != "disk":
            return False
        facts, size = self.scenario.facts, self.scenario.expert_bytes
        from_peer = facts.peer_bytes_per_s > facts.disk_bytes_per_s and self._held(expert)
        if from_peer:
            self.figures.peer_bytes += size
        else:
            self.figures.disk_bytes += size
        return from_peer

    def _held(self, expert: str) -> bool:
        """Whether some node's memory has it. The one found last is asked first."""
        names = [*self.nodes]
        hint = self._holders.get(expert, 0)
        for step in range(len(names)):
            place = (hint + step) % len(names)
            if expert in self.nodes[names[place]].host:
                self._holders[expert] = place
                return True
        return False

    def _start_counting(self) -> None:
        self.figures = FleetFigures()
        self._waits.clear()
        self._loads = sum(node.loads for node in self.nodes.values())

    def _counted(self, placement: Placement) -> FleetFigures:
        figures = self.figures
        waits = sorted(request.starts - request.asked for request in self._waits)
        figures.requests = len(waits)
        if waits:
            figures.wait_mean_s = sum(waits) / len(waits)
            figures.wait_p50_s, figures.wait_p99_s = _quantile(waits, 0.5), _quantile(waits, 0.99)
        figures.loads = sum(node.loads for node in self.nodes.values()) - self._loads
        if isinstance(placement, Ours) and placement.event_s:
            taken = sorted(placement.event_s)
            figures.events = len(taken)
            figures.event_us_mean = 1e6 * sum(taken) / len(taken)
            figures.event_us_p99, figures.event_us_most = 1e6 * _quantile(taken, 0.99), 1e6 * taken[-1]
        return figures


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
