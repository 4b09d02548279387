"""Records the canaries that prepared experts lack, all computed in one process beside this one."""

import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import orjson
from pydantic import TypeAdapter, ValidationError

from experts.checkpoints.manifest import Manifest, read_manifest
from experts.checkpoints.prepare import write_canary
from experts.checkpoints.prepared import folder_of
from experts.progress import Progress
from experts.spec import Canary

logger = logging.getLogger(__name__)
PROCESS_BYTES = 2**30
"""The memory of the process beside the weights, roughly."""
_CANARY = TypeAdapter(Canary)


def available_bytes() -> int:
    """Returns the memory that can be had without pushing anything out."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def record_canaries(
    progress_of: Mapping[str, Progress], store: Path, available: Callable[[], int] = available_bytes
) -> None:
    """Records a canary for each expert named in ``progress_of`` that is prepared in ``store`` and has none;
    LoRA experts are left out.

    An expert that cannot have one is named in a warning with the reason, and serves unchecked by it.
    Raises CheckpointError when an expert is not prepared.
    """
    manifests = {name: read_manifest(folder_of(name, store)) for name in progress_of}
    lacking = [name for name, manifest in manifests.items() if not (manifest.canary or manifest.base)]
    if lacking and not (find_spec("torch") and find_spec("transformers")):
        logger.warning("no canary for %s: no engine is installed to compute it with", ", ".join(lacking))
        return
    room = available()
    chosen = [name for name in lacking if _needed_bytes(manifests[name]) <= room]
    if too_large := [name for name in lacking if name not in chosen]:
        logger.warning(
            "no canary for %s: in float32 they do not fit into the %.1f GB of memory available",
            ", ".join(too_large), room / 1e9,
        )  # fmt: skip
    for name, canary in _computed(chosen, store, progress_of):
        write_canary(name, store, manifests[name], canary)


def _needed_bytes(manifest: Manifest) -> int:
    return 4 * manifest.parameters + PROCESS_BYTES


def _computed(
    names: Sequence[str], store: Path, progress_of: Mapping[str, Progress]
) -> Iterator[tuple[str, Canary]]:
    """Yields the canaries that can be computed, as they come."""
    if not names:
        return
    command = [
        sys.executable,
        "-m",
        "experts.engines.reference",
        *(str(folder_of(name, store)) for name in names),
    ]
    quiet = {
        "PYTHONSAFEPATH": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error",
        "CUDA_VISIBLE_DEVICES": "", "OMP_WAIT_POLICY": "PASSIVE",
    }  # fmt: skip
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            env={**os.environ, **quiet},
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for name in names:
                progress_of[name]("canary", 0, 1)
                line = process.stdout.readline()
                if not line.endswith(b"\n"):
                    process.wait()
                    said.seek(0)
                    line = orjson.dumps({"error": _end(process.returncode, said.read())})
                if canary := _canary(name, line):
                    yield name, canary
                progress_of[name]("canary", 1, 1)
        finally:
            process.kill()


def _canary(name: str, line: bytes) -> Canary | None:
    """Reads a line of the process; None, with a warning, where it has an error."""
    answer = orjson.loads(line)
    try:
        return _CANARY.validate_python(answer["canary"])
    except (KeyError, ValidationError) as error:
        logger.warning("no canary for %s: %s", name, answer.get("error", error))
        return None


def _end(code: int, said: str) -> str:
    last = said.strip().rpartition("\n")[2]
    return f"the process that computes it ended with code {code}: {last}"
