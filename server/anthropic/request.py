"""Requests of Anthropic's Messages API, as far as the gateway reads them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from server.errors import BadRequest, GatewayError, NotCapable
from server.validation import problem_of

Asked = TypeVar("Asked", bound="ConversationRequest")
_IGNORED = {"cache_control", "container", "context_management", "diagnostics", "inference_geo"} | {
    "service_tier", "speed", "user_profile_id", "workspace_id",
}  # fmt: skip
"""Fields of Anthropic's own that have no effect here."""


class _Sent(BaseModel):
    """Part of a request. Unknown fields, ``cache_control`` among them, are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)


class Base64Source(_Sent):
    type: Literal["base64"]
    media_type: str
    data: str

    @property
    def address(self) -> str:
        return f"data:{self.media_type};base64,{self.data}"


class UrlSource(_Sent):
    type: Literal["url"]
    url: str

    @property
    def address(self) -> str:
        return self.url


class Text(_Sent):
    type: Literal["text"]
    text: str


class Image(_Sent):
    type: Literal["image"]
    source: Annotated[Base64Source | UrlSource, Field(discriminator="type")]


class ToolUse(_Sent):
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class Thinking(_Sent):
    type: Literal["thinking"]
    thinking: str


class RedactedThinking(_Sent):
    """Encrypted thoughts, which cannot be read here."""

    type: Literal["redacted_thinking"]


def _blocks(content: object) -> object:
    """Returns a content as a list of blocks; a text is short for one block."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class ToolResult(_Sent):
    type: Literal["tool_result"]
    tool_use_id: str
    content: Annotated[
        list[Annotated[Text | Image, Field(discriminator="type")]], BeforeValidator(_blocks)
    ] = []
    is_error: bool | None = None


UserBlock = Annotated[Text | Image | ToolResult, Field(discriminator="type")]
AssistantBlock = Annotated[Text | ToolUse | Thinking | RedactedThinking, Field(discriminator="type")]
SystemText = Annotated[list[Text], BeforeValidator(_blocks)]


class UserMessage(_Sent):
    role: Literal["user"]
    content: Annotated[list[UserBlock], BeforeValidator(_blocks)]


class AssistantMessage(_Sent):
    role: Literal["assistant"]
    content: Annotated[list[AssistantBlock], BeforeValidator(_blocks)]


class SystemMessage(_Sent):
    role: Literal["system"]
    content: SystemText


Message = Annotated[UserMessage | AssistantMessage | SystemMessage, Field(discriminator="role")]


class Tool(_Sent):
    type: str | None = None
    name: str
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None


class ToolChoice(_Sent):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False


class ThinkingConfig(_Sent):
    type: Literal["enabled", "adaptive", "between_tools", "disabled"]


class JsonFormat(_Sent):
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(_Sent):
    effort: str | None = None
    format: JsonFormat | None = None


class Metadata(_Sent):
    user_id: str | None = None


class ConversationRequest(_Sent):
    """Base of requests for a message and for counting its tokens."""

    model: str
    messages: list[Message] = Field(min_length=1)
    system: SystemText = []
    tools: list[Tool] = []
    tool_choice: ToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig = OutputConfig()
    chat_template_kwargs: dict[str, Any] = {}
    """vLLM's."""

    @field_validator("tools", mode="before")
    @classmethod
    def _ours_to_declare(cls, tools: object) -> object:
        """Checks that all tools are the client's: one with a type is one that Anthropic runs, or whose schema
        it knows."""
        for tool in tools if isinstance(tools, list) else ():
            kind = tool.get("type") if isinstance(tool, dict) else None
            if kind not in (None, "custom"):
                raise ValueError(
                    f"the tool type {str(kind)[:100]!r} is not run here: declare tools of your own, with "
                    "name, description and input_schema"
                )
        return tools


class MessagesRequest(ConversationRequest):
    """``POST /v1/messages``. Fields that it has not are extras for the engine."""

    model_config = ConfigDict(extra="allow")

    max_tokens: int = Field(ge=1)
    stop_sequences: list[str] = []
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    metadata: Metadata = Metadata()
    stream: bool = False

    @property
    def extras(self) -> Mapping[str, Any]:
        return {name: value for name, value in (self.model_extra or {}).items() if name not in _IGNORED}


def asked(kind: type[Asked], body: Mapping[str, Any]) -> Asked:
    """Parses ``body`` as a ``kind``. Raises BadRequest naming the field, NotCapable. A null is a field left
    out."""
    try:
        return kind.model_validate({name: value for name, value in body.items() if value is not None})
    except ValidationError as error:
        raise _refusal(error) from error


def _refusal(error: ValidationError) -> GatewayError:
    problem = problem_of(error)
    field = problem.field
    if problem.kind != "union_tag_invalid":
        return BadRequest(f"{field}: {problem.reason}.", field)
    tag, expected = str(problem.context["tag"])[:100], problem.context["expected_tags"]
    if tag in ("document", "search_result", "container_upload", "file"):
        return NotCapable(
            f"{field}: {tag!r} needs files, which are not taken here; send their text in a text block.", field
        )
    return BadRequest(f"{field}: {tag!r} is not taken here; it may be {expected}.", field)
