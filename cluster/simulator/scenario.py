"""The cluster that is simulated, and the requests that come to it."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from cluster.errors import SimulationImpossible
from cluster.placement.events import NodeFacts


@dataclass(frozen=True, slots=True)
class Scenario:
    """``rate``: requests a second over the whole cluster; ``warm_up_s``: what is not counted, from the start
    with empty nodes; ``skew``: Zipf's exponent of the experts' shares; ``shift_s``: seconds after which the
    shares go to other experts; ``losses``: nodes lost in a minute, each for ``away_s``; ``streams``: answers
    that a node computes at once, each in ``answer_s``."""

    nodes: int
    experts: int
    expert_bytes: int
    facts: NodeFacts
    rate: float
    seconds: float
    warm_up_s: float = 0.0
    skew: float = 1.0
    shift_s: float = 30.0
    losses: float = 2.0
    away_s: float = 10.0
    streams: int = 64
    answer_s: float = 2.0
    seed: int = 0

    def check(self) -> None:
        """Raises SimulationImpossible."""
        if self.facts.device_bytes < self.expert_bytes:
            raise SimulationImpossible("no expert fits on a node's device: give it more with --device")
        if self.facts.host_bytes < self.expert_bytes:
            raise SimulationImpossible("no expert fits in a node's host memory: give it more with --host")
        capacity = self.nodes * self.streams / self.answer_s
        if self.rate >= capacity:
            raise SimulationImpossible(
                f"{self.rate:g} requests/s are more than {self.nodes} nodes can answer, {capacity:g}: "
                "lower --rate"
            )


@dataclass(frozen=True, slots=True)
class Request:
    at: float
    expert: str


def requests(scenario: Scenario) -> Iterator[Request]:
    """Yields requests at random times, for experts whose shares change places every ``shift_s``."""
    chance = random.Random(scenario.seed)
    names = [f"e{number}" for number in range(scenario.experts)]
    chance.shuffle(names)
    weights = list(accumulate(1 / rank**scenario.skew for rank in range(1, scenario.experts + 1)))
    at, shift_at = 0.0, scenario.shift_s
    while (at := at + chance.expovariate(scenario.rate)) < scenario.seconds:
        if at >= shift_at:
            shift_at += scenario.shift_s
            hot = max(1, scenario.experts // 50)
            for place in range(hot):  # some of the hottest change places with anyone
                other = chance.randrange(scenario.experts)
                names[place], names[other] = names[other], names[place]
        yield Request(at, chance.choices(names, cum_weights=weights)[0])


@dataclass(frozen=True, slots=True)
class Outage:
    """A node is lost at ``at`` and comes back, empty, at ``back``."""

    node: int
    at: float
    back: float


def outages(scenario: Scenario) -> list[Outage]:
    chance = random.Random(scenario.seed + 1)
    at, found, away = 0.0, [], dict[int, float]()
    while scenario.losses and (at := at + chance.expovariate(scenario.losses / 60)) < scenario.seconds:
        node = chance.randrange(scenario.nodes)
        if away.get(node, 0.0) <= at and scenario.nodes > 1:
            away[node] = at + scenario.away_s
            found.append(Outage(node, at, away[node]))
    return found
