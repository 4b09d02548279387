"""Parts of OpenAI's wire format that the gateway itself reads and writes; the rest passes through."""

from collections.abc import Mapping
from types import NoneType
from typing import Any, NamedTuple

import orjson

from experts.spec import Expert, Task
from server.errors import BadRequest, NotCapable

# What a field is if it is there. Made once: making ``bool | None`` takes longer than asking.
_FLAG, _OBJECT, _LIST, _TEXT = (bool, NoneType), (dict, NoneType), (list, NoneType), (str, NoneType)
_SAMPLING = ("temperature", "top_p", "top_k", "repetition_penalty")
"""Fields of a request that have the same name in ``experts.spec.Generation``."""


class ModelRequest(NamedTuple):
    """A request that a model answers, whose owned fields were checked. ``messages``: what is routed and
    measured; none where there is no text. ``body``: the whole object as the client sent it, or as a chat
    completion says it. ``any_length``: no context window is too small for it. ``task``: what the expert
    that answers it is for; None: whatever it is for. ``asker``: the name of its API key, once that is
    known. ``alias``: the name that the client sent, where that is one of ``model``; empty: it is none.
    ``keep_s``: seconds that its expert stays on the device when nobody asks for it any more; None: as
    configured."""

    model: str
    messages: tuple[Mapping[str, Any], ...]
    stream: bool
    body: Mapping[str, Any]
    any_length: bool = False
    task: Task | None = "generate"
    asker: str = ""
    alias: str = ""
    keep_s: float | None = None

    @property
    def sent_model(self) -> str:
        """The name that the client sent."""
        return self.alias or self.model

    def asked_by(self, key: str) -> "ModelRequest":
        """Returns the request with the name of its key: ``_replace`` takes five times as long."""
        return ModelRequest(
            self.model, self.messages, self.stream, self.body, self.any_length, self.task, key, self.alias
        )

    @property
    def wants_usage(self) -> bool:
        """Says whether the client of a stream asked for the event that counts its tokens."""
        options = self.body.get("stream_options")
        return isinstance(options, dict) and bool(options.get("include_usage"))


def parse_object(raw: bytes, fields: str) -> dict[str, Any]:
    """Parses an object. ``fields``: those that it must have, for the error's text. Raises BadRequest."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise BadRequest(f"The body must be a JSON object with {fields}.")
    return body


def parse_chat(raw: bytes) -> ModelRequest:
    """Checks what routing and leasing need. Raises BadRequest, NotCapable naming the field."""
    body = parse_object(raw, "'model' and 'messages'")
    _check_tools(body.get("tools"))
    return chat_of(body)


def chat_of(body: Mapping[str, Any]) -> ModelRequest:
    """Makes the request that ``body`` is. Raises BadRequest naming the field."""
    messages = body.get("messages")
    check_owned(body)
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be a non-empty list of messages.", "messages")
    for position, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequest("Each message must be an object with a 'role'.", f"messages[{position}]")
    return ModelRequest(body["model"], tuple(messages), bool(body.get("stream")), body)


def _check_tools(tools: Any) -> None:
    """Refuses custom tools; a value that is no list is left to the engine to refuse. Raises NotCapable."""
    for position, tool in enumerate(tools if isinstance(tools, list) else ()):
        if isinstance(tool, dict) and tool.get("type") == "custom":
            raise NotCapable(
                "Custom tools are taken in the Responses API, POST /v1/responses. Here declare a function "
                "with one parameter, a text.",
                f"tools[{position}].type",
            )


def check_owned(body: Mapping[str, Any]) -> None:
    """Checks the fields that every request to an engine has. Raises BadRequest naming the field."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("'model' must name a model; GET /v1/models lists them.", "model")
    if not isinstance(body.get("stream"), _FLAG):
        raise BadRequest("'stream' must be true or false.", "stream")
    if body.get("chat_template") is not None:
        raise BadRequest(
            "'chat_template' is refused: each expert is served with its own template; leave it out.",
            "chat_template",
        )
    if not isinstance(body.get("vllm_xargs"), _OBJECT):
        raise BadRequest("'vllm_xargs' must be an object.", "vllm_xargs")
    if not isinstance(body.get("cache_salt"), _TEXT):
        raise BadRequest("'cache_salt' must be a text.", "cache_salt")
    _check_template(body.get("chat_template_kwargs"))


def _check_template(given: Any) -> None:
    """Checks what a template is given: another template beside it would be taken in its place. Raises
    BadRequest."""
    if not isinstance(given, _OBJECT):
        raise BadRequest("'chat_template_kwargs' must be an object.", "chat_template_kwargs")
    if given and given.get("chat_template") is not None:
        raise BadRequest(
            "'chat_template' is refused: each expert is served with its own template; leave it out.",
            "chat_template_kwargs.chat_template",
        )


def engine_chat(request: ModelRequest, expert: Expert) -> dict[str, Any]:
    """Adds the expert's chat template, stop tokens and sampling defaults to the client's body."""
    body = engine_completion(request, expert)
    body["chat_template"] = expert.chat_template
    return body


def engine_completion(request: ModelRequest, expert: Expert) -> dict[str, Any]:
    """Adds the same without a template. A stream is asked to end with its usage, which the gateway counts."""
    generation = expert.generation
    body = dict(request.body)
    for field in _SAMPLING:
        value = getattr(generation, field)
        if value is not None and body.get(field) is None:
            body[field] = value
    longest = generation.max_tokens
    if longest is not None and body.get("max_completion_tokens") is None and body.get("max_tokens") is None:
        body["max_tokens"] = longest
    own_stops = body.get("stop_token_ids")
    # What is not a list is vLLM's to refuse; and these are end-of-text tokens, which ignore_eos is about.
    if isinstance(own_stops, _LIST) and not body.get("ignore_eos"):
        own_stops = own_stops or []
        body["stop_token_ids"] = own_stops + [
            stop for stop in generation.stop_token_ids if stop not in own_stops
        ]
    options = body.get("stream_options")
    if request.stream and isinstance(options, _OBJECT):
        each = {} if request.wants_usage else {"continuous_usage_stats": False}  # vLLM's: with each event
        body["stream_options"] = {**(options or {}), **each, "include_usage": True}
    return body
