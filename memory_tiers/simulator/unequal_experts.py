"""A trace over experts of different sizes, served by the gateway's own policy."""

from collections.abc import Mapping, Sequence

from memory_tiers.errors import SimulationImpossible
from memory_tiers.members import Family, Member
from memory_tiers.simulator.figures import Figures, figures_of
from memory_tiers.simulator.profiles import Profile
from memory_tiers.simulator.simulation import FAMILY, Node, Simulation
from memory_tiers.simulator.trace import Request
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import TiersConfig


def serve(
    profile: Profile,
    sizes: Mapping[str, int],
    trace: Sequence[Request],
    *,
    tokens: int = 100,
    streams: int = 64,
    overlap: bool = True,
) -> Figures:
    """Has the ``cost`` policy serve the trace on a warm node. ``sizes``: bytes of each expert. Raises
    SimulationImpossible where the largest does not fit on the device."""
    largest = max(sizes.values())
    if largest > profile.device:
        raise SimulationImpossible(
            f"an expert of {largest:,} bytes does not fit on {profile.name}'s device of {profile.device:,}"
        )
    rate = 1 / profile.switch_seconds(1)
    node = Node(
        expert_bytes=largest,
        load_bytes_per_s=rate,
        disk_bytes_per_s=profile.disk_bytes_per_s,
        answer_s=tokens * largest / profile.memory_bytes_per_s,
        streams=streams,
        overlap=overlap,
        sizes=dict(sizes),
    )
    config = TiersConfig(device=profile.device, host=profile.host, max_queue=len(trace), policy="cost")
    members = [Member(name, FAMILY, size) for name, size in sizes.items()]
    simulation = Simulation(TierState(config, members, [Family(FAMILY, None)]), node)
    asked = {request.expert: 0 for request in trace}
    for request in trace:
        asked[request.expert] += 1
    simulation.warm_up(sorted(asked, key=lambda name: asked[name]))
    return figures_of(simulation.run(trace), largest / rate)
