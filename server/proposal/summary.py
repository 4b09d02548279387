"""Says what a proposed configuration takes of this machine, and what bringing an expert up will cost."""

from collections.abc import Callable, Iterator

from memory_tiers.planning.costs import profile_for
from memory_tiers.planning.table import lines as gpu_lines
from memory_tiers.simulator.profiles import Profile
from server.proposal.proof import Proof


def sizes_of(proof: Proof) -> dict[str, str]:
    """Says of each family what is chosen now where its configuration leaves it out."""
    found = {}
    for name, family in proof.settings.families.items():
        if family.max_model_len is None or family.kv_cache is None:
            continue
        found[name] = (
            f"Chosen at each start where left out; now max_model_len: {family.max_model_len}, "
            f"kv_cache: {family.kv_cache // 2**20}MiB, max_num_seqs: {family.max_num_seqs}."
        )
    return found


def budget_lines(proof: Proof) -> tuple[str, ...]:
    """Says the budgets that are auto in bytes; nothing where they are not known yet."""
    if proof.budgets is None:
        return ()
    device, host = proof.budgets.device, proof.budgets.host
    return (f"On this machine, now: {_gb(device)} of weights on the device, {_gb(host)} in shared memory.",)


def summary(proof: Proof, profile: Callable[[], Profile]) -> list[str]:
    """Writes the plan for people. ``profile``: measures this machine's bandwidths, where no GPU computes."""
    if proof.node is not None:
        return gpu_lines(proof.node, profile_for(proof.node.gpus[0].gpu.bytes))
    if proof.budgets is None:
        return [f"What fits is not known before coe experts prepare: {', '.join(proof.unknown)}."]
    return [*_in_main_memory(proof, profile())]


def _in_main_memory(proof: Proof, profile: Profile) -> Iterator[str]:
    assert proof.budgets is not None
    device, host = proof.budgets.device, proof.budgets.host
    all_bytes = sum(expert.weights_bytes for expert in proof.experts.values())
    yield f"{'family':<24}{'mode':<13}{'experts':>8}{'each':>10}{'from host':>11}{'from disk':>11}"
    for name, family in proof.settings.families.items():
        members = [expert for expert in proof.experts.values() if expert.family == name]
        if not members:
            continue
        largest = max(expert.weights_bytes for expert in members)
        loaded = largest / profile.link_bytes_per_s
        read = loaded + largest / profile.disk_bytes_per_s
        yield (
            f"{name[:23]:<24}{family.mode:<13}{len(members):>8}{_gb(largest):>10}"
            f"{_seconds(loaded):>11}{_seconds(read):>11}"
        )
    yield ""
    holds = "holds all of them" if device >= all_bytes else "holds some of them at a time"
    yield (
        f"The checkpoints take {_gb(all_bytes)}; the device has {_gb(device)} and {holds}; "
        f"host memory has {_gb(host)}."
    )
    yield (
        "Times are estimates: bytes over bandwidths measured here just now; coe bench switch measures them. "
        "Between two experts on the device an interleaved engine switches in about a millisecond."
    )


def _gb(size: int) -> str:
    if size >= 10**8:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 10**5 else f"{size / 1e3:.1f} kB"


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value >= 1 else f"{value * 1e3:.1f} ms"
