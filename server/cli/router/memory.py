"""Options and tables of maps that mind a machine's memory: ``coe router map --trace``."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory_tiers.tiers import size_of
from server.cli.arguments import number
from server.cli.progress import Bars
from server.config.settings import SettingsError, load

if TYPE_CHECKING:
    from memory_tiers.simulator.profiles import Profile
    from router.artifacts.artifact import Artifact
    from router.mapping.milp import Budgets
    from server.planning.memory_map import SimulatedMap


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds the options that describe a machine and its traffic."""
    group = parser.add_argument_group("memory", "maps are simulated on a machine; --trace asks for it")
    group.add_argument(
        "--trace", type=Path, metavar="FILE", help="requests: JSON lines, or an event log of the tiers"
    )
    group.add_argument(
        "--profile", default="dgx-a100", help="the machine: one that coe tiers simulate knows, or a file"
    )
    group.add_argument(
        "--tiers", type=Path, metavar="CONFIG", help="configuration whose tiers' sizes bound the machine's"
    )
    group.add_argument(
        "--max-wait", type=number, metavar="SECONDS", help="p99 wait for an expert's weights, at most"
    )
    group.add_argument(
        "--bytes-per-parameter", type=number, default=2.0, metavar="N", help="of the weights; 2 by default"
    )
    group.add_argument("--tokens", type=int, default=100, help="tokens of an answer; 100 by default")
    group.add_argument("--seed", type=int, default=0, help="same seed, same figures")


def is_asked(options: argparse.Namespace) -> bool:
    """Says whether maps are to be simulated. Raises SettingsError for options that then mean nothing."""
    if options.trace is None and (options.max_wait is not None or options.tiers is not None):
        raise SettingsError("--max-wait and --tiers need --trace, the requests to simulate")
    return options.trace is not None


def simulated_maps(
    options: argparse.Namespace, artifact: "Artifact", budgets: "Budgets"
) -> "list[SimulatedMap]":
    """Simulates the best maps of an artifact with scores. Raises SettingsError, MappingError,
    SimulationImpossible."""
    from memory_tiers.simulator.trace import read
    from router.mapping.budget_solver import fixed_rows
    from server.planning.memory_map import Machine, candidates, rows_of, simulated

    assert artifact.scores is not None
    machine = Machine(_profile(options), options.bytes_per_parameter, options.tokens)
    table = machine.fitting(artifact.scores)
    for name in sorted({*artifact.scores.experts} - {*table.experts}):
        print(f"left out {name}: its weights do not fit on {machine.profile.name}'s device")
    fixed = fixed_rows(table, artifact.finer, artifact.fixed)
    trace = read(options.trace)
    before = {row: artifact.mapping[row] for row in table.categories}
    rows = rows_of(trace, table, before, options.seed)
    with Bars() as bars:
        return simulated(candidates(table, budgets, fixed), table, machine, trace, rows, bars.of("maps"))


def _profile(options: argparse.Namespace) -> "Profile":
    from memory_tiers.simulator.profile_lookup import profile_of

    profile = profile_of(options.profile)
    if options.tiers is None:
        return profile
    tiers = load(options.tiers).tiers
    given = {"device": tiers.device, "host": tiers.host}
    fixed = {name: size_of(str(size)) for name, size in given.items() if isinstance(size, int)}
    return profile.model_copy(update=fixed)


def lines(maps: "Sequence[SimulatedMap]", chosen: "SimulatedMap | None" = None) -> "list[str]":
    """Writes the surface as a table; ``*`` marks the chosen map."""
    head = "   score  active B   total B   p50 wait   p99 wait   loads  kept"
    rows = [
        f"{'*' if each is chosen else ' '} {100 * each.solution.score:6.2f}  {each.solution.active:8.2f}  "
        f"{each.solution.total:8.2f}  {each.figures.wait_s.p50:7.2f} s  {each.figures.wait_s.p99:7.2f} s  "
        f"{each.figures.moves:6}  {', '.join(each.solution.kept)}"
        for each in maps
    ]
    return [head, *rows]


def tree(maps: "Sequence[SimulatedMap]") -> dict[str, Any]:
    """Makes the tree that ``--json`` writes."""
    return {"maps": [{"map": asdict(each.solution), "figures": asdict(each.figures)} for each in maps]}
