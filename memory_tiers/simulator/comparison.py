"""One trace on one node under each policy, and the figures of what became of it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from memory_tiers.errors import SimulationImpossible
from memory_tiers.events import Family, Member
from memory_tiers.simulator.belady import Belady, fewest_moves
from memory_tiers.simulator.fifo_swapper import FifoSwapper
from memory_tiers.simulator.profiles import Profile
from memory_tiers.simulator.simulation import FAMILY, Node, Simulation, TraceResult
from memory_tiers.simulator.trace import Request
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import TiersConfig

Rival = Literal["lru", "cost", "belady", "fifo"]
"""``lru`` and ``cost``: the policies of ``tiers.policy``. ``belady``: the same tiers, knowing what will come.
``fifo``: a swapper that behaves like llama-swap."""
RIVALS: tuple[Rival, ...] = get_args(Rival)
RivalProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is simulated. ``links``: how many lead to the device, those that were published when None.
    ``overlap``: the engine computes while an expert is loaded. ``restart``: each load starts a process
    instead of changing the weights of a running one. ``tokens``: of an answer whose request does not say how
    long it takes. ``streams``: answers computed at once."""

    profile: Profile
    experts: tuple[str, ...]
    expert_bytes: int
    links: int | None = None
    overlap: bool = True
    restart: bool = False
    tokens: int = 100
    streams: int = 64

    @property
    def device_fits(self) -> int:
        """Experts."""
        return self.profile.device // self.expert_bytes

    @property
    def host_fits(self) -> int:
        return self.profile.host // self.expert_bytes

    @property
    def switch_seconds(self) -> float:
        """What one expert takes from the host to the device."""
        return self.profile.switch_seconds(self.expert_bytes, self.links)

    @property
    def node(self) -> Node:
        profile = self.profile
        return Node(
            expert_bytes=self.expert_bytes,
            load_bytes_per_s=self.expert_bytes / self.switch_seconds,
            disk_bytes_per_s=profile.disk_bytes_per_s,
            answer_s=self.tokens * self.expert_bytes / profile.memory_bytes_per_s,
            streams=self.streams,
            overlap=self.overlap,
            start_s=profile.start_s if self.restart else 0.0,
        )

    def check(self) -> None:
        """Raises SimulationImpossible."""
        if self.links is not None and not 1 <= self.links <= self.profile.links:
            raise SimulationImpossible(
                f"{self.profile.name} has {self.profile.links} links, not {self.links}"
            )
        if self.device_fits < 1:
            raise SimulationImpossible(
                f"an expert of {self.expert_bytes:,} bytes does not fit on {self.profile.name}'s device of "
                f"{self.profile.device:,}"
            )


@dataclass(frozen=True, slots=True)
class Spread:
    p50: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one rival. ``hit_rate``: requests whose expert was on the device and free for them when they came.
    ``moves``: loads to the device. ``staged``: reads from disk to the host. ``switches``: answers that began
    for another expert than the one before. ``wait_s``: until the lease, ``latency_s``: until the answer."""

    requests: int
    rejected: int
    hit_rate: float
    goodput_per_s: float
    """Answers by the time from the first request to the last answer."""
    moves: int
    staged: int
    switches: int
    bytes_moved: int
    latency_s: Spread
    wait_s: Spread
    switch_seconds: float
    """The profile's: one expert from the host to the device."""


@dataclass(frozen=True, slots=True)
class Comparison:
    scenario: Scenario
    fewest_moves: int
    """Belady's bound for serving in the order of arrival."""
    figures: dict[Rival, Figures]

    def json(self) -> dict[str, Any]:
        scenario = self.scenario
        profile = scenario.profile
        return {
            "profile": profile.model_dump(mode="json"),
            "experts": len(scenario.experts),
            "expert_bytes": scenario.expert_bytes,
            "device_fits": scenario.device_fits,
            "host_fits": scenario.host_fits,
            "links": scenario.links or profile.published_links or profile.links,
            "overlap": scenario.overlap,
            "restart": scenario.restart,
            "answer_s": scenario.node.answer_s,
            "switch_seconds": scenario.switch_seconds,
            "switch_seconds_all_links": profile.switch_seconds(scenario.expert_bytes, profile.links),
            "fewest_moves": self.fewest_moves,
            "policies": {rival: asdict(figures) for rival, figures in self.figures.items()},
        }


def compare(
    scenario: Scenario,
    trace: Sequence[Request],
    rivals: Sequence[Rival],
    progress: RivalProgress = lambda stage, done, total: None,
) -> Comparison:
    """Each rival serves the whole trace, from a device and a host that its warm-up has filled. Raises
    SimulationImpossible."""
    scenario.check()
    arrivals = [request.expert for request in trace]
    figures: dict[Rival, Figures] = {}
    for number, rival in enumerate(rivals):

        def tell(done: int, rival: Rival = rival, before: int = number * len(trace)) -> None:
            progress(rival, before + done, len(rivals) * len(trace))

        tell(0)
        simulation = _simulation(scenario, rival, arrivals)
        fit = max(scenario.device_fits, scenario.host_fits)
        simulation.warm_up(scenario.experts[:fit][::-1])
        figures[rival] = _figures(simulation.run(trace, tell), scenario)
    return Comparison(scenario, fewest_moves(arrivals, scenario.device_fits), figures)


def _simulation(scenario: Scenario, rival: Rival, arrivals: Sequence[str]) -> Simulation:
    if rival == "fifo":
        return Simulation(FifoSwapper(scenario.device_fits, scenario.host_fits), scenario.node)
    config = TiersConfig(
        device=scenario.profile.device,
        host=scenario.profile.host,
        max_queue=len(arrivals),
        policy="cost" if rival == "belady" else rival,
    )
    members = [Member(name, FAMILY, scenario.expert_bytes) for name in scenario.experts]
    families = [Family(FAMILY, None)]
    if rival == "belady":
        belady = Belady(arrivals)
        return Simulation(TierState(config, members, families, belady), scenario.node, belady.arriving)
    return Simulation(TierState(config, members, families), scenario.node)


def _figures(result: TraceResult, scenario: Scenario) -> Figures:
    served = result.served
    return Figures(
        requests=len(served) + result.rejected,
        rejected=result.rejected,
        hit_rate=sum(each.hit for each in served) / max(1, len(served)),
        goodput_per_s=len(served) / result.seconds if result.seconds else 0.0,
        moves=result.moves,
        staged=result.staged,
        switches=result.switches,
        bytes_moved=result.bytes_moved,
        latency_s=_spread([each.latency_s for each in served]),
        wait_s=_spread([each.wait_s for each in served]),
        switch_seconds=scenario.switch_seconds,
    )


def _spread(values: Sequence[float]) -> Spread:
    ordered = sorted(values) or [0.0]
    return Spread(_percentile(ordered, 0.5), _percentile(ordered, 0.99), ordered[-1])


def _percentile(ordered: Sequence[float], share: float) -> float:
    """Between two values it is interpolated."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
