"""``coe plan``: prints what a configuration takes on each GPU of a node, without one."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from memory_tiers.gpu_memory import gpus_here
from memory_tiers.planning.advice import advice
from memory_tiers.planning.costs import profile_for
from memory_tiers.planning.gpus import Gpu, parse_gpus
from memory_tiers.planning.node_plan import NodePlan
from memory_tiers.planning.planner import plan
from memory_tiers.planning.solve import solve
from memory_tiers.planning.table import lines, report
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
    demands = on_each_engine(demands_of(settings, settings.families), gpus)
    device = None if settings.tiers.device == "auto" else int(settings.tiers.device)
    if options.solve is not None:
        several = [name for name, family in settings.families.items() if family.replicas != 1]
        if several:
            raise SettingsError(
                f"--solve places one engine of each family; families.{several[0]}.replicas: say 1, or devices"
            )
        planned, change = solve(demands, gpus), []
        _write(options.config, options.solve, planned, options.gpus or "this machine")
    else:
        planned = plan(demands, gpus, device)
        change = advice(demands, gpus, device)
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
    tree["tiers"] = {**tree["tiers"], "device": planned.device}
    tree["families"] = _families(tree["families"], planned)
    pinned = {family.name for family in planned.families if family.demand.pinned == family.demand.experts}
    tree["experts"] = {
        name: {**expert, "pinned": True} if expert["family"] in pinned else expert
        for name, expert in tree["experts"].items()
    }
    text = HEAD.format(name=given.name, gpus=gpus) + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    try:
        replace_file(file, text.encode(), mode=0o644)
    except OSError as error:
        raise SettingsError(f"--solve {file}: {error.strerror}") from error


def _families(families: Mapping[str, Any], planned: NodePlan) -> dict[str, Any]:
    chosen = {
        family.name: {
            "devices": list(family.devices),
            "tensor_parallel_size": family.demand.ranks,
            "max_model_len": family.max_model_len,
            "kv_cache": f"{family.kv_cache // 2**20}MiB",
            "max_num_seqs": family.max_num_seqs,
        }
        for family in planned.families
    }
    return {name: {**(family or {}), **chosen.get(name, {})} for name, family in families.items()}
