"""Experts as the tiers name them: once for each engine of their family."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from experts.engines.engine import Engine
from experts.spec import Expert
from memory_tiers.members import Family
from memory_tiers.move_costs import MoveCosts
from memory_tiers.replicas import family_of, replica_name


def families_of(engines: Iterable[Engine], among: Collection[str]) -> list[Family]:
    """Describes ``engines``; ``among``: the names of all engines."""
    found = []
    for engine in engines:
        family = family_of(engine.family, among)
        found.append(Family.of(engine, family if family != engine.family else ""))
    return found


def named_by_engine(experts: Iterable[Expert], engines: Collection[str]) -> dict[str, Expert]:
    """Maps the name of each expert on each of ``engines`` to the expert, whose ``family`` is then the name of
    that engine."""
    serving: dict[str, list[str]] = {}
    for engine in engines:
        serving.setdefault(family_of(engine, engines), []).append(engine)
    return {
        replica_name(expert.name, number): replace(expert, family=engine)
        for expert in experts
        for number, engine in enumerate(serving.get(expert.family, ()))
    }


def wake_seconds(family: str, engines: Mapping[str, Engine], costs: MoveCosts) -> float:
    """Estimates the seconds until an engine of ``family`` is awake; 0 where one is, or none was measured."""
    names = [name for name in engines if family_of(name, engines) == family]
    asleep = [name for name in names if engines[name].state == "asleep"]
    return min(map(costs.wake, asleep)) if asleep and len(asleep) == len(names) else 0.0
