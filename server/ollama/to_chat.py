"""Requests to engines for requests of Ollama's API: chat completions, and completions for raw prompts."""

import base64
import binascii
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from server.errors import BadRequest, NotCapable
from server.ollama.request import ChatSent, GenerateSent, Message, Options

Json = dict[str, Any]
_PICTURES = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp", b"BM": "bmp"}
"""First bytes of a picture, and its type."""
_SAME = ("temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty")
"""Options that engines have under the same name."""


def chat_of(sent: ChatSent, model: str) -> Json:
    """Returns the body of a chat completion. ``model``: the one that is meant. Raises BadRequest, NotCapable
    naming the field."""
    body = _common(sent, model) | {"messages": list(_messages(sent.messages or ()))}
    if sent.tools:
        body["tools"] = [{"type": "function", **tool} for tool in sent.tools]
    return body


def generated_by_chat(sent: GenerateSent, model: str) -> Json:
    """Returns the body of the chat completion that answers a prompt. Raises BadRequest, NotCapable naming the
    field."""
    _check(sent)
    system = [{"role": "system", "content": sent.system}] if sent.system else []
    pictures = _pictures(sent.images or (), "images")
    asked = {"role": "user", "content": _content(sent.prompt or "", pictures)}
    return _common(sent, model) | {"messages": [*system, asked]}


def generated_raw(sent: GenerateSent, model: str) -> Json:
    """Returns the body of the completion that goes on from a prompt as it is. Raises NotCapable."""
    _check(sent)
    for field in ("images", "logprobs"):
        if getattr(sent, field):
            raise NotCapable(f"{field}: not with a raw prompt; leave raw out.", field)
    body = _common(sent, model) | {"prompt": sent.prompt}
    body.pop("chat_template_kwargs", None)
    return body


def _check(sent: GenerateSent) -> None:
    """Raises NotCapable for what no engine does, BadRequest for what is refused."""
    if sent.template:
        raise BadRequest("template: each expert is served with its own template; leave it out.", "template")
    if sent.suffix:
        message = "suffix: no engine here fills in; send a raw prompt with the model's own marks for it."
        raise NotCapable(message, "suffix")
    if sent.context:
        raise NotCapable("context: none is given out; send the conversation to /api/chat.", "context")


def _common(sent: ChatSent | GenerateSent, model: str) -> Json:
    """Returns the fields of both."""
    body: Json = {"model": model, **_sampling(sent.options or Options())}
    if sent.stream is not False:  # Ollama streams unless it is told not to
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if sent.format == "json":
        body["response_format"] = {"type": "json_object"}
    elif isinstance(sent.format, dict):
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "format", "schema": sent.format},
        }
    elif sent.format:
        raise BadRequest("format: it may be 'json' or a JSON schema.", "format")
    if sent.think is not None:
        # The names that chat templates have for it; one that has neither does not think, or always.
        thinks = bool(sent.think)
        body["chat_template_kwargs"] = {"enable_thinking": thinks, "thinking": thinks}
        if isinstance(sent.think, str):
            body["reasoning_effort"] = sent.think
    if sent.logprobs:
        body |= {"logprobs": True, "top_logprobs": sent.top_logprobs or 0}
    return body


def _sampling(options: Options) -> Json:
    found = {name: getattr(options, name) for name in _SAME}
    found["repetition_penalty"] = options.repeat_penalty
    found["stop"] = [*options.stop] if isinstance(options.stop, tuple) else options.stop
    if options.num_predict is not None and options.num_predict > 0:  # else as long as there is room
        found["max_tokens"] = options.num_predict
    return {name: value for name, value in found.items() if value is not None}


def _messages(messages: Sequence[Message]) -> Iterator[Json]:
    """Yields chat messages. Ollama's calls of tools need no ids; their results come in the calls' order."""
    open_calls: list[tuple[str, str]] = []
    for position, message in enumerate(messages):
        if message.role == "tool":
            result = {"role": "tool", "content": message.content or ""}
            yield result | {"tool_call_id": _answered(message, open_calls)}
            continue
        pictures = _pictures(message.images or (), f"messages.{position}.images")
        said: Json = {"role": message.role, "content": _content(message.content or "", pictures)}
        if message.thinking:
            said["reasoning"] = message.thinking
        if message.tool_calls:
            open_calls = [
                (call.id or f"call_{position}_{number}", call.function.name)
                for number, call in enumerate(message.tool_calls)
            ]
            said["tool_calls"] = [
                {
                    "id": id,
                    "type": "function",
                    "function": {"name": name, "arguments": orjson.dumps(call.function.arguments).decode()},
                }
                for (id, name), call in zip(open_calls, message.tool_calls, strict=True)
            ]
        yield said


def _answered(message: Message, open_calls: list[tuple[str, str]]) -> str:
    """Takes the call that a tool's result is of out of ``open_calls``, and returns its id: the one that it
    names, else that of the first call of the tool that it names, else of the first."""
    if message.tool_call_id:
        open_calls[:] = [call for call in open_calls if call[0] != message.tool_call_id]
        return message.tool_call_id
    for place, (id, name) in enumerate(open_calls):
        if message.tool_name in (None, "", name):
            del open_calls[place]
            return id
    return f"call_{message.tool_name or 'unknown'}"


def _content(text: str, pictures: Sequence[Json]) -> str | list[Json]:
    """Returns a text alone as a string, which every template takes."""
    return [*pictures, {"type": "text", "text": text}] if pictures else text


def _pictures(images: Sequence[str], where: str) -> list[Json]:
    """Converts pictures. Raises BadRequest naming the one that is none."""
    found = []
    for position, image in enumerate(images):
        encoded = image.partition(";base64,")[2] if image.startswith("data:") else image
        try:
            first = base64.b64decode(encoded[:16], validate=True)
        except (binascii.Error, ValueError):
            first = b""
        kind = next((kind for mark, kind in _PICTURES.items() if first.startswith(mark)), None)
        if kind is None:
            field = f"{where}.{position}"
            raise BadRequest(f"{field}: it is no picture in base64 (PNG, JPEG, GIF, WebP, BMP).", field)
        found.append({"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{encoded}"}})
    return found
