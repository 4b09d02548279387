"""The scenario of a simulation: a machine, the experts on it, and how it loads them."""

from dataclasses import dataclass

from memory_tiers.errors import SimulationImpossible
from memory_tiers.simulator.profiles import Profile
from memory_tiers.simulator.simulation import Node


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario. ``links``: how many lead to the device; None: as many as were published.
    ``overlap``: whether the engine computes while an expert is loaded. ``restart``: whether each load starts
    a process instead of changing the weights of a running one. ``tokens``: the length of an answer whose
    request does not say how long it takes. ``streams``: answers computed at once. ``replicas``: engines, each
    with an equal part of the device, its memory's bandwidth and its links."""

    profile: Profile
    experts: tuple[str, ...]
    expert_bytes: int
    links: int | None = None
    overlap: bool = True
    restart: bool = False
    tokens: int = 100
    streams: int = 64
    replicas: int = 1

    @property
    def device_fits(self) -> int:
        """How many experts the device holds, each once."""
        return self.engine_bytes // self.expert_bytes * self.replicas

    @property
    def engine_bytes(self) -> int:
        """Memory of the device that each engine has."""
        return self.profile.device // self.replicas

    @property
    def host_fits(self) -> int:
        """How many experts the host holds."""
        return self.profile.host // self.expert_bytes

    @property
    def switch_seconds(self) -> float:
        """Seconds that one expert takes from the host to the device."""
        if self.replicas == 1:
            return self.profile.switch_seconds(self.expert_bytes, self.links)
        return self.profile.switch_seconds(self.expert_bytes, self.engine_links)

    @property
    def engine_links(self) -> int:
        """Links that lead to each of several engines."""
        return (self.links or self.profile.links) // self.replicas

    @property
    def node(self) -> Node:
        """The seconds that moves and answers take, on each engine of this node."""
        profile = self.profile
        return Node(
            expert_bytes=self.expert_bytes,
            load_bytes_per_s=self.expert_bytes / self.switch_seconds,
            disk_bytes_per_s=profile.disk_bytes_per_s,
            answer_s=self.tokens * self.expert_bytes / (profile.memory_bytes_per_s / self.replicas),
            streams=self.streams,
            overlap=self.overlap,
            start_s=profile.start_s if self.restart else 0.0,
        )

    def check(self) -> None:
        """Checks that the node has the links and room for an expert. Raises SimulationImpossible."""
        if self.links is not None and not 1 <= self.links <= self.profile.links:
            raise SimulationImpossible(
                f"{self.profile.name} has {self.profile.links} links, not {self.links}"
            )
        if self.replicas > (self.links or self.profile.links):
            raise SimulationImpossible(
                f"{self.replicas} engines need a link each, and {self.profile.name} has "
                f"{self.links or self.profile.links}"
            )
        if self.device_fits < 1:
            part = "" if self.replicas == 1 else f"each engine's part of {self.engine_bytes:,} of "
            raise SimulationImpossible(
                f"an expert of {self.expert_bytes:,} bytes does not fit on {part}{self.profile.name}'s "
                f"device of {self.profile.device:,}"
            )
