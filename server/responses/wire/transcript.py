"""The items of a conversation as the messages of a chat, which is what an expert's template takes."""

from collections.abc import Sequence
from typing import Any

from server.errors import BadRequest
from server.responses.wire.custom_tool_input import arguments_of
from server.responses.wire.items import Item

Message = dict[str, Any]


class Transcript:
    """``messages``: what was added so far. A turn of the assistant, which OpenAI cuts into items (what it
    thought, said and called), is one message again. What stands before everything else as instructions is one
    message too: many templates take only one."""

    def __init__(self, instructions: str | None) -> None:
        self.messages: list[Message] = []
        self._calls: set[str] = set()
        if instructions is not None:
            self._instruct(instructions)

    def add(self, item: Item, param: str) -> None:
        """``item``: as ``input_items`` makes it. ``param``: where the client sent it. Raises BadRequest."""
        match item["type"]:
            case "message" if item["role"] in ("system", "developer"):
                self._instruct(_content(item["content"], "\n"))
            case "message" if item["role"] == "assistant":
                self._turn("content", "tool_calls")["content"] = _content(item["content"], "")
            case "message":
                self.messages.append({"role": item["role"], "content": _content(item["content"], None)})
            case "reasoning":
                self._turn("content", "tool_calls", "reasoning")["reasoning"] = _thought(item)
            case "function_call":
                self._call(item, item["arguments"])
            case "custom_tool_call":
                self._call(item, arguments_of(item["input"]))
            case "function_call_output" | "custom_tool_call_output" as kind:
                if item["call_id"] not in self._calls:
                    what = kind.replace("_", " ")
                    raise BadRequest(
                        f"No tool call found for {what} with call_id {item['call_id'][:100]}.", param
                    )
                output = item["output"]
                content = output if isinstance(output, str) else _content(output, "\n")
                self.messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": content})

    def _instruct(self, content: Any) -> None:
        match self.messages:
            case [{"role": "system", "content": str(before)}] if isinstance(content, str):
                self.messages[0]["content"] = f"{before}\n\n{content}"
            case _:
                self.messages.append({"role": "system", "content": content})

    def _call(self, item: Item, arguments: str) -> None:
        self._calls.add(item["call_id"])
        function = {"name": item["name"], "arguments": arguments}
        call = {"id": item["call_id"], "type": "function", "function": function}
        self._turn().setdefault("tool_calls", []).append(call)

    def _turn(self, *absent: str) -> Message:
        """The assistant's message that is under way; another one if it has any of ``absent``."""
        last = self.messages[-1] if self.messages else None
        if last is None or last["role"] != "assistant" or any(field in last for field in absent):
            last = {"role": "assistant"}
            self.messages.append(last)
        return last


def _content(parts: Sequence[Item], between: str | None) -> Any:
    """A text where all of ``parts`` are: one part, or several if there is something to put ``between``."""
    texts = [part.get("text", part.get("refusal")) for part in parts]
    if all(isinstance(text, str) for text in texts) and (between is not None or len(texts) == 1):
        return (between or "").join(texts)
    return [_part(part) for part in parts]


def _part(part: Item) -> dict[str, Any]:
    match part["type"]:
        case "input_image":
            detail = "high" if part["detail"] == "original" else part["detail"]  # a chat has no other word
            return {"type": "image_url", "image_url": {"url": part["image_url"], "detail": detail}}
        case "input_file":
            return {"type": "file", "file": {name: part[name] for name in part if name != "type"}}
        case _:
            return {"type": "text", "text": part.get("text", part.get("refusal"))}


def _thought(item: Item) -> str:
    return "\n".join(part["text"] for part in item.get("content") or item["summary"])
