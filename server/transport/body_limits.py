"""Limits on clients' request bodies."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request

from server.config.limits import LimitsConfig
from server.config.settings import ServerConfig
from server.error_table import OLLAMA
from server.errors import BadRequest, NotJson, TooLarge
from server.model_request import ModelRequest
from server.transport.admission_gate import ADMISSION_GATE, AdmissionGate
from server.transport.json_structure import Structure, brackets, excess, structure_of
from server.transport.media_hosts import check_media

Beside = Callable[[Callable[[], Structure]], Awaitable[Structure]]
"""Does work beside the event loop."""
LARGE = 2**16
"""Bytes. What a larger body is made of is counted beside the event loop; a smaller one takes a millisecond at
most, and is counted only where its brackets could be too many."""


async def read_body(request: Request, limit: int) -> bytes:
    """Returns the whole body, at most ``limit`` bytes. Raises TooLarge without reading more than that,
    Overloaded, ClientDisconnect."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal():
        raise BadRequest("The content-length header is not a number.")
    if int(declared) > limit:
        raise TooLarge(f"The body has {declared} bytes; at most {limit} are taken.")
    gate: AdmissionGate = request.scope[ADMISSION_GATE]
    parts, size, more = [], 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if size > limit:
            raise TooLarge(f"The body has more than the {limit} bytes that are taken.")
        gate.hold(request.scope, len(part))
        parts.append(part)
    return b"".join(parts)


async def read_json(request: Request, config: ServerConfig, count: Beside) -> bytes:
    """The whole body: JSON that takes no longer to be parsed than others can wait, or no JSON. ``count``
    counts what a large one is made of. Raises NotJson, BadRequest, TooLarge, Overloaded."""
    check_content_type(request)
    raw = await read_body(request, config.max_body)
    limits = config.limits
    if len(raw) > LARGE:
        structure = await count(lambda: structure_of(raw))
        check_structure(structure, limits)
        gate: AdmissionGate = request.scope[ADMISSION_GATE]
        gate.hold(request.scope, structure.tree_bytes + _text_bytes(raw))
    elif brackets(raw) > limits.json_depth or len(raw) > min(
        limits.json_parts, limits.json_values, limits.json_escapes
    ):
        check_structure(structure_of(raw), limits)
    return raw


def check_structure(structure: Structure, limits: LimitsConfig) -> None:
    """Checks the structure of a body. Raises BadRequest."""
    problem = excess(structure, limits)
    if problem is not None:
        raise BadRequest(f"The body {problem}.")


def _text_bytes(raw: bytes) -> int:
    """Returns the most bytes that the texts of ``raw`` take, parsed and as sent to the engine: four for each
    character where one of them is not of Latin."""
    return len(raw) * (2 if raw.isascii() and b"\\u" not in raw else 5)


def check_content_type(request: Request) -> None:
    """Checks the content type. A page of another origin may have a browser send any other type, or none,
    without asking, and it then says that origin: where none is said, Ollama's API takes them too, as its
    documented commands send no type of their own. Raises NotJson."""
    given = request.headers.get("content-type", "")
    if given == "application/json":
        return
    if request.scope["path"].startswith(OLLAMA) and "origin" not in request.headers:
        return
    if given.partition(";")[0].strip().lower() != "application/json":
        said = f"not {given[:100]!r}" if given else "and says nothing"
        raise NotJson(f"The body must be JSON with 'content-type: application/json', {said}.")


def check_request(request: ModelRequest, config: ServerConfig) -> None:
    """Checks how many messages it has and answers it asks for, and where its content is from. Raises
    BadRequest."""
    most = config.limits.messages
    if len(request.messages) > most:
        raise BadRequest(f"There are {len(request.messages)} messages; at most {most} are taken.", "messages")
    check_choices(request.body, config.limits)
    check_media(request.body, config.media_hosts)


_CHOICES = frozenset(("n", "best_of", "prompt", "prompt_embeds"))


def check_choices(body: Mapping[str, Any], limits: LimitsConfig) -> None:
    """Checks how many answers are asked for: an engine computes each by itself. Raises BadRequest."""
    if _CHOICES.isdisjoint(body):
        return
    for field in ("n", "best_of"):
        count = body.get(field)
        if count is None:
            continue
        if type(count) is not int:  # an engine would take "16384" for a number
            raise BadRequest(f"'{field}' must be a whole number.", field)
        if count > limits.choices:
            raise BadRequest(f"'{field}' is {count}; at most {limits.choices} are taken.", field)
    prompts = max(_prompts(body.get("prompt")), _prompts(body.get("prompt_embeds")))
    answers = prompts * (body.get("n") or 1)
    if answers > limits.answers:
        message = f"{prompts} prompts ask for {answers} answers; at most {limits.answers} are given."
        raise BadRequest(message, "prompt")


def _prompts(given: object) -> int:
    """Counts what a completion is asked for. A list of numbers is one prompt, as tokens."""
    return len(given) if isinstance(given, list) and given and type(given[0]) is not int else 1
