"""Answers of unmodified vLLM, kept from one run of the tests to the next.

The same weights, request, versions and processor give the same answer, and all that tests compare with take
minutes. They are in ``.cache`` of the checkout, which git ignores; a run without them asks.
"""

import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
import xxhash

from experts.vllm_version import installed_vllm
from router.atomic_file import replace_file

FOLDER = Path(__file__).parents[1] / ".cache" / "plain_vllm"
PROCESSOR = ("model name", "flags", "Features")
"""Reads what ``/proc/cpuinfo`` says that kernels are chosen by."""


@dataclass(slots=True)
class KeptResponse:
    """A whole response with status 200, as ``EngineResponse``."""

    content_type: str
    body: bytes
    status: int = 200

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.body

    async def whole(self) -> bytes:
        return self.body

    async def close(self) -> None:
        """There is nothing to end."""


class KeptAnswers:
    """The answers of an engine with one ``config``."""

    def __init__(self, config: Mapping[str, Any], folder: Path = FOLDER) -> None:
        self._folder = folder
        self._engine = {
            "config": config,
            "versions": [repr(installed_vllm()), version("torch")],
            "processor": _processor(),
            "threads": os.environ.get("OMP_NUM_THREADS", ""),
        }
        self._checkpoints: dict[Path, str] = {}

    def file(self, checkpoint: Path, expert: str, path: str, body: Mapping[str, Any]) -> Path:
        """Where the answer to a request is kept."""
        if checkpoint not in self._checkpoints:
            self._checkpoints[checkpoint] = _digest(checkpoint)
        parts = [self._engine, self._checkpoints[checkpoint], expert, path, body]
        return self._folder / hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def read(self, file: Path) -> KeptResponse | None:
        try:
            content_type, _, body = file.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        return KeptResponse(content_type.decode(), body)

    def write(self, file: Path, response: KeptResponse) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, response.content_type.encode() + b"\n" + response.body, mode=0o644)


def _digest(checkpoint: Path) -> str:
    digest = xxhash.xxh3_128()
    for file in sorted(checkpoint.iterdir()):
        if file.suffix in (".json", ".jinja", ".safetensors") and file.name != "coe.json":  # ours
            digest.update(file.name.encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _processor() -> list[str]:
    """Reads the first core: they are alike."""
    first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return [value.strip() for name, _, value in pairs if name.strip() in PROCESSOR]
