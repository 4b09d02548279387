"""Renders the reference of errors from the gateway's error table and the trees of its packages."""

import re
import sys
from collections.abc import Iterator, Mapping

from memory_tiers.errors import RejectionReason
from scripts.reference.tables import table
from server.error_table import BY_ITSELF, INTERNAL, REJECTIONS, TABLE, Rendering

HEAD = """# Errors

An error has OpenAI's body: `{"error": {"message", "type", "param", "code"}}`. `/v1/messages` has
Anthropic's, with the same status. An error after the first bytes of a stream is the stream's last event.
[Failures](../guides/failures.md) says what the gateway tries before it gives one,
[Batches](../guides/batches.md) has the codes of a file's lines.

An engine's refusal keeps the engine's status and message. A rejected request that may succeed later
has `Retry-After`.
"""

REASONS: Mapping[RejectionReason, str] = {
    "queue_full": "too many requests wait for experts: `tiers.max_queue`, `tiers.max_queue_per_expert`",
    "load_failed": "the expert could not be loaded",
    "load_cancelled": "an operator cancelled the load that the request waited for",
    "engine_failed": "the expert's engine could not be started",
    "shutting_down": "the gateway shuts down and begins nothing new",
    "not_resident": "the expert is not on the device, and the client does not wait (`x-coe-fail-fast`)",
    "unknown_expert": "the expert was removed by a reload",
}


def errors() -> str:
    """The page: one row for each status and code."""
    said: dict[tuple[int, str, str], list[str]] = {}
    for row, meaning in _rows():
        said.setdefault((row.status, row.code or "", row.type), []).append(meaning)
    cells = [
        (str(status), f"`{code}`" if code else "", f"`{kind}`", "; ".join(dict.fromkeys(meanings)))
        for (status, code, kind), meanings in sorted(said.items())
    ]
    return HEAD + "\n" + table(["status", "`code`", "`type`", "when"], cells)


def _rows() -> Iterator[tuple[Rendering, str]]:
    for error, row in TABLE.items():
        yield row, _meaning(error) or (row.message or "").removesuffix(BY_ITSELF).strip(" .")
    for reason, meaning in REASONS.items():
        yield REJECTIONS[reason], meaning
    yield INTERNAL, "a mistake of the gateway's own"


def _meaning(error: type[Exception]) -> str:
    """The line of the class in the tree that its module draws."""
    tree = sys.modules[error.__module__].__doc__ or ""
    found = re.search(rf"^[│ ]*(?:[├└]── )?{error.__name__} +(\S.*)$", tree, re.MULTILINE)
    return found[1] if found else ""
