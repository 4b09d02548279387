"""Tools of a response, which its client runs, and which of them may be called."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.errors import BadRequest, NotCapable
from server.responses.wire.custom_tool_input import PARAMETERS


@dataclass(frozen=True, slots=True)
class Tools:
    """Tools in two forms. ``shown`` and ``choice``: as a response shows them. ``chat`` and ``chat_choice``:
    as a chat completion takes them; ``chat`` leaves out those that may not be called."""

    shown: list[dict[str, Any]]
    choice: str | dict[str, Any]
    chat: list[dict[str, Any]]
    chat_choice: str | dict[str, Any]

    @classmethod
    def of(cls, tools: list[Any] | None, choice: str | Mapping[str, Any] | None) -> "Tools":
        """Reads the tools and the choice. Raises NotCapable and BadRequest naming the field."""
        shown = [_shown(tool, f"tools[{position}]") for position, tool in enumerate(tools or ())]
        match choice:
            case None:
                return cls(shown, "auto", _chat(shown), "auto")
            case str():
                if choice == "required" and not shown:
                    raise BadRequest("'tool_choice' is required, and there are no 'tools'.", "tool_choice")
                return cls(shown, choice, _chat(shown), choice)
            case {"type": "function" | "custom", "name": str(name)} if _named(shown, choice):
                chosen = {"type": choice["type"], "name": name}
                return cls(shown, chosen, _chat(shown), {"type": "function", "function": {"name": name}})
            case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": list() as allowed}:
                given = [tool for each in allowed for tool in _allowed(shown, each)]
                restricted = {"type": "allowed_tools", "mode": mode, "tools": allowed}
                return cls(shown, restricted, _chat([tool for tool in shown if tool in given]), mode)
            case {"type": "function" | "custom"}:
                raise BadRequest("'tool_choice' names no tool of 'tools'.", "tool_choice")
            case {"type": str(kind)} if kind != "allowed_tools":
                raise _not_run(kind, "tool_choice")
        raise BadRequest(
            "'tool_choice' is auto, none, required, a tool of 'tools', or allowed_tools with 'mode' "
            "(auto or required) and 'tools'.",
            "tool_choice",
        )

    def chat_fields(self) -> dict[str, Any]:
        """Returns the fields of a chat completion's body. Empty without tools, for which there is nothing to
        choose."""
        return {"tools": self.chat, "tool_choice": self.chat_choice} if self.chat else {}


def _shown(tool: Any, param: str) -> dict[str, Any]:
    match tool:
        case {"type": "function", "name": str(name)} if name:
            for field, kind in (("parameters", dict), ("strict", bool), ("description", str)):
                if not isinstance(tool.get(field), kind | None):
                    raise BadRequest(f"{field!r} is not of the right type.", f"{param}.{field}")
            fields = {field: tool.get(field) for field in ("description", "parameters", "strict")}
            return {"type": "function", "name": name, **fields}
        case {"type": "custom", "name": str(name)} if name:
            if not isinstance(tool.get("description"), str | None):
                raise BadRequest("'description' is not of the right type.", f"{param}.description")
            _check_format(tool.get("format"), f"{param}.format")
            description = tool.get("description")
            return {"type": "custom", "name": name, "description": description, "format": {"type": "text"}}
        case {"type": "function" | "custom" as kind}:
            raise BadRequest(f"A {kind} tool has a 'name'.", f"{param}.name")
        case {"type": str(kind)}:
            raise _not_run(kind, param)
    raise BadRequest("A tool has a 'type', which is function or custom, and a 'name'.", param)


def _check_format(format: Any, param: str) -> None:
    match format:
        case None | {"type": "text"}:
            return
        case {"type": "grammar"}:
            raise NotCapable(
                "A custom tool's input is not held to a grammar here. Leave 'format' out and say in "
                "'description' what the tool takes, or declare a function whose 'parameters' say it (of a "
                "text for example its 'pattern' or 'enum').",
                param,
            )
    raise BadRequest("The format of a custom tool has the 'type' text.", param)


def _chat(shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "function", "function": _function(tool)} for tool in shown]


def _function(tool: Mapping[str, Any]) -> dict[str, Any]:
    fields = {"name": tool["name"], "description": tool["description"]}
    if tool["type"] == "custom":
        fields |= {"parameters": PARAMETERS, "strict": True}
    else:
        fields |= {"parameters": tool["parameters"], "strict": tool["strict"]}
    return {field: value for field, value in fields.items() if value is not None}


def _named(shown: list[dict[str, Any]], tool: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Finds the tools that ``tool`` names."""
    return [each for each in shown if (each["type"], each["name"]) == (tool["type"], tool["name"])]


def _allowed(shown: list[dict[str, Any]], tool: Any) -> list[dict[str, Any]]:
    match tool:
        case {"type": str(), "name": str()}:
            found = _named(shown, tool)
            if found:
                return found
    raise BadRequest("'tool_choice.tools' names tools of 'tools'.", "tool_choice")


def _not_run(kind: str, param: str) -> NotCapable:
    return NotCapable(
        f"Tools of the type {kind[:100]!r} are not run here: only function and custom, which the client runs "
        "itself.",
        param,
    )
