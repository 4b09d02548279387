"""`python -m scripts.gpu_check`: runs the checks, prints their table, writes JSON; 1 where a result is wrong.

Without a card the parts that need none run on the CPU, with little memory. ``--vllm`` starts engines of real
vLLM too: two random checkpoints of an 8B model's shape, on a CPU of a tiny one, and, with ``--store``, two
experts of the embedded composition.
"""

import argparse
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import ByteSize, TypeAdapter

from experts.errors import ExpertsError
from memory_tiers.planning.costs import profile_for
from memory_tiers.simulator.profile_lookup import profile_of
from memory_tiers.simulator.profiles import Profile

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vLLM's imports
    from scripts.gpu_check.checkpoints import LLAMA_8B, TINY, write_random
    from scripts.gpu_check.copies import check_copies, check_flips
    from scripts.gpu_check.engines import check_engines
    from scripts.gpu_check.outcome import Outcome, lines, report
    from scripts.gpu_check.uploads import check_refusal, check_uploads

ON_CPU = 32 * 2**20
AN_8B = 16 * 10**9
"""Bytes of a model of eight billion parameters in 16 bits."""


def main(given: list[str] | None = None) -> int:
    """Runs all checks. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.gpu_check", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures and results there")
    parser.add_argument("--profile", help="limits, as of coe tiers simulate; by default by the card")
    parser.add_argument("--size", help="bytes of an expert, such as 16GB; by default what fits")
    parser.add_argument("--vllm", action="store_true", help="start engines of vLLM too; seven minutes")
    parser.add_argument(
        "--store",
        type=Path,
        metavar="FOLDER",
        help="with --vllm: where coe experts prepare put the embedded experts",
    )
    options = parser.parse_args(given)
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    profile = profile_of(options.profile) if options.profile else profile_for(total, name)
    fits = min(AN_8B, total // 4) if device.type == "cuda" else ON_CPU
    size = int(TypeAdapter(ByteSize).validate_python(options.size)) if options.size else fits
    outcomes = _checked(size, device, profile)
    if options.vllm:
        outcomes += _with_engines(options.store, device, profile)
    print("\n".join([f"{name}, experts of {size:,} bytes, limits of {profile.name}", *lines(outcomes)]))
    if options.json is not None:
        found = report(outcomes, name, profile.name)
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0 if all(outcome.right for outcome in outcomes) else 1


def _checked(size: int, device: torch.device, profile: Profile) -> list[Outcome]:
    checks: dict[str, Callable[[], Outcome]] = {
        "switch by copy": lambda: check_copies(size, device, profile),
        "switch by pointers": lambda: check_flips(size, device),
        "image to the device": lambda: check_uploads(size, device, profile),
        "refused registration": lambda: check_refusal(device),
    }
    return [_outcome(name, check) for name, check in checks.items()]


def _with_engines(store: Path | None, device: torch.device, profile: Profile) -> list[Outcome]:
    """Checks engines; random checkpoints are in shared memory meanwhile."""
    shape = LLAMA_8B if device.type == "cuda" else TINY
    with tempfile.TemporaryDirectory(dir="/dev/shm") as root, tempfile.TemporaryDirectory() as logs:

        def random() -> Outcome:
            folders = [write_random(Path(root) / str(seed), shape, seed, device) for seed in (1, 2)]
            return check_engines("random experts", folders, device, profile, Path(logs))

        def embedded() -> Outcome:
            if store is None:
                return Outcome("embedded experts", skipped="give --store")
            folders = [store / "general", store / "math"]
            return check_engines("embedded experts", folders, device, profile, Path(logs))

        return [_outcome("random experts", random), _outcome("embedded experts", embedded)]


def _outcome(name: str, check: Callable[[], Outcome]) -> Outcome:
    try:
        return check()
    except (RuntimeError, OSError, ExpertsError) as error:  # the others still say what they find
        return Outcome(name, (f"{type(error).__name__}: {error}",))


if __name__ == "__main__":
    raise SystemExit(main())
