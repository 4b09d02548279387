"""The part of OpenAI's wire format that the gateway itself reads and writes; the rest passes through."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from experts.spec import Expert
from server.errors import BadRequest


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat request whose owned fields were checked. ``body`` is the whole object as the client sent it."""

    model: str
    messages: tuple[Mapping[str, Any], ...]
    stream: bool
    body: Mapping[str, Any]


def parse_chat(raw: bytes) -> ChatRequest:
    """Checks what routing and leasing need. Raises BadRequest naming the field."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object with 'model' and 'messages'.")
    model, messages, stream = body.get("model"), body.get("messages"), body.get("stream", False)
    if not isinstance(model, str) or not model:
        raise BadRequest("'model' must name a model; GET /v1/models lists them.", "model")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be a non-empty list of messages.", "messages")
    for position, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequest("Each message must be an object with a 'role'.", f"messages[{position}]")
    if not isinstance(stream, bool | None):
        raise BadRequest("'stream' must be true or false.", "stream")
    if body.get("chat_template") is not None:
        raise BadRequest(
            "'chat_template' is refused: each expert is served with its own template; leave it out.",
            "chat_template",
        )
    if not isinstance(body.get("vllm_xargs"), dict | None):
        raise BadRequest("'vllm_xargs' must be an object.", "vllm_xargs")
    return ChatRequest(model, tuple(messages), bool(stream), body)


def engine_body(request: ChatRequest, expert: Expert) -> dict[str, Any]:
    """The client's body with the expert's chat template, stop tokens and sampling defaults."""
    generation = expert.generation
    body = dict(request.body)
    body["chat_template"] = expert.chat_template
    defaults = {
        "temperature": generation.temperature,
        "top_p": generation.top_p,
        "top_k": generation.top_k,
        "repetition_penalty": generation.repetition_penalty,
    }
    if body.get("max_completion_tokens") is None:
        defaults["max_tokens"] = generation.max_tokens
    for field, value in defaults.items():
        if value is not None and body.get(field) is None:
            body[field] = value
    own_stops = body.get("stop_token_ids")
    # What is not a list is vLLM's to refuse; and these are end-of-text tokens, which ignore_eos is about.
    if isinstance(own_stops, list | None) and not body.get("ignore_eos"):
        own_stops = own_stops or []
        body["stop_token_ids"] = own_stops + [
            stop for stop in generation.stop_token_ids if stop not in own_stops
        ]
    return body
