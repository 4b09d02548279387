"""Requests of Ollama's API, as far as the gateway reads them. What else is in them has no effect."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from server.config.aliases import Aliases
from server.errors import BadRequest
from server.ollama.keep_alive import seconds_of
from server.validation import problem_of

Asked = TypeVar("Asked", bound="OfModel")
Effort = Literal["low", "medium", "high", "max"]
_LATEST = ":latest"
"""Tag that Ollama puts behind a name without a tag."""


class _Sent(BaseModel):
    """Part of a request. Unknown fields are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)


class Called(_Sent):
    name: str
    arguments: dict[str, Any] = {}


class ToolCall(_Sent):
    function: Called
    id: str | None = None


class Message(_Sent):
    role: str
    content: str | None = None
    thinking: str | None = None
    images: tuple[str, ...] | None = Field(default=None, strict=False)
    tool_calls: tuple[ToolCall, ...] | None = Field(default=None, strict=False)
    tool_name: str | None = None
    tool_call_id: str | None = None


class Options(BaseModel):
    """The options that have an effect. A whole number may be written as 5.0, as JavaScript's clients do."""

    model_config = ConfigDict(frozen=True)

    num_predict: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] | str | None = None


class OfModel(_Sent):
    """Request for a model. ``keep_alive``: seconds."""

    model: Annotated[str, Field(min_length=1)]
    keep_alive: Annotated[float | None, BeforeValidator(seconds_of)] = None


class _Generating(OfModel):
    stream: bool | None = None
    format: str | dict[str, Any] | None = None
    options: Options | None = Field(default=None, strict=False)
    think: bool | Effort | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


class ChatSent(_Generating):
    messages: tuple[Message, ...] | None = Field(default=None, strict=False)
    tools: list[dict[str, Any]] | None = None


class GenerateSent(_Generating):
    prompt: str | None = None
    system: str | None = None
    images: tuple[str, ...] | None = Field(default=None, strict=False)
    raw: bool | None = None
    template: str | None = None
    suffix: str | None = None
    context: list[int] | None = None


class EmbedSent(OfModel):
    input: str | list[str] | None = None
    truncate: bool | None = None
    dimensions: int | None = None


class EmbeddingsSent(OfModel):
    prompt: str | None = None


def asked(model: type[Asked], body: Mapping[str, Any]) -> Asked:
    """Reads a request. Raises BadRequest naming the field."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        problem = problem_of(error)
        raise BadRequest(f"{problem.field}: {problem.reason}.", problem.field) from error


def model_named(name: str, aliases: Aliases) -> str:
    """Returns the model that Ollama's ``name`` is: ``coe:latest`` is ``coe``."""
    bare = name.removesuffix(_LATEST)
    return bare if aliases.is_name(bare) and not aliases.is_name(name) else name


def tagged(name: str) -> str:
    """Returns a model's name as Ollama lists it, which always has a tag."""
    return name if ":" in name else name + _LATEST
