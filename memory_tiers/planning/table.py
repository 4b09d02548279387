"""Writes a plan for people, and as plain data."""

from typing import Any

from memory_tiers.planning.costs import Costs, costs_of
from memory_tiers.planning.node_plan import FamilyPlan, GpuPlan, NodePlan
from memory_tiers.simulator.profiles import Profile

COLUMNS = ("weights", "working_copy", "graphs", "kv", "activations", "context")
HEADINGS = ("weights", "copy", "graphs", "KV", "peak", "context")
PLANNED = "Planned, not measured: no GPU has run this."


def lines(plan: NodePlan, profile: Profile) -> list[str]:
    """The plan as text; sizes in GB (10^9 bytes)."""
    head = "".join(f"{name:>9}" for name in (*HEADINGS, "total", "free"))
    found = [f"{'GPU':<5}{'family':<20}{head}"]
    for gpu in plan.gpus:
        found += _of_gpu(gpu)
    found += ["", f"{'family':<20}{'mode':<13}{'GPUs':<12}{'resident':>9}{'context':>9}{'KV tokens':>11}"
              f"{'longest':>8}{'seqs':>6}{'switch':>10}{'from host':>10}{'from disk':>10}"]  # fmt: skip
    for family in plan.families:
        found += _of_family(family, costs_of(family, profile))
    found.append("")
    found.append(f"{_budget(plan)} longest: sequences of the whole context at once.")
    found.append(f"Bandwidths of {profile.name}, with their sources:")
    for name in ("memory_bytes_per_s", "link_bytes_per_s", "disk_bytes_per_s"):
        found.append(f"  {name}: {profile.sources.get(name, 'given')}")
    found.append(PLANNED)
    return found


def _budget(plan: NodePlan) -> str:
    if not plan.devices:
        return f"tiers.device is {plan.device / 1e9:.1f} GB over all GPUs."
    parts = ", ".join(f"{size / 1e9:.1f} of GPU {number}" for number, size in plan.devices.items())
    return f"Experts may fill {plan.device / 1e9:.1f} GB (tiers.devices): {parts}."


def _of_gpu(gpu: GpuPlan) -> list[str]:
    found = [
        f"{gpu.gpu.number if place == 0 else '':<5}{share.family[:19]:<20}"
        + "".join(_gb(getattr(share, column)) for column in COLUMNS)
        + _gb(share.total)
        for place, share in enumerate(gpu.shares)
    ]
    if gpu.spare:
        found.append(f"{'':<5}{'other experts':<20}{_gb(gpu.spare)}{'':>45}{_gb(gpu.spare)}")
    left = f"{_gb(gpu.used)}{_gb(gpu.free)} ({gpu.free_share:.0%} of {gpu.gpu.bytes / 1e9:.0f} GB)"
    return [*found, f"{'' if found else gpu.gpu.number:<5}{'together':<20}{'':>54}{left}"]


def _of_family(family: FamilyPlan, costs: Costs) -> list[str]:
    devices = ",".join(str(number) for number in family.devices)
    of = f"{family.resident}/{family.demand.experts}"
    row = (
        f"{family.name[:19]:<20}{family.demand.mode:<13}{devices:<12}{of:>9}{family.max_model_len:>9,}"
        f"{family.kv_tokens:>11,}{family.longest_sequences:>8,}{family.max_num_seqs:>6,}"
        f"{_time(costs.switch):>10}{_time(costs.load_from_host):>10}{_time(costs.load_from_disk):>10}"
    )
    return [row, f"  from {family.demand.model.source}", *(f"  {note}" for note in family.notes)]


def _gb(size: int) -> str:
    return f"{size / 1e9:>9.1f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 1e-4:
        return f"{seconds * 1e6:.0f} us"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def report(plan: NodePlan, profile: Profile, advice: list[str]) -> dict[str, Any]:
    """The plan as plain data, in bytes and seconds."""
    return {
        "measured": False,
        "fits": plan.fits,
        "change": advice,
        "device": plan.device,
        "devices": {str(number): size for number, size in plan.devices.items()},
        "profile": profile.name,
        "gpus": [
            {
                "number": gpu.gpu.number,
                "bytes": gpu.gpu.bytes,
                "used": gpu.used,
                "free": gpu.free,
                "spare": gpu.spare,
                "engines": [
                    {"family": share.family, **{column: getattr(share, column) for column in COLUMNS}}
                    for share in gpu.shares
                ],
            }
            for gpu in plan.gpus
        ],
        "families": [_family_report(plan, family, costs_of(family, profile)) for family in plan.families],
    }


def _family_report(plan: NodePlan, family: FamilyPlan, costs: Costs) -> dict[str, Any]:
    return {
        "name": family.name,
        "mode": family.demand.mode,
        "model": family.demand.model.source,
        "devices": list(family.devices),
        "experts": family.demand.experts,
        "resident": family.resident,
        "max_model_len": family.max_model_len,
        "kv_cache": family.kv_cache,
        "kv_tokens": family.kv_tokens,
        "max_num_seqs": family.max_num_seqs,
        "gpu_memory_utilization": plan.utilization(family),
        "switch_s": costs.switch,
        "load_from_host_s": costs.load_from_host,
        "load_from_disk_s": costs.load_from_disk,
        "notes": list(family.notes),
    }
