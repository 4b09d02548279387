"""What each verb of ``coe`` does: read options, call a package, print. Heavy imports stay inside."""

import argparse
import asyncio
import importlib
import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from server.config.settings import Settings, SettingsError, load


def serve(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it means a reload

    import uvloop

    import server.logs
    from server.serve import serve as serve_forever

    server.logs.configure(options.verbose)
    given = {"host": options.host, "port": options.port}
    given |= {"tls_cert": options.tls_cert, "tls_key": options.tls_key}
    changed = {name: value for name, value in given.items() if value is not None}
    if not 0 <= changed.get("port", 0) <= 65535:
        raise SettingsError(f"--port {options.port}: ports go from 0 to 65535")

    def read() -> Settings:
        settings = load(options.config)
        return settings.model_copy(update={"server": settings.server.model_copy(update=changed)})

    uvloop.run(serve_forever(read))
    return 0


def route(options: argparse.Namespace) -> int:
    from router.router import Router

    if options.artifact:
        router = Router.load(options.artifact)
    else:
        router = _router_of(load(options.config), options.composition)
    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    if options.explain:
        return _explain(options, router, prompt)
    decision = router.decide(prompt)
    if options.json:
        print(json.dumps(asdict(decision), sort_keys=True))
        return 0
    print(f"expert      {decision.expert}")
    uncertain = " (uncertain)" if decision.uncertain else ""
    print(f"category    {decision.category}{uncertain}")
    print(f"confidence  {decision.confidence:.3f}")
    ranked = sorted(decision.probabilities.items(), key=lambda pair: -pair[1])
    for category, probability in ranked[:5]:
        print(f"  {probability:6.3f}  {category}")
    print(f"decided in  {decision.seconds * 1e3:.1f} ms")
    return 0


def _explain(options: argparse.Namespace, router: Any, prompt: str) -> int:
    from router.composition import Composition
    from server.routing.explanation import Explanation

    choice = Composition(router).choose([{"role": "user", "content": prompt}])
    model = options.artifact or options.composition or next(iter(load(options.config).compositions))
    explanation = Explanation.of(str(model), choice, router.experts, {}, router.artifact.scores)
    if options.json:
        print(explanation.model_dump_json())
    else:
        print("\n".join(explanation.lines()))
    return 0


def _router_of(settings: Settings, composition: str | None) -> Any:
    from server.routing.catalog import load_routers

    routers = load_routers(settings)
    name = composition or next(iter(routers), None)
    if name not in routers:
        raise SettingsError(f"no composition {name!r}; the configuration has: {', '.join(routers) or 'none'}")
    return routers[name]


def _chosen(settings: Settings, names: list[str]) -> list[str]:
    for name in names:
        if name not in settings.experts:
            raise SettingsError(f"no expert {name!r}; the configuration has: {', '.join(settings.experts)}")
    return names or list(settings.experts)


def prepare(options: argparse.Namespace) -> int:
    from experts.checkpoints.prepare import prepare as prepare_expert
    from experts.engines.recording import record_canaries
    from server.cli.progress import Bars

    settings = load(options.config)
    with Bars() as bars:
        progress_of = {name: bars.of(name) for name in _chosen(settings, options.names)}
        for name, progress in progress_of.items():
            expert, base, task = settings.experts[name], settings.base_of(name), settings.task_of(name)
            prepare_expert(name, expert, settings.store, progress, base=base, task=task)
        generating = {name: bar for name, bar in progress_of.items() if name in settings.generating}
        record_canaries(generating, settings.store)  # of tokens, of which an embedding model says none
    return 0


def list_experts(options: argparse.Namespace) -> int:
    import experts.checkpoints.prepared as checkpoint
    from experts.errors import CheckpointError

    settings = load(options.config)
    table = Table("expert", "family", "parameters", "weights", "prepared", "description")
    for name, config in settings.experts.items():
        try:
            base, task = settings.base_of(name), settings.task_of(name)
            expert = checkpoint.open_expert(name, config, settings.store, base, task)
        except CheckpointError:
            table.add_row(name, config.family, "-", "-", "no", config.description)
            continue
        parameters, weights = f"{expert.parameters / 1e6:.1f} M", f"{expert.weights_bytes / 1e6:.0f} MB"
        table.add_row(name, config.family, parameters, weights, "yes", config.description)
    Console().print(table)
    return 0


def verify(options: argparse.Namespace) -> int:
    import experts.checkpoints.prepared as checkpoint

    settings = load(options.config)
    names = _chosen(settings, options.names)
    families = dict.fromkeys(settings.experts[name].family for name in names)
    bases = {family: checkpoint.base_name(family) for family in families if settings.families[family].base}
    for base in bases.values():
        checkpoint.verify(base, settings.store)
        print(f"{base}: every file is what preparation wrote")
    for name in names:
        family = settings.experts[name].family
        base_folder = settings.store / bases[family] if family in bases else None
        checkpoint.verify(name, settings.store, base=base_folder)
        print(f"{name}: every file is what preparation wrote")
    return 0


def replay_tiers(options: argparse.Namespace) -> int:
    from memory_tiers.driver.event_log import replay

    replayed = replay(options.log)
    if replayed.different is None:
        print(f"{replayed.events} events led to the recorded actions")
        return 0
    line, recorded, done = replayed.different
    print(f"{options.log}, line {line}: recorded {json.dumps(recorded)}, now {json.dumps(done)}")
    return 1


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
    with Bars() as bars:
        comparison = compare(scenario, trace, options.policy, bars.of("simulate"))
    show(comparison)
    write_json(options.json, comparison.json())
    if options.plot is not None:
        server.cli.tiers.simulation_plot.save(comparison, options.plot)
    return 0


def _scenario(options: argparse.Namespace) -> tuple[Any, Any]:
    """What is simulated, and the trace."""
    from memory_tiers.simulator.comparison import Scenario
    from memory_tiers.simulator.profiles import profile_of
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


def bench_tiers(options: argparse.Namespace) -> int:
    from server.cli.progress import Bars

    tiers = benchmark("tiers.measure")
    with Bars() as bars:
        report = tiers.measure(options.requests, options.seed, bars.of("bench"))
    tiers.show(report)
    write_json(options.json, report.json())
    return 0


def bench_switch(options: argparse.Namespace) -> int:
    from server.cli.progress import Bars

    settings = load(options.config)
    with Bars() as bars:
        measuring = benchmark("switch.measure").measure(settings, options.runs, bars.of("bench"))
        report = asyncio.run(measuring)
    benchmark("switch.tables").show(report)
    write_json(options.json, report.json())
    return 0


def bench_engine(options: argparse.Namespace) -> int:
    from server.cli.progress import Bars

    engine, plan = (
        benchmark("engine.measure"),
        benchmark("engine.workload").Plan(
            experts=tuple(options.experts),
            streams=tuple(options.streams),
            tokens=options.tokens,
            requests=options.requests,
            burst=options.burst,
            repeat=options.repeat,
        ),
    )
    settings = load(options.config)
    with Bars() as bars:
        measuring = engine.measure(
            settings, plan, bars.of("bench"), options.llama_python, options.llama_model
        )
        report = asyncio.run(measuring)
    benchmark("engine.tables").show(report)
    write_json(options.json, report.json())
    return 0


def benchmark(name: str) -> Any:
    """They are not in the wheel."""
    try:
        return importlib.import_module(f"benchmarks.{name}")
    except ModuleNotFoundError as error:
        raise SettingsError("benchmarks are not installed; run this from a source checkout") from error


def write_json(path: Path | None, report: Mapping[str, Any]) -> None:
    if path is not None:
        try:
            path.write_text(json.dumps(report, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"--json {path}: {error.strerror}") from error
