"""``coe tiers simulate`` and ``coe tiers replay``: the tiers without a gateway."""

import argparse
from pathlib import Path
from typing import Any

from memory_tiers.simulator.comparison import OF_ONE_ENGINE, RIVALS
from server.cli.arguments import Parent, add_verb, count, number, rival, size
from server.cli.output import show_replay, write_json
from server.config.settings import SettingsError


def add_to(tiers: Parent) -> None:
    replayed = add_verb(
        tiers, "replay", replay_tiers, "feed a recorded event log to the tiers again", config=False
    )
    replayed.add_argument("log", type=Path, help="what tiers.event_log of a configuration wrote")
    simulate = add_verb(
        tiers, "simulate", simulate_tiers, "what the tiers would do on another machine", config=False
    )
    simulate.add_argument(
        "--profile",
        default="dgx-a100",
        help="sn40l, dgx-a100, dgx-h100, a100, h100, h200, l40s, rtx-4090, this-machine, or a YAML or JSON "
        "file",
    )
    simulate.add_argument("--device", type=size, help="device memory for weights, over the profile's")
    simulate.add_argument("--host", type=size, help="host memory for experts, over the profile's")
    simulate.add_argument(
        "--experts", type=count, default=150, help="how many; a trace's own if it is a file"
    )
    simulate.add_argument("--expert-size", type=size, default=size("13.5GB"), help="bytes of each")
    simulate.add_argument(
        "--trace",
        default="zipf",
        help="zipf, uniform, adversarial (ABAACABC over one more than fit), round-robin (over as many), or a "
        "file: JSON lines or an event log",
    )
    simulate.add_argument("--skew", type=number, default=1.0, help="Zipf's exponent")
    simulate.add_argument("--requests", type=count, default=5000, help="at most so many of a file")
    simulate.add_argument("--rate", type=number, default=5.0, help="requests a second, on average")
    simulate.add_argument("--seed", type=int, default=0, help="same seed, same figures")
    simulate.add_argument(
        "--policy", type=rival, nargs="+", help=f"some of {', '.join(RIVALS)}; with replicas lru and cost"
    )
    simulate.add_argument(
        "--replicas",
        type=count,
        default=1,
        help="engines of the experts' family, each with an equal part of the device and of its links",
    )
    simulate.add_argument(
        "--links", type=count, help="links to the device; as many as the published comparison by default"
    )
    simulate.add_argument(
        "--no-overlap", action="store_true", help="nothing is computed while an expert is loaded"
    )
    simulate.add_argument(
        "--restart", action="store_true", help="each load starts a process, as swappers on GPUs do"
    )
    simulate.add_argument("--tokens", type=count, default=100, help="tokens of an answer")
    simulate.add_argument("--streams", type=count, default=64, help="answers computed at once")
    simulate.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")
    simulate.add_argument("--plot", type=Path, metavar="FILE", help="draw them there as PNG")


def replay_tiers(options: argparse.Namespace) -> int:
    from memory_tiers.driver.event_log import replayed

    return show_replay(options.log, replayed(options.log))


def simulate_tiers(options: argparse.Namespace) -> int:
    import server.cli.tiers.simulation_plot
    from memory_tiers.simulator.comparison import compare
    from server.cli.progress import Bars
    from server.cli.tiers.simulation_tables import show

    for path in (options.json, options.plot):
        if path is not None and not path.absolute().parent.is_dir():
            raise SettingsError(f"{path}: there is no folder {path.absolute().parent}")
    if options.plot is not None:
        server.cli.tiers.simulation_plot.matplotlib()
    scenario, trace = _scenario(options)
    rivals = options.policy or [each for each in RIVALS if options.replicas == 1 or each not in OF_ONE_ENGINE]
    with Bars() as bars:
        comparison = compare(scenario, trace, rivals, bars.of("simulate"))
    show(comparison)
    write_json(options.json, comparison.json())
    if options.plot is not None:
        server.cli.tiers.simulation_plot.save(comparison, options.plot)
    return 0


def _scenario(options: argparse.Namespace) -> tuple[Any, Any]:
    """Returns the scenario to simulate, and the trace."""
    from memory_tiers.simulator.profile_lookup import profile_of
    from memory_tiers.simulator.scenario import Scenario
    from memory_tiers.simulator.trace import KINDS, experts_of, generate, names, read

    given = {"device": options.device, "host": options.host}
    changed = {name: size for name, size in given.items() if size is not None}
    trace = None if options.trace in KINDS else read(Path(options.trace))[: options.requests]
    experts = names(options.experts) if trace is None else experts_of(trace)
    scenario = Scenario(
        profile=profile_of(options.profile).model_copy(update=changed),
        experts=experts,
        expert_bytes=options.expert_size,
        links=options.links,
        overlap=not options.no_overlap,
        restart=options.restart,
        tokens=options.tokens,
        streams=options.streams,
        replicas=options.replicas,
    )
    scenario.check()
    if trace is None:
        trace = generate(
            options.trace,
            experts,
            options.requests,
            options.rate,
            options.seed,
            scenario.device_fits,
            options.skew,
        )
    return scenario, trace
