"""Describes models as Ollama's API does."""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from experts.spec import Expert
from server.ollama.request import tagged
from server.services import NodeServices

_CAPABILITIES = {"tools": "tools", "images": "vision"}
"""Capability of an expert to Ollama's."""


def listed(entries: Sequence[Mapping[str, Any]], services: NodeServices) -> list[dict[str, Any]]:
    """Words entries of the list of models. Reads small files: not for the event loop."""
    modified = time_of(datetime.fromtimestamp(services.started, UTC))
    return [
        {
            "name": tagged(entry["id"]),
            "model": tagged(entry["id"]),
            "modified_at": modified,
            "size": sum(expert.weights_bytes for expert in _experts(entry, services)),
            "digest": _digest(entry["id"], _experts(entry, services)),
            "details": _details(entry, services),
        }
        for entry in entries
    ]


def shown_whole(entry: Mapping[str, Any], services: NodeServices) -> dict[str, Any]:
    """Words all of one entry. Reads small files: not for the event loop."""
    experts = _experts(entry, services)
    configs = [_config(expert.folder) for expert in experts]
    architecture = _only({str(config.get("model_type", "")) for config in configs}) or "composition"
    windows = [services.settings.families[expert.family].context for expert in experts]
    info = {
        "general.architecture": architecture,
        "general.basename": entry["id"],
        "general.parameter_count": entry["coe"].get("parameters") or sum(each.parameters for each in experts),
        f"{architecture}.context_length": min(windows, default=0),
    }
    if (size := _only({config.get("hidden_size") for config in configs})) is not None:
        info[f"{architecture}.embedding_length"] = size
    return {
        "modified_at": time_of(datetime.fromtimestamp(services.started, UTC)),
        "template": (_only({expert.chat_template for expert in experts}) or ""),
        "parameters": "",
        "modelfile": f"# {entry['coe']['description'] or entry['id']}\nFROM {entry['id']}\n",
        "details": _details(entry, services),
        "model_info": info,
        "capabilities": _capabilities(experts, services),
    }


def _experts(entry: Mapping[str, Any], services: NodeServices) -> list[Expert]:
    """Returns the expert of an entry, or those that its composition may choose."""
    aliases = services.catalog.aliases
    name = aliases.without_budget(aliases.model_of(entry["id"]) or entry["id"])
    if name in services.experts:
        return [services.experts[name]]
    return [services.experts[each] for each in services.catalog.routing.chosen_by(name)]


def _details(entry: Mapping[str, Any], services: NodeServices) -> dict[str, Any]:
    experts = _experts(entry, services)
    configs = [_config(expert.folder) for expert in experts]
    kinds = list(dict.fromkeys(str(config.get("model_type", "")) for config in configs))
    quantized = {_quantization(config) for config in configs}
    return {
        "parent_model": entry["coe"].get("alias_of", ""),
        "format": "safetensors",
        "family": kinds[0] if len(kinds) == 1 else "composition",
        "families": kinds,
        "parameter_size": _size(sum(expert.parameters for expert in experts)),
        "quantization_level": _only(quantized) or "",
    }


def _capabilities(experts: Sequence[Expert], services: NodeServices) -> list[str]:
    """Names what a model can: a composition what any of its experts can, as it routes past the others."""
    if all(expert.task == "embed" for expert in experts):
        return ["embedding"]
    found = ["completion"]
    for ours, ollamas in _CAPABILITIES.items():
        takes = [ours in expert.capabilities for expert in experts if expert.capabilities is not None]
        if ours == "tools":
            takes += [expert.parses_tools for expert in experts if expert.capabilities is None]
        if any(takes):
            found.append(ollamas)
    if any(services.settings.families[expert.family].reasoning_parser for expert in experts):
        found.append("thinking")
    return found


def _only(values: set[Any]) -> Any:
    """Returns the one value that there is; None where there are others."""
    return next(iter(values)) if len(values) == 1 else None


@functools.lru_cache(maxsize=1024)
def _config(folder: Path) -> Mapping[str, Any]:
    """Reads a prepared checkpoint's config.json, which does not change while it is served."""
    tree: Mapping[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return tree


def _quantization(config: Mapping[str, Any]) -> str:
    quantized = config.get("quantization_config") or {}
    kind = quantized.get("quant_method") or config.get("torch_dtype") or config.get("dtype") or ""
    return {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}.get(str(kind), str(kind).upper())


def _size(parameters: int) -> str:
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.0f}M"


def _digest(name: str, experts: Sequence[Expert]) -> str:
    """Returns what changes when a model's weights do."""
    made_of = [name, *(f"{each.name} {sorted(each.checksums.items())}" for each in experts)]
    return hashlib.sha256("\0".join(made_of).encode()).hexdigest()


def time_of(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
