"""Traces of requests for experts: drawn from a seed, built to be hard, or read from a file."""

import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from memory_tiers.errors import SimulationImpossible

Kind = Literal["zipf", "uniform", "adversarial", "round-robin"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``at``: seconds after the trace begins. ``service_s`` None: as long as the profile
    says."""

    at: float
    expert: str
    service_s: float | None = None


def names(count: int) -> tuple[str, ...]:
    """Names ``count`` experts."""
    return tuple(f"expert-{number}" for number in range(1, count + 1))


def experts_of(trace: Sequence[Request]) -> tuple[str, ...]:
    """Lists the experts that are asked for, the most frequent first."""
    return tuple(expert for expert, _ in Counter(request.expert for request in trace).most_common())


def generate(
    kind: Kind, experts: Sequence[str], requests: int, rate: float, seed: int, fits: int, skew: float = 1.0
) -> list[Request]:
    """Draws ``requests`` requests that arrive independently, ``rate`` a second on average. ``fits``: experts
    that the device holds at once. ``skew``: Zipf's exponent."""
    chance = random.Random(seed)
    names = _names(kind, experts, fits, skew, chance)
    at, made = 0.0, []
    for name in itertools.islice(names, requests):
        at += chance.expovariate(rate)
        made.append(Request(at, name))
    return made


def _names(
    kind: Kind, experts: Sequence[str], fits: int, skew: float, chance: random.Random
) -> Iterator[str]:
    match kind:
        case "zipf":
            weights = [*itertools.accumulate((rank + 1) ** -skew for rank in range(len(experts)))]
            return (chance.choices(experts, cum_weights=weights)[0] for _ in itertools.count())
        case "uniform":
            return (chance.choice(experts) for _ in itertools.count())
        case "adversarial":
            return abaacabc(experts[: fits + 1])
        case "round-robin":
            return itertools.cycle(experts[: fits + 1])


def abaacabc(experts: Sequence[str]) -> Iterator[str]:
    """Repeats llama-swap#612 without end: every other request is for the first expert, the others are for
    pairs of the remaining ones, in turn. With three experts it is A B A A C A B C again and again."""
    first, *others = experts
    if not others:
        yield from itertools.repeat(first)
    for number in itertools.count(step=2):
        b, c = others[number % len(others)], others[(number + 1) % len(others)]
        yield from (first, b, first, first, c, first, b, c)


def read(path: Path) -> list[Request]:
    """Reads JSON lines ``{"at": s, "expert": name, "service_s": s}`` (``service_s`` may be absent), or an
    event log of the tiers, whose leases give the seconds. Raises SimulationImpossible naming the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SimulationImpossible(f"trace {path}: {error}") from error
    trees = []
    for number, line in enumerate(lines, 1):
        try:
            trees.append((number, json.loads(line)))
        except ValueError as error:
            if trees and "event" in trees[-1][1] and number == len(lines):
                break  # a log cut off when its process was killed
            raise SimulationImpossible(f"trace {path}, line {number}: not JSON: {error}") from error
    is_log = bool(trees) and isinstance(trees[0][1], dict) and "families" in trees[0][1]
    requests = _requests_in_log(path, trees[1:]) if is_log else [_request(path, *tree) for tree in trees]
    if not requests:
        raise SimulationImpossible(f"trace {path}: no requests in it")
    requests.sort(key=lambda request: request.at)
    began = requests[0].at
    return [Request(each.at - began, each.expert, each.service_s) for each in requests]


def _request(path: Path, number: int, tree: Any) -> Request:
    try:
        service = tree.get("service_s")
        request = Request(float(tree["at"]), str(tree["expert"]), None if service is None else float(service))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        message = f'trace {path}, line {number}: expected {{"at": seconds, "expert": name}}: {error!r}'
        raise SimulationImpossible(message) from error
    if not (0 <= request.at < float("inf") and 0 <= (request.service_s or 0.0) < float("inf")):
        raise SimulationImpossible(f"trace {path}, line {number}: seconds must be finite and not negative")
    return request


def _requests_in_log(path: Path, lines: Sequence[tuple[int, Any]]) -> list[Request]:
    asked: dict[int, tuple[float, str]] = {}
    granted: dict[int, float] = {}
    service: dict[int, float] = {}
    for number, line in lines:
        try:
            event = line["event"]
            if event["type"] == "TicketAsked":
                asked[event["ticket"]] = float(event["at"]), str(event["expert"])
            elif event["type"] == "LeaseReleased":
                service[event["ticket"]] = float(event["at"]) - granted[event["ticket"]]
            for action in line["actions"]:
                if action["type"] == "Grant":
                    granted[action["ticket"]] = float(event["at"])
        except (KeyError, TypeError, ValueError) as error:
            raise SimulationImpossible(f"trace {path}, line {number}: not an event: {error!r}") from error
    return [Request(at, expert, service.get(ticket)) for ticket, (at, expert) in asked.items()]
