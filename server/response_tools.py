"""The tools of a response, which are functions of the client's, and which of them may be called."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.errors import BadRequest, NotCapable


@dataclass(frozen=True, slots=True)
class Tools:
    """``shown`` and ``choice``: as a response shows them. ``chat`` and ``chat_choice``: as a chat completion
    takes them; ``chat`` leaves out what may not be called."""

    shown: list[dict[str, Any]]
    choice: str | dict[str, Any]
    chat: list[dict[str, Any]]
    chat_choice: str | dict[str, Any]

    @classmethod
    def of(cls, tools: list[Any] | None, choice: str | Mapping[str, Any] | None) -> "Tools":
        """Raises NotCapable and BadRequest naming the field."""
        shown = [_shown(tool, f"tools[{position}]") for position, tool in enumerate(tools or ())]
        names = [tool["name"] for tool in shown]
        match choice:
            case None:
                return cls(shown, "auto", _chat(shown), "auto")
            case str():
                if choice == "required" and not shown:
                    raise BadRequest("'tool_choice' is required, and there are no 'tools'.", "tool_choice")
                return cls(shown, choice, _chat(shown), choice)
            case {"type": "function", "name": str(name)} if name in names:
                chosen = {"type": "function", "name": name}
                return cls(shown, chosen, _chat(shown), {"type": "function", "function": {"name": name}})
            case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": list() as allowed}:
                given = [_allowed(tool, names) for tool in allowed]
                restricted = {"type": "allowed_tools", "mode": mode, "tools": allowed}
                return cls(shown, restricted, _chat([tool for tool in shown if tool["name"] in given]), mode)
            case {"type": "function"}:
                raise BadRequest("'tool_choice' names no function of 'tools'.", "tool_choice")
            case {"type": str(kind)} if kind != "allowed_tools":
                raise _not_run(kind, "tool_choice")
        raise BadRequest(
            "'tool_choice' is auto, none, required, a function of 'tools', or allowed_tools with 'mode' "
            "(auto or required) and 'tools'.",
            "tool_choice",
        )

    def chat_fields(self) -> dict[str, Any]:
        """Of a chat completion's body. None without tools, for which there is nothing to choose."""
        return {"tools": self.chat, "tool_choice": self.chat_choice} if self.chat else {}


def _shown(tool: Any, param: str) -> dict[str, Any]:
    match tool:
        case {"type": "function", "name": str(name)} if name:
            for field, kind in (("parameters", dict), ("strict", bool), ("description", str)):
                if not isinstance(tool.get(field), kind | None):
                    raise BadRequest(f"{field!r} is not of the right type.", f"{param}.{field}")
            fields = {field: tool.get(field) for field in ("description", "parameters", "strict")}
            return {"type": "function", "name": name, **fields}
        case {"type": "function"}:
            raise BadRequest("A function has a 'name'.", f"{param}.name")
        case {"type": str(kind)}:
            raise _not_run(kind, param)
    raise BadRequest("A tool has a 'type', which is function, and a 'name'.", param)


def _chat(shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "type": "function",
            "function": {
                field: value for field, value in tool.items() if field != "type" and value is not None
            },
        }
        for tool in shown
    ]


def _allowed(tool: Any, names: list[str]) -> str:
    match tool:
        case {"type": "function", "name": str(name)} if name in names:
            return name
    raise BadRequest("'tool_choice.tools' names functions of 'tools'.", "tool_choice")


def _not_run(kind: str, param: str) -> NotCapable:
    return NotCapable(
        f"Tools of the type {kind[:100]!r} are not run here: only function, which the client runs itself.",
        param,
    )
