"""Chooses the source that a configuration names."""

from pathlib import Path

from experts.checkpoints.sources.adapter import AdapterSource, BaseItself, EmbeddedAdapter
from experts.checkpoints.sources.embedded import EmbeddedSource
from experts.checkpoints.sources.folder import FolderSource
from experts.checkpoints.sources.huggingface import HuggingFaceSource
from experts.checkpoints.sources.object_store import ObjectStoreSource
from experts.checkpoints.sources.source import Source
from experts.spec import CheckpointSource


def source_of(checkpoint: CheckpointSource) -> Source:
    """Returns the source of full weights, or of an adapter as its maker has laid it out."""
    if checkpoint.folder is not None:
        return FolderSource(checkpoint.folder.expanduser().resolve())
    if checkpoint.huggingface is not None:
        return HuggingFaceSource(checkpoint.huggingface, checkpoint.revision)
    if checkpoint.url is not None:
        return ObjectStoreSource(checkpoint.url)
    assert checkpoint.embedded is not None
    return EmbeddedSource(checkpoint.embedded)


def source_beside(checkpoint: CheckpointSource, base: CheckpointSource, folder: Path, origin: str) -> Source:
    """Returns the source of an expert of a LoRA family. ``folder`` is where the family's ``base`` was
    prepared, ``origin`` what it was prepared from."""
    if checkpoint == base:
        return BaseItself(folder, origin)
    if checkpoint.embedded is not None:
        return AdapterSource(EmbeddedAdapter(checkpoint.embedded, origin), folder, origin)
    return AdapterSource(source_of(checkpoint), folder, origin)
