"""Compares what becomes of one trace on one node under each policy."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from pydantic import ByteSize

from memory_tiers.errors import SimulationImpossible
from memory_tiers.members import Family, Member
from memory_tiers.replicas import replica_name
from memory_tiers.simulator.belady import Belady, fewest_moves
from memory_tiers.simulator.fifo_swapper import FifoSwapper
from memory_tiers.simulator.figures import Figures, figures_of
from memory_tiers.simulator.scenario import Scenario
from memory_tiers.simulator.simulation import FAMILY, Simulation
from memory_tiers.simulator.trace import Request
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import TiersConfig

Rival = Literal["lru", "cost", "belady", "fifo"]
"""``lru`` and ``cost``: the policies of ``tiers.policy``. ``belady``: the same tiers with knowledge of the
future. ``fifo``: a swapper that behaves like llama-swap."""
RIVALS: tuple[Rival, ...] = get_args(Rival)
OF_ONE_ENGINE: tuple[Rival, ...] = ("belady", "fifo")
"""Rivals that know of one engine alone."""
RivalProgress = Callable[[str, int, int], None]
"""Called with the rival, the requests done and the requests in all."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The figures of every rival in one scenario."""

    scenario: Scenario
    fewest_moves: int
    """Belady's bound for serving in the order of arrival."""
    figures: dict[Rival, Figures]

    def json(self) -> dict[str, Any]:
        """Makes the tree that ``--json`` prints."""
        scenario = self.scenario
        profile = scenario.profile
        return {
            "profile": profile.model_dump(mode="json"),
            "experts": len(scenario.experts),
            "expert_bytes": scenario.expert_bytes,
            "device_fits": scenario.device_fits,
            "host_fits": scenario.host_fits,
            "replicas": scenario.replicas,
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
    """Has each rival serve the whole trace, from a device and a host that its warm-up has filled. Raises
    SimulationImpossible."""
    scenario.check()
    alone = [rival for rival in rivals if rival in OF_ONE_ENGINE]
    if alone and scenario.replicas > 1:
        raise SimulationImpossible(f"{alone[0]} serves with one engine, and there are {scenario.replicas}")
    arrivals = [request.expert for request in trace]
    figures: dict[Rival, Figures] = {}
    for number, rival in enumerate(rivals):

        def tell(done: int, rival: Rival = rival, before: int = number * len(trace)) -> None:
            progress(rival, before + done, len(rivals) * len(trace))

        tell(0)
        simulation = _simulation(scenario, rival, arrivals)
        fit = max(scenario.device_fits, scenario.host_fits)
        simulation.warm_up(scenario.experts[:fit][::-1])
        figures[rival] = figures_of(simulation.run(trace, tell), scenario.switch_seconds)
    return Comparison(scenario, fewest_moves(arrivals, scenario.device_fits), figures)


def _simulation(scenario: Scenario, rival: Rival, arrivals: Sequence[str]) -> Simulation:
    if rival == "fifo":
        return Simulation(FifoSwapper(scenario.device_fits, scenario.host_fits), scenario.node)
    config = TiersConfig(
        device=ByteSize(scenario.engine_bytes * scenario.replicas),
        devices={number: ByteSize(scenario.engine_bytes) for number in range(scenario.replicas)},
        host=scenario.profile.host,
        max_queue=len(arrivals),
        policy="cost" if rival == "belady" else rival,
    )
    members = [Member(name, FAMILY, scenario.expert_bytes) for name in scenario.experts]
    families = [
        Family(replica_name(FAMILY, number), None, devices=(number,), replica_of=FAMILY if number else "")
        for number in range(scenario.replicas)
    ]
    if rival == "belady":
        belady = Belady(arrivals)
        return Simulation(TierState(config, members, families, belady), scenario.node, belady.arriving)
    return Simulation(TierState(config, members, families), scenario.node, replicas=scenario.replicas)
