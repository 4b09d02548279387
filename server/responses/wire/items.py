"""Items of a conversation as clients send them, checked and in one form.

OpenAI lets clients write a message short: a text for its content, no type. Here each item has its type, and
each content is a list of parts, as it is kept and shown again.
"""

from collections.abc import Mapping
from typing import Any

from server.errors import BadRequest, NotCapable

Item = Mapping[str, Any]
"""Item as OpenAI words it."""
_TEXTS = ("input_text", "output_text", "text")


def input_items(given: str | list[Any] | None) -> list[dict[str, Any]]:
    """Reads the items of ``input``. References are left as they are. Raises BadRequest and NotCapable naming
    the item."""
    if given is None:
        return []
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    return [_item(item, f"input[{position}]") for position, item in enumerate(given)]


def reference(item: Item) -> str | None:
    """Returns the id that a reference names. None: ``item`` is no reference."""
    return str(item["id"]) if item["type"] == "item_reference" else None


def _item(item: Any, param: str) -> dict[str, Any]:
    own_id = {"id": item["id"]} if isinstance(item, dict) and isinstance(item.get("id"), str) else {}
    match item:
        case {"type": "item_reference", "id": str(id)}:
            return {"type": "item_reference", "id": id}
        case {"type": "function_call", "call_id": str(call), "name": str(name), "arguments": str(arguments)}:
            call_fields = {"call_id": call, "name": name, "arguments": arguments}
            return {**own_id, "type": "function_call", **call_fields, "status": "completed"}
        case {"type": "custom_tool_call", "call_id": str(call), "name": str(name), "input": str(text)}:
            call_fields = {"call_id": call, "name": name, "input": text}
            return {**own_id, "type": "custom_tool_call", **call_fields, "status": "completed"}
        case {
            "type": "function_call_output" | "custom_tool_call_output" as kind,
            "call_id": str(call),
            "output": output,
        }:
            said = output if isinstance(output, str) else _parts(output, "user", f"{param}.output")
            fields = {"call_id": call, "output": said, "status": "completed"}
            return {**own_id, "type": kind, **fields}
        case {"type": "reasoning", "summary": list() as summary}:
            fields = {"summary": _texts(summary, "summary_text", f"{param}.summary")}
            if item.get("content") is not None:
                fields["content"] = _texts(item["content"], "reasoning_text", f"{param}.content")
            return {**own_id, "type": "reasoning", **fields}
        case {"role": "user" | "assistant" | "system" | "developer" as role, "content": content} if (
            item.get("type", "message") == "message"
        ):
            parts = _parts(content, role, f"{param}.content")
            return {**own_id, "type": "message", "role": role, "content": parts, "status": "completed"}
        case {"id": str(id), **rest} if not rest:
            return {"type": "item_reference", "id": id}
        case {"type": str(kind)} if kind not in _KINDS:
            raise NotCapable(f"Items of the type {kind[:100]!r} are not taken here: {_TAKEN}.", param)
        case {"type": str(kind)} if kind != "message":
            raise BadRequest(f"An item of the type {kind!r} has {_KINDS[kind]}.", param)
    raise BadRequest(
        "An item is a message with 'role' (user, assistant, system or developer) and 'content', or has "
        f"another 'type'; taken are {_TAKEN}.",
        param,
    )


_KINDS = {
    "message": "a 'role' and a 'content'",
    "function_call": "the texts 'call_id', 'name' and 'arguments'",
    "function_call_output": "'call_id', a text, and 'output'",
    "custom_tool_call": "the texts 'call_id', 'name' and 'input'",
    "custom_tool_call_output": "'call_id', a text, and 'output'",
    "reasoning": "'summary', a list",
    "item_reference": "'id', a text",
}
_TAKEN = ", ".join(_KINDS)


def _parts(content: Any, role: str, param: str) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [_text(content, role)]
    if not isinstance(content, list):
        raise BadRequest("A content is a text or a list of parts.", param)
    return [_part(part, role, f"{param}[{position}]") for position, part in enumerate(content)]


def _text(text: str, role: str) -> dict[str, Any]:
    if role == "assistant":
        return {"type": "output_text", "text": text, "annotations": []}
    return {"type": "input_text", "text": text}


def _part(part: Any, role: str, param: str) -> dict[str, Any]:
    match part:
        case {"type": str(kind), "text": str(text)} if kind in _TEXTS:
            return _text(text, role)
        case {"type": "refusal", "refusal": str(refusal)} if role == "assistant":
            return {"type": "refusal", "refusal": refusal}
        case {"type": "input_image" | "input_file" as kind, "file_id": str()}:
            raise NotCapable(f"Files that were uploaded are not read: send the {kind[6:]} itself.", param)
        case {"type": "input_file", "file_url": str()}:
            raise NotCapable("Files are not fetched: send 'file_data'.", param)
        case {"type": "input_image", "image_url": str(url)} if role != "assistant":
            detail = part.get("detail")
            if detail not in (None, "low", "high", "auto", "original"):
                raise BadRequest("'detail' is low, high, auto or original.", f"{param}.detail")
            return {"type": "input_image", "image_url": url, "detail": detail or "auto"}
        case {"type": "input_file", "file_data": str(data)} if role != "assistant":
            name = {"filename": part["filename"]} if isinstance(part.get("filename"), str) else {}
            return {"type": "input_file", "file_data": data, **name}
    raise BadRequest(
        "A part of a content has 'type': input_text or output_text with 'text', input_image with "
        "'image_url', input_file with 'file_data', or an assistant's refusal with 'refusal'.",
        param,
    )


def _texts(parts: Any, kind: str, param: str) -> list[dict[str, Any]]:
    match parts:
        case list() if all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts):
            return [{"type": kind, "text": part["text"]} for part in parts]
    raise BadRequest(f"This is a list of parts with 'type' ({kind}) and 'text'.", param)
