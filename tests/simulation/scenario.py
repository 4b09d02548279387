"""Draws a run from its seed: the machine's memory, the requests, and the faults."""

import random
from dataclasses import dataclass
from typing import Literal

EXPERTS = ("general", "math", "coding", "medicine", "law")
MODELS = (*EXPERTS, "coe", "no-such-expert")
KEYS = ("first", "second", "narrow", "wrong")
"""Names of API keys. ``narrow`` has small limits; the last one is no key of the gateway's."""
PROMPTS = ("What is the integral of x squared?", "Sort a list in Python.", "What is a tort?", "Hello there.")
EXPERT_BYTES = 1100
"""A little more than the weights of one of the simulated experts."""

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses"]
ENDPOINTS: tuple[Endpoint, ...] = ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses")
Behaviour = Literal["reads", "leaves", "resets", "reads slowly", "sends half", "breaks off"]
FaultKind = Literal[
    "engine dies", "load fails", "load hangs", "engine is silent", "start fails", "disk fails", "clock jumps",
    "reload", "reload is refused", "demote", "load", "pin", "unpin", "cancel",
]  # fmt: skip
BEHAVIOURS: tuple[Behaviour, ...] = (
    "reads", "reads", "reads", "reads", "leaves", "resets", "reads slowly", "sends half", "breaks off",
)  # fmt: skip
FAULTS: tuple[FaultKind, ...] = (
    "engine dies", "load fails", "load hangs", "engine is silent", "start fails", "disk fails", "clock jumps",
    "reload", "reload is refused", "demote", "load", "pin", "unpin", "cancel",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of one client. Times are seconds; ``after``: bytes that it reads, or seconds that it stays,
    before it goes."""

    number: int
    at: float
    endpoint: Endpoint
    model: str
    key: str
    prompt: str
    stream: bool
    counted: bool
    tokens: int
    priority: str | None
    fail_fast: bool
    timeout_s: float | None
    behaviour: Behaviour
    after: float
    pieces: int

    @property
    def stays(self) -> bool:
        """The client reads its answer to the end."""
        return self.behaviour in ("reads", "reads slowly")


@dataclass(frozen=True, slots=True)
class Fault:
    at: float
    kind: FaultKind
    expert: str
    amount: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """``device`` and ``host``: how many experts each holds."""

    seed: int
    device: int
    host: int
    max_wait_s: float
    min_residency_s: float | None
    ttl_s: float | None
    policy: Literal["lru", "cost"]
    max_queue: int
    tokens_per_s: float
    load_s: float
    stall_timeout_s: float
    breaker_failures: int
    requests: int
    asks: tuple[Ask, ...]
    faults: tuple[Fault, ...]

    @classmethod
    def of(cls, seed: int) -> "Scenario":
        chance = random.Random(seed)
        span_s = chance.choice((0.05, 1.0, 20.0))
        asks = tuple(_ask(number, chance, span_s) for number in range(chance.randint(3, 24)))
        calm = chance.random() < 0.25
        faults = () if calm else tuple(_fault(chance, span_s) for _ in range(chance.randint(1, 6)))
        return cls(
            seed=seed,
            device=chance.randint(1, 4),
            host=chance.randint(0, 5),
            max_wait_s=chance.choice((0.5, 5.0, 30.0)),
            min_residency_s=chance.choice((None, 0.0, 1.0)),
            ttl_s=chance.choice((None, None, 2.0)),
            policy=chance.choice(("lru", "cost")),
            max_queue=chance.choice((2, 1024, 1024)),
            tokens_per_s=chance.choice((20.0, 200.0, 2000.0)),
            load_s=chance.choice((0.001, 0.1, 2.0)),
            stall_timeout_s=chance.choice((3.0, 30.0)),
            breaker_failures=chance.choice((0, 2, 3)),
            requests=chance.choice((4, 1024, 1024)),
            asks=asks,
            faults=tuple(sorted(faults, key=lambda fault: fault.at)),
        )

    @property
    def calm(self) -> bool:
        """Nothing goes wrong and everybody stays: then every token is accounted for."""
        return not self.faults and all(ask.stays for ask in self.asks)


def _ask(number: int, chance: random.Random, span_s: float) -> Ask:
    return Ask(
        number=number,
        at=chance.uniform(0, span_s),
        endpoint=chance.choices(ENDPOINTS, (6, 1, 2, 2))[0],
        model=chance.choices(MODELS, (3, 3, 3, 2, 2, 6, 1))[0],
        key=chance.choices(KEYS, (6, 6, 2, 1))[0],
        prompt=f"{chance.choice(PROMPTS)} {'word ' * chance.choice((0, 3, 200))}",
        stream=chance.random() < 0.6,
        counted=chance.random() < 0.5,
        tokens=chance.choice((1, 4, 20, 64)),
        priority=chance.choice((None, None, "high", "low")),
        fail_fast=chance.random() < 0.1,
        timeout_s=chance.choice((None, None, None, 0.5, 10.0)),
        behaviour=chance.choice(BEHAVIOURS),
        after=chance.choice((0.0, 0.01, 0.5, 3.0)) if chance.random() < 0.5 else chance.randint(0, 4000),
        pieces=chance.choice((1, 1, 2, 7)),
    )


def _fault(chance: random.Random, span_s: float) -> Fault:
    return Fault(
        at=chance.uniform(0, span_s * 1.5),
        kind=chance.choice(FAULTS),
        expert=chance.choice(EXPERTS),
        amount=chance.choice((0.5, 20.0, 400.0)),
    )
