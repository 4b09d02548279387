"""An expert of a LoRA family: an adapter, or the base itself, beside a base that has been prepared.

The prepared folder has the adapter's two files and, as links, what the base has beside its weights. A chat
template or sampling defaults that come with the adapter stand before the base's.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from experts.checkpoints.fingerprint import read_json, tokenizer
from experts.checkpoints.peft import CONFIG, WEIGHTS, read_adapter
from experts.checkpoints.sources.embedded import EmbeddedSource
from experts.checkpoints.sources.source import Source, Space
from experts.checkpoints.tensor_headers import read_headers
from experts.embedded import BASE_SHA256
from experts.errors import CheckpointMismatch
from experts.progress import Progress

TEMPLATES = ("chat_template.jinja", "chat_template.json")
OWN = (CONFIG, WEIGHTS, "generation_config.json", "tokenizer_config.json", *TEMPLATES)
"""The adapter's files that are kept."""


@dataclass(frozen=True, slots=True)
class BaseItself:
    """An expert without an adapter."""

    base: Path
    origin: str

    def space(self, store: Path) -> Space:
        return Space(store, 0)

    def provide(self, folder: Path, progress: Progress) -> None:
        _link_to_base(self.base, folder)


@dataclass(frozen=True, slots=True)
class AdapterSource:
    """An adapter. What ``adapter`` provides is cut down to an adapter's files and checked."""

    adapter: Source
    base: Path
    base_origin: str

    @property
    def origin(self) -> str:
        return f"{self.adapter.origin} beside {self.base_origin}"

    def space(self, store: Path) -> Space:
        return self.adapter.space(store)

    def provide(self, folder: Path, progress: Progress) -> None:
        self.adapter.provide(folder, progress)
        adapter = read_adapter(folder)
        adapter.check_fits(read_headers(self.base))
        adapter.check_finite()
        own_tokenizer = folder / "tokenizer.json"
        if own_tokenizer.is_file() and tokenizer(folder) != tokenizer(self.base):
            raise CheckpointMismatch(
                f"{self.adapter.origin}: its tokenizer.json is not the base's; an adapter that adds tokens "
                "has to be merged into its base"
            )
        _keep_own(folder)
        _link_to_base(self.base, folder)


@dataclass(frozen=True, slots=True)
class EmbeddedAdapter:
    """An adapter of ``experts/embedded``, not merged."""

    name: str
    base_origin: str

    @property
    def origin(self) -> str:
        return EmbeddedSource(self.name).origin

    def space(self, store: Path) -> Space:
        return Space(store, 0)

    def provide(self, folder: Path, progress: Progress) -> None:
        adapter = EmbeddedSource(self.name).adapter()
        if adapter is None or self.base_origin != BASE_SHA256:
            raise CheckpointMismatch(
                f"the embedded {self.name!r} is no adapter of this base; "
                "set the family's base to {embedded: base}"
            )
        for file in (CONFIG, WEIGHTS):
            shutil.copyfile(adapter.folder / file, folder / file)


def _keep_own(folder: Path) -> None:
    """Removes the files of ``folder`` that are of no use to the base."""
    tokenizer_config = folder / "tokenizer_config.json"
    for file in folder.iterdir():
        if file.name not in OWN:
            file.unlink()
    if tokenizer_config.is_file() and "chat_template" not in read_json(tokenizer_config):
        tokenizer_config.unlink()


def _link_to_base(base: Path, folder: Path) -> None:
    """Links to what ``folder`` lacks; the links are relative, so that the store can be moved."""
    left_out = {file.name for file in folder.iterdir()} | {"coe.json"}
    if left_out & {*TEMPLATES, "tokenizer_config.json"}:  # the base's could stand before it
        left_out |= set(TEMPLATES)
    for file in sorted(base.iterdir()):
        weights = file.suffix == ".safetensors" or file.name.endswith(".safetensors.index.json")
        if not weights and file.name not in left_out:
            os.symlink(Path("..") / base.name / file.name, folder / file.name)
