"""The free text that a custom tool is called with, read out of the JSON that an engine's function call is.

An expert knows functions alone, so a custom tool is one with a single parameter, a text.
"""

import json
import re
from typing import Any

import orjson

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "What the tool takes, as plain text."}},
    "required": ["input"],
    "additionalProperties": False,
}
_BEGIN = re.compile(r'\s*\{\s*"input"\s*:\s*"')
_WHOLE = re.compile(
    r'(?:[^"\\]+|\\["\\/bfnrt]|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}'
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*"
)
"""Characters of a text in JSON, as far as each is there whole; two halves are one."""


def arguments_of(text: str) -> str:
    """The arguments of the function call that a call with ``text`` is."""
    return orjson.dumps({"input": text}).decode()


class ToolInput:
    """``text``: what there is of it so far."""

    def __init__(self) -> None:
        self.text = ""
        self._arguments = ""
        self._at: int | None = None  # where of the arguments the text goes on; None: it has not begun

    def add(self, piece: str) -> str:
        """A piece of the arguments. Gives back what it adds to the text."""
        self._arguments += piece
        if self._at is None:
            begin = _BEGIN.match(self._arguments)
            if begin is None:
                return ""
            self._at = begin.end()
        found = _WHOLE.match(self._arguments, self._at)
        assert found is not None, "nothing is a match too"
        self._at = found.end()
        return self._grown(json.loads(f'"{found[0]}"', strict=False))

    def end(self) -> str:
        """The arguments are there. Gives back what is still missing: all of them where they are not what was
        asked for, as they may be a text all the same."""
        try:
            parsed = json.loads(self._arguments, strict=False)
        except ValueError:
            parsed = None
        match parsed:
            case {"input": str(text)} if text.startswith(self.text):
                return self._grown(text[len(self.text) :])
        return self._grown(self._arguments) if self._at is None else ""

    def _grown(self, text: str) -> str:
        whole = text.encode("utf-8", "replace").decode()  # a half of a character cannot be sent
        self.text += whole
        return whole
