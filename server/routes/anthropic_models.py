"""The list of models in the shape of Anthropic's."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any


def model_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """``entry``: of OpenAI's list, as ``server.routes.models.entries`` has it."""
    created = datetime.fromtimestamp(entry["created"], UTC)
    return {
        "type": "model",
        "id": entry["id"],
        "display_name": entry["coe"]["description"] or entry["id"],
        "created_at": created.isoformat().replace("+00:00", "Z"),
        "lifecycle": "active",
        "max_input_tokens": entry["coe"].get("context_length"),
        "coe": entry["coe"],
    }


def models_of(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All of them, on one page."""
    data = [model_of(entry) for entry in entries]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"data": data, "has_more": False, "first_id": first, "last_id": last}
