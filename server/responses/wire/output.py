"""Output items of a response while they come: messages, reasoning, tool calls."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from server.responses.wire.custom_tool_input import ToolInput

Event = dict[str, Any]
Logprobs = Sequence[Mapping[str, Any]]


class Output(Protocol):
    """One output item. Its events have no number yet."""

    @property
    def item(self) -> dict[str, Any]: ...

    def opened(self) -> Iterator[Event]: ...

    def add(self, text: str, logprobs: Logprobs) -> Iterator[Event]: ...

    def closed(self, status: str) -> Iterator[Event]: ...


class _Text(ABC):
    """The common part of a message and a thought: one part of text. ``index``: its place in the output.
    ``hex``: of the response's id, which an item's id begins with, so that the item's id leads to the
    response."""

    prefix: str
    words: str
    """Part between ``response.`` and ``.delta`` in the names of its events."""

    def __init__(self, index: int, hex: str) -> None:
        self._index = index
        self._id = f"{self.prefix}_{hex}{index:04x}"
        self._text = ""
        self._status = "in_progress"
        self._logprobs: list[dict[str, Any]] = []
        self._begun = False

    @property
    @abstractmethod
    def item(self) -> dict[str, Any]: ...

    @abstractmethod
    def part(self) -> dict[str, Any]: ...

    def opened(self) -> Iterator[Event]:
        yield {"type": "response.output_item.added", "output_index": self._index, "item": self.item}
        self._begun = True
        yield {"type": "response.content_part.added", **self._place(), "part": self.part()}

    def add(self, text: str, logprobs: Logprobs) -> Iterator[Event]:
        self._text += text
        new = [_logprob(each) for each in logprobs]
        self._logprobs += new
        yield {"type": f"response.{self.words}.delta", **self._place(), "delta": text, **self.shown(new)}

    def closed(self, status: str) -> Iterator[Event]:
        self._status = status
        text = {"text": self._text, **self.shown(self._logprobs)}
        yield {"type": f"response.{self.words}.done", **self._place(), **text}
        yield {"type": "response.content_part.done", **self._place(), "part": self.part()}
        yield {"type": "response.output_item.done", "output_index": self._index, "item": self.item}

    def shown(self, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
        """Returns the events' field for ``logprobs``."""
        return {}

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._id, "output_index": self._index, "content_index": 0}


class Message(_Text):
    """Implements ``Output``."""

    prefix = "msg"
    words = "output_text"

    @property
    def item(self) -> dict[str, Any]:
        content = [self.part()] if self._begun else []
        fields = {"status": self._status, "role": "assistant", "content": content}
        return {"id": self._id, "type": "message", **fields}

    def part(self) -> dict[str, Any]:
        return {"type": "output_text", "text": self._text, "annotations": [], "logprobs": [*self._logprobs]}

    def shown(self, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
        return {"logprobs": logprobs}


class Thought(_Text):
    """Implements ``Output``: reasoning, as the engine's parser tells it from the answer."""

    prefix = "rs"
    words = "reasoning_text"

    @property
    def item(self) -> dict[str, Any]:
        content = [self.part()] if self._begun else []
        fields = {"summary": [], "content": content, "encrypted_content": None, "status": self._status}
        return {"id": self._id, "type": "reasoning", **fields}

    def part(self) -> dict[str, Any]:
        return {"type": "reasoning_text", "text": self._text}


class Call:
    """Implements ``Output``."""

    def __init__(self, index: int, hex: str, call_id: str, name: str) -> None:
        self._index = index
        self._id = f"fc_{hex}{index:04x}"
        self._call_id = call_id
        self._name = name
        self._arguments = ""
        self._status = "in_progress"

    @property
    def item(self) -> dict[str, Any]:
        call = {"call_id": self._call_id, "name": self._name, "arguments": self._arguments}
        return {"id": self._id, "type": "function_call", "status": self._status, **call}

    def opened(self) -> Iterator[Event]:
        yield {"type": "response.output_item.added", "output_index": self._index, "item": self.item}

    def add(self, text: str, logprobs: Logprobs) -> Iterator[Event]:
        self._arguments += text
        yield {"type": "response.function_call_arguments.delta", **self._place(), "delta": text}

    def closed(self, status: str) -> Iterator[Event]:
        self._status = status
        said = {"arguments": self._arguments, "name": self._name}
        yield {"type": "response.function_call_arguments.done", **self._place(), **said}
        yield {"type": "response.output_item.done", "output_index": self._index, "item": self.item}

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._id, "output_index": self._index}


class CustomCall:
    """Implements ``Output``: a call of a custom tool, which to the expert is a function with one text."""

    def __init__(self, index: int, hex: str, call_id: str, name: str) -> None:
        self._index = index
        self._id = f"ctc_{hex}{index:04x}"
        self._call_id = call_id
        self._name = name
        self._input = ToolInput()
        self._status = "in_progress"

    @property
    def item(self) -> dict[str, Any]:
        call = {"call_id": self._call_id, "name": self._name, "input": self._input.text}
        return {"id": self._id, "type": "custom_tool_call", "status": self._status, **call}

    def opened(self) -> Iterator[Event]:
        yield {"type": "response.output_item.added", "output_index": self._index, "item": self.item}

    def add(self, text: str, logprobs: Logprobs) -> Iterator[Event]:
        """``text``: of the arguments."""
        yield from self._more(self._input.add(text))

    def closed(self, status: str) -> Iterator[Event]:
        yield from self._more(self._input.end())
        self._status = status
        done = {"type": "response.custom_tool_call_input.done", "input": self._input.text}
        yield {**done, **self._place()}
        yield {"type": "response.output_item.done", "output_index": self._index, "item": self.item}

    def _more(self, delta: str) -> Iterator[Event]:
        if delta:
            yield {"type": "response.custom_tool_call_input.delta", **self._place(), "delta": delta}

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._id, "output_index": self._index}


def _logprob(each: Mapping[str, Any]) -> dict[str, Any]:
    top = [_token(other) for other in each.get("top_logprobs") or ()]
    return {**_token(each), "top_logprobs": top}


def _token(each: Mapping[str, Any]) -> dict[str, Any]:
    return {"token": each["token"], "logprob": each["logprob"], "bytes": each.get("bytes") or []}
