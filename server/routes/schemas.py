"""Models of bodies that pass through, for /openapi.json; no request is checked with them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from server.transport.json_body import body_schema
from server.transport.streaming import SSE

Message = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "required": ["role"],
            "properties": {
                "role": {"type": "string"},
                "content": {"anyOf": [{"type": "string"}, {"type": "array"}, {"type": "null"}]},
            },
        }
    ),
]


class ErrorDetail(BaseModel):
    """Error in OpenAI's form. ``param``: the field at fault."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every refusal and failure."""

    error: ErrorDetail


class AnthropicDetail(BaseModel):
    """Error in Anthropic's form."""

    type: str
    message: str


class AnthropicError(BaseModel):
    """The body of a refusal or failure in Anthropic's API."""

    type: Literal["error"]
    error: AnthropicDetail


class _Asked(BaseModel):
    """Request to an engine. Any other field that vLLM knows is taken too."""

    model_config = ConfigDict(extra="allow")

    model: Annotated[str, Field(min_length=1)]


class _Generated(_Asked):
    """Request for generated text. Any other field that vLLM knows is taken too."""

    stream: bool | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    stop: str | list[str] | None = None


class ChatSent(_Generated):
    """OpenAI's request for a chat completion. Any other field that vLLM knows is taken too."""

    messages: Annotated[list[Message], Field(min_length=1)]


class CompletionSent(_Generated):
    """OpenAI's request for a completion. Any other field that vLLM knows is taken too."""

    prompt: str | Annotated[list[str], Field(min_length=1)] | Annotated[list[int], Field(min_length=1)]


class EmbeddingsSent(_Asked):
    """OpenAI's request for embeddings. Any other field that vLLM knows is taken too."""

    input: (
        str
        | Annotated[list[str], Field(min_length=1)]
        | Annotated[list[int], Field(min_length=1)]
        | Annotated[list[Annotated[list[int], Field(min_length=1)]], Field(min_length=1)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None


class ResponseSent(_Asked):
    """OpenAI's request for a response. Any other field that vLLM knows is taken too."""

    input: str | Annotated[list[Message], Field(min_length=1)]
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None


class MessageSent(_Asked):
    """Anthropic's request for a message."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)]
    system: str | None = None
    stream: bool | None = None


class RerankSent(_Asked):
    """Request for documents in the order of how near they are to a query. Any other field that vLLM knows is
    taken too."""

    query: str
    documents: Annotated[list[str], Field(min_length=1)]
    top_n: Annotated[int, Field(ge=0)] | None = None


class ScoreSent(_Asked):
    """Request for how alike texts are. Any other field that vLLM knows is taken too."""

    queries: str | Annotated[list[str], Field(min_length=1)]
    documents: str | Annotated[list[str], Field(min_length=1)]


class OllamaError(BaseModel):
    """The body of a refusal or failure in Ollama's API."""

    error: str


class _OllamaSent(_Asked):
    """Request of Ollama's API. Fields of Ollama's own without an effect here are taken too."""

    stream: bool | None = None
    options: dict[str, Any] | None = None
    keep_alive: float | str | None = None


class OllamaChatSent(_OllamaSent):
    """Ollama's request for the next message of a conversation."""

    messages: list[Message] | None = None


class OllamaGenerateSent(_OllamaSent):
    """Ollama's request for the answer to a prompt."""

    prompt: str | None = None


class OllamaEmbedSent(_Asked):
    """Ollama's request for embeddings."""

    input: str | list[str] | None = None


class OllamaEmbeddingsSent(_Asked):
    """Ollama's older request for one embedding."""

    prompt: str | None = None


class TokensCounted(_Asked):
    """Anthropic's request to count what a message would take."""

    messages: Annotated[list[Message], Field(min_length=1)]


class TokenizeSent(_Asked):
    """vLLM's request to tokenize a ``prompt`` or ``messages``."""

    prompt: str | None = None
    messages: list[Message] | None = None


class DetokenizeSent(_Asked):
    """vLLM's request to detokenize."""

    tokens: list[Annotated[int, Field(ge=0)]]


ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "Refused; the error says why."},
    "5XX": {"model": ErrorBody, "description": "Failed; the error says whether to try again."},
}
"""Errors of every path."""


_ANTHROPIC = {status: {**said, "model": AnthropicError} for status, said in ERRORS.items()}


OLLAMA_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {**said, "model": OllamaError} for status, said in ERRORS.items()
}


def _passing(
    model: type[BaseModel],
    errors: Mapping[int | str, dict[str, Any]] = ERRORS,
    *,
    streams: bool = False,
    lines: bool = False,
) -> Mapping[str, Any]:
    """Describes to ``add_api_route`` a path that takes ``model``. ``streams``: it may answer with
    server-sent events; ``lines``: with lines of JSON."""
    content: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if lines:
        content["application/x-ndjson"] = {"schema": {"type": "object"}}
    if streams:
        event = {"type": "object", "required": ["data"], "properties": {"data": {"type": "string"}}}
        content[SSE.partition(";")[0]] = {"schema": event}
    answer = {"description": "An expert's answer, or the router's.", "content": content}
    return {"openapi_extra": body_schema(model, required=True), "responses": {200: answer, **errors}}


CHAT = _passing(ChatSent, streams=True)
COMPLETIONS = _passing(CompletionSent, streams=True)
RESPONSES = _passing(ResponseSent, streams=True)
MESSAGES = _passing(MessageSent, _ANTHROPIC, streams=True)
COUNT_TOKENS = _passing(TokensCounted, _ANTHROPIC)
RERANK = _passing(RerankSent)
SCORE = _passing(ScoreSent)
OLLAMA_CHAT = _passing(OllamaChatSent, OLLAMA_ERRORS, lines=True)
OLLAMA_GENERATE = _passing(OllamaGenerateSent, OLLAMA_ERRORS, lines=True)
OLLAMA_EMBED = _passing(OllamaEmbedSent, OLLAMA_ERRORS)
OLLAMA_EMBEDDINGS = _passing(OllamaEmbeddingsSent, OLLAMA_ERRORS)
EMBEDDINGS = _passing(EmbeddingsSent)
TOKENIZE = _passing(TokenizeSent)
DETOKENIZE = _passing(DetokenizeSent)
ROUTE: Mapping[str, Any] = {"openapi_extra": body_schema(ChatSent, required=True)}
