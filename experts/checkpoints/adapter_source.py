"""What a LoRA family's checkpoints are prepared from: an adapter, or the base itself, beside a prepared base.

The folder has the adapter's two files and, as links, what the base has beside its weights. A chat template
or sampling defaults that come with the adapter stand before the base's.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from experts.checkpoints.fingerprint import read_json, tokenizer
from experts.checkpoints.peft import CONFIG, WEIGHTS, read_adapter, write_adapter
from experts.checkpoints.safetensors_header import read_headers
from experts.checkpoints.sources import EmbeddedSource, Source, Space, source_of
from experts.embedded import BASE_SHA256
from experts.errors import CheckpointMismatch
from experts.progress import Progress
from experts.spec import CheckpointSource

EMBEDDED_BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
TEMPLATES = ("chat_template.jinja", "chat_template.json")
OWN = (CONFIG, WEIGHTS, "generation_config.json", "tokenizer_config.json", *TEMPLATES)
"""What is taken from the adapter where it has it; the rest of its files is of no use to its base."""


def source_beside(checkpoint: CheckpointSource, base: CheckpointSource, folder: Path, origin: str) -> Source:
    """``folder`` is where ``base`` was prepared, ``origin`` what it was prepared from."""
    if checkpoint == base:
        return BaseItself(folder, origin)
    if checkpoint.embedded is not None:
        return AdapterSource(EmbeddedAdapter(checkpoint.embedded, origin), folder, origin)
    return AdapterSource(source_of(checkpoint), folder, origin)


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
    """``adapter`` provides what it has, which is then cut down to an adapter's files and checked."""

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
    """An adapter of ``experts/embedded`` as it is, in PEFT's layout."""

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
        write_adapter(adapter, folder, EMBEDDED_BASE)


def _keep_own(folder: Path) -> None:
    tokenizer_config = folder / "tokenizer_config.json"
    for file in folder.iterdir():
        if file.name not in OWN:
            file.unlink()
    if tokenizer_config.is_file() and "chat_template" not in read_json(tokenizer_config):
        tokenizer_config.unlink()


def _link_to_base(base: Path, folder: Path) -> None:
    """Relative links, so that the store can be moved."""
    left_out = {file.name for file in folder.iterdir()} | {"coe.json"}
    if left_out & {
        *TEMPLATES,
        "tokenizer_config.json",
    }:  # the base's could stand before it
        left_out |= set(TEMPLATES)
    for file in sorted(base.iterdir()):
        weights = file.suffix == ".safetensors" or file.name.endswith(".safetensors.index.json")
        if not weights and file.name not in left_out:
            os.symlink(Path("..") / base.name / file.name, folder / file.name)
