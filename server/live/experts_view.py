"""Experts as they are told: where they come from, what of them is known, and under which licence."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from experts.checkpoints.manifest import Manifest, read_manifest
from experts.embedded import LICENSE as EMBEDDED_LICENSE
from experts.spec import Expert

_LICENSE = re.compile(r"^license:\s*[\"']?([\w.+-]+)", re.MULTILINE)
"""The line of a model card's front matter."""


def experts_of(experts: Iterable[Expert]) -> list[dict[str, Any]]:
    """Tells all experts. Reads small files: not for the event loop. Raises CheckpointError."""
    return [_expert(expert, read_manifest(expert.folder)) for expert in experts]


def _expert(expert: Expert, manifest: Manifest) -> dict[str, Any]:
    weights = {
        name: record.sha256 for name, record in manifest.files.items() if name.endswith(".safetensors")
    }
    return {
        "expert": expert.name,
        "family": expert.family,
        "description": expert.description,
        "task": expert.task,
        "origin": manifest.origin,
        "source": manifest.source.model_dump(mode="json", exclude_none=True),
        "base": None if manifest.base is None else manifest.base.model_dump(mode="json", exclude_none=True),
        "parameters": expert.parameters,
        "weights_bytes": expert.weights_bytes,
        "sha256": weights,
        "fingerprint": manifest.fingerprint,
        "license": license_of(expert.folder) or _embedded_license(manifest),
        "canary": None if expert.canary is None else len(expert.canary.tokens),
        "perplexity": None if expert.canary is None else expert.canary.perplexity,
        "capabilities": expert.capabilities,
        "generation": {
            name: value
            for name in ("temperature", "top_p", "top_k", "repetition_penalty", "max_tokens")
            if (value := getattr(expert.generation, name)) is not None
        },
    }


def _embedded_license(manifest: Manifest) -> str | None:
    return None if manifest.source.embedded is None else EMBEDDED_LICENSE


def license_of(folder: Path) -> str | None:
    """Returns the licence that the model card names, else the first line of its file; None: none is there."""
    card = folder / "README.md"
    if card.is_file() and (
        named := _LICENSE.search(card.read_text(encoding="utf-8", errors="replace")[:4000])
    ):
        return named[1]
    for file in sorted(folder.glob("LICENSE*")):
        lines = file.read_text(encoding="utf-8", errors="replace")[:2000].split("\n")
        return next((line.strip()[:80] for line in lines if line.strip()), None)
    return None
