"""``coe cluster simulate`` and ``coe cluster replay``: the placement without nodes."""

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from server.cli.arguments import Parent, add_verb, count, number, size
from server.cli.output import console, show_replay, write_json
from server.cli.tables import table

if TYPE_CHECKING:
    from cluster.simulator.fleet import FleetFigures

PLACEMENTS = ("random", "consistent-hash", "ours")


def add_to(cluster: Parent) -> None:
    replayed = add_verb(
        cluster, "replay", replay_placement, "feed a recorded log of a placement to it again", config=False
    )
    replayed.add_argument("log", type=Path, help="what a placement's event log wrote")
    made = add_verb(
        cluster, "simulate", simulate, "where experts would be on many nodes, beside other ways", config=False
    )
    made.add_argument("--nodes", type=count, default=100, help="how many")
    made.add_argument("--experts", type=count, default=1000, help="how many")
    made.add_argument("--expert-size", type=size, default=size("13.5GB"), help="bytes of each")
    made.add_argument("--device", type=size, default=size("54GB"), help="a node's device memory for weights")
    made.add_argument("--host", type=size, default=size("324GB"), help="a node's host memory for experts")
    made.add_argument("--host-rate", type=size, default=size("50GB"), help="bytes/s from host to device")
    made.add_argument("--network-rate", type=size, default=size("10GB"), help="bytes/s from another node")
    made.add_argument("--disk-rate", type=size, default=size("3GB"), help="bytes/s from disk")
    made.add_argument("--rate", type=number, default=100.0, help="requests a second over all nodes")
    made.add_argument("--seconds", type=number, default=120.0, help="how long, without the warm-up")
    made.add_argument("--warm-up", type=number, default=60.0, help="seconds before, which are not counted")
    made.add_argument("--skew", type=number, default=1.0, help="Zipf's exponent")
    made.add_argument("--shift", type=number, default=30.0, help="seconds until others are asked for most")
    made.add_argument("--losses", type=float, default=2.0, help="nodes lost in a minute, each for 10 s")
    made.add_argument("--streams", type=count, default=64, help="answers that a node computes at once")
    made.add_argument("--answer", type=number, default=2.0, help="seconds of an answer")
    made.add_argument("--seed", type=int, default=0, help="same seed, same requests")
    made.add_argument(
        "--placement",
        choices=PLACEMENTS,
        nargs="+",
        default=list(PLACEMENTS),
        help=f"some of {', '.join(PLACEMENTS)}",
    )
    made.add_argument(
        "--event-log", type=Path, metavar="FILE", help="write our placement's events there, to be replayed"
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")


def replay_placement(options: argparse.Namespace) -> int:
    from cluster.event_log import replayed

    return show_replay(options.log, replayed(options.log))


def simulate(options: argparse.Namespace) -> int:
    from cluster.placement.events import NodeFacts
    from cluster.simulator.fleet import Fleet
    from cluster.simulator.scenario import Scenario
    from server.cli.progress import Bars

    facts = NodeFacts(
        options.device, options.host, options.host_rate, options.network_rate, options.disk_rate
    )
    scenario = Scenario(
        nodes=options.nodes,
        experts=options.experts,
        expert_bytes=options.expert_size,
        facts=facts,
        rate=options.rate,
        seconds=options.warm_up + options.seconds,
        warm_up_s=options.warm_up,
        skew=options.skew,
        shift_s=options.shift,
        losses=options.losses,
        streams=options.streams,
        answer_s=options.answer,
        seed=options.seed,
    )
    scenario.check()
    found = {}
    with Bars() as bars:
        for name in options.placement:
            report = functools.partial(_report, bars.of(name))
            found[name] = Fleet(scenario, name, options.event_log).run(report)
    _show(found)
    report_json = {"nodes": options.nodes, "experts": options.experts, "rate": options.rate}
    write_json(
        options.json, report_json | {"placements": {name: each.json() for name, each in found.items()}}
    )
    return 0


def _report(bar: Callable[[str, int, int], None], share: float) -> None:
    bar("simulate", round(100 * share), 100)


def _show(found: "dict[str, FleetFigures]") -> None:
    numbers = ("requests", "wait p50", "wait p99", "loads", "from nodes", "from disk", "cut", "asked again")
    shown = table("placement", *numbers, numbers=numbers)
    for name, each in found.items():
        shown.add_row(
            name,
            f"{each.requests:,}",
            f"{each.wait_p50_s:.3f} s",
            f"{each.wait_p99_s:.3f} s",
            f"{each.loads:,}",
            f"{each.peer_bytes / 1e12:,.2f} TB",
            f"{each.disk_bytes / 1e12:,.2f} TB",
            f"{each.cut:,}",
            f"{each.asked_again:,}",
        )
    out = console()
    out.print(shown)
    for each in found.values():
        if each.events:
            out.print(
                f"the placement decided {each.events:,} events, in {each.event_us_mean:.0f} us each on "
                f"average, p99 {each.event_us_p99:.0f} us, at most {each.event_us_most / 1e3:.1f} ms"
            )
