"""Renders the reference of the HTTP interface from the gateway's OpenAPI document."""

from collections.abc import Mapping
from typing import Any

from scripts.reference.tables import table
from server.app import client_paths

HEAD = """# HTTP

`GET /openapi.json` of a running gateway has the same as an OpenAPI document; its [page](../guides/page.md)
shows it under API. Fields that the gateway does not read go to the engine as they are.
[Requests](../guides/requests.md) explains the headers, [Errors](errors.md) the refusals.
"""

GROUPS = {
    "Anthropic": ("/v1/messages",),
    "Ollama": ("/api/",),
    "vLLM": ("/tokenize", "/detokenize"),
    "This gateway, for clients": ("/v1/coe/route", "/v1/coe/feedback", "/v1/coe/usage"),
    "This gateway, for operators": ("/v1/coe/", "/health", "/ready", "/metrics"),
    "Jina and Cohere": ("/v1/rerank", "/v2/rerank", "/v1/score"),
    "OpenAI": ("/v1/",),
}
"""Heading to how the paths below it begin; the first that fits counts."""

ORDER = ("OpenAI", *(name for name in GROUPS if name != "OpenAI"))


def http() -> str:
    """The page: a table of endpoints for each group, then the fields of each body."""
    document = client_paths("docs").openapi()
    found: dict[str, list[tuple[str, str]]] = {name: [] for name in ORDER}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            found[group_of(path)].append((f"`{method.upper()} {path}`", _said(operation)))
    tables = [f"\n## {name}\n\n{table(['endpoint', 'what it does'], rows)}" for name, rows in found.items()]
    return HEAD + "".join(tables) + _bodies(document)


def group_of(path: str) -> str:
    return next(name for name, begins in GROUPS.items() if path.startswith(begins))


def _said(operation: Mapping[str, Any]) -> str:
    said: str = operation["description"]
    query = [f"`{one['name']}`" for one in operation.get("parameters", []) if one["in"] == "query"]
    return f"{said} Query: {', '.join(query)}." if query else said


def _bodies(document: Mapping[str, Any]) -> str:
    rows = [
        (f"`{method.upper()} {path}`", _fields(document, body))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if (body := operation.get("requestBody"))
    ]
    return f"\n## Bodies\n\nRequired fields are bold.\n\n{table(['endpoint', 'fields'], rows)}"


def _fields(document: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    (content,) = body["content"].values()
    schema = _resolved(document, content["schema"])
    required = schema.get("required", [])
    names = schema.get("properties", {})
    return ", ".join(f"**`{name}`**" if name in required else f"`{name}`" for name in names)


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: Mapping[str, Any] = document["components"]["schemas"][name] if name else schema
    return found
