"""``coe plan``: prints what a configuration takes on each GPU of a node, without one."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from memory_tiers.gpu_memory import gpus_here
from memory_tiers.planning.advice import advice
from memory_tiers.planning.budget import budget_of
from memory_tiers.planning.costs import profile_for
from memory_tiers.planning.gpus import Gpu, parse_gpus
from memory_tiers.planning.node_plan import FamilyPlan, NodePlan
from memory_tiers.planning.planner import plan
from memory_tiers.planning.solve import solve
from memory_tiers.planning.table import lines, report
from memory_tiers.replicas import family_of
from memory_tiers.simulator.profile_lookup import profile_of
from router.atomic_file import replace_file
from server.cli.arguments import Parent, add_verb
from server.config.settings import SettingsError, load
from server.planning.demands import demands_of, on_each_engine

HEAD = "# {name}, solved by coe plan for {gpus}. Planned, not measured: no GPU has run this.\n"


def add_to(parent: Parent) -> None:
    made = add_verb(
        parent, "plan", plan_node, "what a configuration takes on each GPU, before anything starts"
    )
    made.add_argument("--gpus", help="such as 8x80GB or 2x80GB,1x24GB; by default those of this machine")
    made.add_argument("--json", action="store_true", help="print the plan as JSON")
    made.add_argument(
        "--solve",
        type=Path,
        metavar="FILE",
        help="choose devices, lengths and pools that fit, and write them",
    )
    made.add_argument(
        "--profile", help="bandwidths, as of coe tiers simulate; by default by the GPUs' memory"
    )


def plan_node(options: argparse.Namespace) -> int:
    """Prints the plan; returns 1 where it does not fit."""
    settings = load(options.config)
    gpus = parse_gpus(options.gpus) if options.gpus else _here()
    families = demands_of(settings, settings.families)
    if options.solve is not None:
        planned, change = solve(families, gpus), []
        _write(options.config, options.solve, planned, options.gpus or "this machine")
    else:
        demands, budget = on_each_engine(families, gpus), budget_of(settings.tiers)
        planned = plan(demands, gpus, budget)
        change = advice(demands, gpus, budget)
    profile = profile_of(options.profile) if options.profile else profile_for(gpus[0].bytes)
    if options.json:
        print(json.dumps(report(planned, profile, change)))
    else:
        print("\n".join([*lines(planned, profile), *(change or ["fits"])]))
    return 0 if planned.fits else 1


def _here() -> tuple[Gpu, ...]:
    """Returns the GPUs of this machine. Raises MemoryUnknown, SettingsError."""
    found = tuple(Gpu(number, size) for number, size in enumerate(gpus_here()))
    if not found:
        raise SettingsError("this machine has no NVIDIA GPU; name a node's, as --gpus 8x80GB")
    return found


def _write(given: Path, file: Path, planned: NodePlan, gpus: str) -> None:
    """Writes the configuration with what was chosen. Raises SettingsError."""
    if file.resolve().parent != given.resolve().parent:
        raise SettingsError(f"--solve {file}: write it beside {given}, so that its relative paths hold")
    tree: dict[str, Any] = yaml.safe_load(given.read_text(encoding="utf-8"))
    kept = {name: value for name, value in tree["tiers"].items() if name not in ("device", "devices")}
    tree["tiers"] = {"devices": dict(planned.devices), **kept}
    tree["families"] = _families(tree["families"], planned)
    text = HEAD.format(name=given.name, gpus=gpus) + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    try:
        replace_file(file, text.encode(), mode=0o644)
    except OSError as error:
        raise SettingsError(f"--solve {file}: {error.strerror}") from error


def _families(families: Mapping[str, Any], planned: NodePlan) -> dict[str, Any]:
    """The families with what was chosen, which all engines of a family can have."""
    engines: dict[str, list[FamilyPlan]] = {}
    for engine in planned.families:
        engines.setdefault(family_of(engine.name, families), []).append(engine)
    chosen = {
        name: {
            "replicas": len(group),
            "devices": [number for engine in group for number in engine.devices],
            "tensor_parallel_size": group[0].demand.ranks,
            "max_model_len": min(engine.max_model_len for engine in group),
            "kv_cache": f"{min(engine.kv_cache for engine in group) // 2**20}MiB",
            "max_num_seqs": min(engine.max_num_seqs for engine in group),
        }
        for name, group in engines.items()
    }
    return {name: {**(family or {}), **chosen.get(name, {})} for name, family in families.items()}
