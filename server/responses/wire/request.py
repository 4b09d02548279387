"""Requests of ``/v1/responses``, and the chat completions that answer them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.error_table import Failure
from server.errors import BadRequest, NotCapable
from server.model_request import ModelRequest, chat_of, check_owned, parse_object
from server.responses.wire.items import Item
from server.responses.wire.tools import Tools
from server.responses.wire.transcript import Transcript
from server.validation import problem_of

_ELSEWHERE = {
    "messages": "'input'",
    "max_tokens": "'max_output_tokens'",
    "max_completion_tokens": "'max_output_tokens'",
    "response_format": "'text.format'",
    "reasoning_effort": "'reasoning.effort'",
    "logprobs": "'top_logprobs'",
    "functions": "'tools'",
    "function_call": "'tool_choice'",
    "n": "several requests",
}
"""Fields of a chat completion, and their counterparts here."""
_REFUSED = {
    "conversation": "conversations are not kept: use 'previous_response_id'",
    "prompt": "prompt templates are not kept: send the text",
    "context_management": "conversations are not compacted",
    "moderation": "nothing is moderated",
}
_PARAMS = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "truncate_prompt_tokens": "truncation",
}
"""Fields of the chat completion, and where the client said it."""
LOGPROBS = "message.output_text.logprobs"


class _Wire(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


class TextConfig(_Wire):
    format: dict[str, Any] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(_Wire):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


_Key = Annotated[str, Field(max_length=64)]
_Value = Annotated[str, Field(max_length=512)]


class ResponsesRequest(_Wire):
    """OpenAI's request. Fields that it does not name are the engine's to take or refuse."""

    model: str
    input: str | list[Any] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: list[Any] | None = None
    tool_choice: Literal["auto", "none", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: int | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    include: list[str] | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    metadata: dict[_Key, _Value] | None = Field(default=None, max_length=16)
    store: bool | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    background: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    service_tier: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @property
    def kept(self) -> bool:
        return self.store is not False

    @property
    def wants_logprobs(self) -> bool:
        return bool(self.top_logprobs) or LOGPROBS in (self.include or ())


def read_request(raw: bytes) -> ResponsesRequest:
    """Reads a request. Raises BadRequest and NotCapable naming the field."""
    body = parse_object(raw, "'model' and 'input'")
    check_owned(body)
    for field, instead in _ELSEWHERE.items():
        if body.get(field) is not None:
            raise BadRequest(f"Unsupported parameter: {field!r}. In the Responses API use {instead}.", field)
    for field, why in _REFUSED.items():
        if body.get(field):
            raise NotCapable(f"{field!r} is not served here: {why}.", field)
    try:
        asked = ResponsesRequest.model_validate(body)
    except ValidationError as error:
        problem = problem_of(error)
        nested = problem.location[0] in ("text", "reasoning", "metadata")
        param = ".".join(map(str, problem.location[: 2 if nested else 1]))
        raise BadRequest(f"{param}: {problem.reason}.", param) from error
    if asked.background and not asked.kept:
        raise BadRequest("A response made in the background is kept: leave out 'store'.", "store")
    if not asked.input and asked.previous_response_id is None:
        raise BadRequest("'input' must be a text or a list of items.", "input")
    return asked


def chat_request(
    asked: ResponsesRequest, tools: Tools, earlier: Sequence[Item], items: Sequence[Item]
) -> ModelRequest:
    """Builds the chat completion. ``earlier``: the items that ``previous_response_id`` stands for. ``items``:
    those of ``input``. Raises BadRequest."""
    transcript = Transcript(asked.instructions)
    for item in earlier:
        transcript.add(item, "previous_response_id")
    for position, item in enumerate(items):
        transcript.add(item, f"input[{position}]")
    body: dict[str, Any] = {
        **(asked.model_extra or {}),
        "model": asked.model,
        "messages": transcript.messages,
    }
    body |= _given(
        {
            "temperature": asked.temperature,
            "top_p": asked.top_p,
            "max_completion_tokens": asked.max_output_tokens,
            "user": asked.user,
        }
    )
    body |= tools.chat_fields()
    if tools.chat and asked.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = asked.parallel_tool_calls
    if asked.text is not None:
        body |= _given({"response_format": _format(asked.text.format), "verbosity": asked.text.verbosity})
    if asked.reasoning is not None and asked.reasoning.effort is not None:
        body["reasoning_effort"] = asked.reasoning.effort
    if asked.wants_logprobs:
        body |= {"logprobs": True, "top_logprobs": asked.top_logprobs or 0}
    if asked.truncation == "auto":
        body |= {"truncate_prompt_tokens": -1, "truncation_side": "left"}
    if asked.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return chat_of(body)


def echo(asked: ResponsesRequest, tools: Tools, engine_body: Mapping[str, Any]) -> dict[str, Any]:
    """Repeats in a response what its request said. ``engine_body``: with the expert's own defaults."""
    text = {} if asked.text is None else asked.text.model_dump(exclude_none=True)
    reasoning = {} if asked.reasoning is None else asked.reasoning.model_dump()
    return {
        "background": asked.background or False,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "max_tool_calls": asked.max_tool_calls,
        "metadata": asked.metadata or {},
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "previous_response_id": asked.previous_response_id,
        "prompt_cache_key": asked.prompt_cache_key,
        "reasoning": {"effort": None, "summary": None} | reasoning,
        "safety_identifier": asked.safety_identifier,
        "service_tier": "default",
        "store": asked.kept,
        "temperature": engine_body.get("temperature", 1.0),
        "text": {"format": {"type": "text"}} | text,
        "tool_choice": tools.choice,
        "tools": tools.shown,
        "top_logprobs": asked.top_logprobs or 0,
        "top_p": engine_body.get("top_p", 1.0),
        "truncation": asked.truncation or "disabled",
        "user": asked.user,
    }


def renamed(failure: Failure) -> Failure:
    """Renames the field at fault as the client called it."""
    field = (failure.param or "").partition("[")[0]
    return replace(failure, param=_PARAMS[field]) if field in _PARAMS else failure


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _format(format: Mapping[str, Any] | None) -> dict[str, Any] | None:
    match format:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return {"type": "json_object"}
        case {"type": "json_schema", "name": str(), "schema": dict()}:
            fields = ("name", "description", "schema", "strict")
            schema = {field: format[field] for field in fields if format.get(field) is not None}
            return {"type": "json_schema", "json_schema": schema}
    raise BadRequest(
        "'text.format' has 'type': text, json_object, or json_schema with 'name' and 'schema'.", "text.format"
    )
