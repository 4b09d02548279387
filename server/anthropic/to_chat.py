"""Chat completions that ask for the same as requests of Anthropic's Messages API."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, assert_never

import orjson

from server.anthropic.request import (
    AssistantBlock,
    AssistantMessage,
    ConversationRequest,
    Image,
    MessagesRequest,
    SystemMessage,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    UserBlock,
    UserMessage,
)
from server.errors import BadRequest

Json = dict[str, Any]
_PLUMBING = "x-anthropic-billing-header"
"""Beginning of a part that Claude Code writes into system prompts for Anthropic. It differs in each request,
so the prefix cache would never hit."""
_THINKS = {"enabled": True, "adaptive": True, "disabled": False}


def chat_request(sent: MessagesRequest) -> Json:
    """Returns the body of a chat completion. Raises BadRequest naming the field."""
    if sent.extras.get("n", 1) != 1:
        raise BadRequest("n: a message is one answer; leave it out.", "n")
    if sent.extras.get("mcp_servers"):
        raise BadRequest("mcp_servers: no such servers are asked here; declare their tools.", "mcp_servers")
    body = {**sent.extras, **conversation(sent), "max_tokens": sent.max_tokens}
    optional = {
        "stop": sent.stop_sequences or None,
        "temperature": sent.temperature,
        "top_p": sent.top_p,
        "top_k": sent.top_k,
        "user": sent.metadata.user_id,
        "reasoning_effort": sent.output_config.effort,
    }
    body |= {name: value for name, value in optional.items() if value is not None}
    if sent.output_config.format is not None:
        schema = {"name": "output", "schema": sent.output_config.format.schema_}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if sent.tool_choice is not None and sent.tool_choice.disable_parallel_tool_use:
        body["parallel_tool_calls"] = False
    if sent.stream:
        # Each event with the usage so far: the first one of a message says how long its prompt is.
        body |= {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    return body


def conversation(sent: ConversationRequest) -> Json:
    """Returns the fields that make the prompt, of a chat completion as of tokenize. Raises BadRequest naming
    the field."""
    first = SystemMessage(role="system", content=sent.system)
    body: Json = {"model": sent.model, "messages": list(_messages([first, *sent.messages]))}
    if not body["messages"]:
        raise BadRequest("messages: there is no text in them.", "messages")
    if body["messages"][-1]["role"] == "assistant":
        if "tool_calls" in body["messages"][-1]:
            raise BadRequest("messages: the last one uses tools; send what they gave after it.", "messages")
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    if sent.tools:
        body["tools"] = [_tool(tool) for tool in sent.tools]
    if sent.tool_choice is not None:
        if not sent.tools:
            raise BadRequest("tool_choice: there are no tools to choose from; send tools.", "tool_choice")
        body["tool_choice"] = _choice(sent.tool_choice)
    if sent.thinking is not None and sent.thinking.type in _THINKS:
        # The names that chat templates have for it; one that has neither does not think, or always.
        thinks = _THINKS[sent.thinking.type]
        body["chat_template_kwargs"] = {"enable_thinking": thinks, "thinking": thinks}
    if sent.chat_template_kwargs:
        body["chat_template_kwargs"] = body.get("chat_template_kwargs", {}) | sent.chat_template_kwargs
    return body


def _messages(messages: Sequence[UserMessage | AssistantMessage | SystemMessage]) -> Iterator[Json]:
    """Yields chat messages. Consecutive messages of one role are one turn."""
    for _, group in groupby(messages, lambda message: message.role):
        turn = list(group)
        yield from _user([block for said in turn if isinstance(said, UserMessage) for block in said.content])
        yield from _assistant(
            [block for said in turn if isinstance(said, AssistantMessage) for block in said.content]
        )
        yield from _system(
            [block for said in turn if isinstance(said, SystemMessage) for block in said.content]
        )


def _system(texts: Sequence[Text]) -> Iterator[Json]:
    parts = [_text(text) for text in texts if not text.text.startswith(_PLUMBING)]
    if parts:
        yield {"role": "system", "content": _content(parts)}


def _user(blocks: Sequence[UserBlock]) -> Iterator[Json]:
    """Yields the tools' results, and then one message of the user. Few templates show an image that a tool
    returned, so it begins the user's message."""
    parts: list[Json] = []
    shown: list[Json] = []
    for block in blocks:
        match block:
            case ToolResult():
                texts = [part.text for part in block.content if isinstance(part, Text)]
                said = "\n".join(["Error:", *texts] if block.is_error else texts)
                yield {"role": "tool", "tool_call_id": block.tool_use_id, "content": said}
                shown += [_image(part) for part in block.content if isinstance(part, Image)]
            case Image():
                parts.append(_image(block))
            case Text():
                parts.append(_text(block))
            case _:
                assert_never(block)
    if shown or parts:
        yield {"role": "user", "content": _content(shown + parts)}


def _assistant(blocks: Sequence[AssistantBlock]) -> Iterator[Json]:
    parts = [_text(block) for block in blocks if isinstance(block, Text) and block.text]
    calls = [_call(block) for block in blocks if isinstance(block, ToolUse)]
    thoughts = [block.thinking for block in blocks if isinstance(block, Thinking)]
    if not parts and not calls:
        return  # where it is the last, nothing is to be continued
    message: Json = {"role": "assistant", "content": _content(parts) if parts else None}
    if thoughts:
        message["reasoning"] = "\n".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    yield message


def _content(parts: list[Json]) -> str | list[Json]:
    """Returns a single text as a string, which every template takes."""
    if len(parts) == 1 and parts[0]["type"] == "text":
        text: str = parts[0]["text"]
        return text
    return parts


def _text(block: Text) -> Json:
    return {"type": "text", "text": block.text}


def _image(block: Image) -> Json:
    return {"type": "image_url", "image_url": {"url": block.source.address}}


def _call(block: ToolUse) -> Json:
    function = {"name": block.name, "arguments": orjson.dumps(block.input).decode()}
    return {"id": block.id, "type": "function", "function": function}


def _tool(tool: Tool) -> Json:
    optional = {"description": tool.description, "strict": tool.strict}
    given = {name: value for name, value in optional.items() if value is not None}
    return {"type": "function", "function": {"name": tool.name, "parameters": tool.input_schema, **given}}


def _choice(choice: ToolChoice) -> str | Json:
    """Converts the choice of tools. Raises BadRequest."""
    match choice.type:
        case "auto" | "none":
            return choice.type
        case "any":
            return "required"
        case "tool":
            if choice.name is None:
                raise BadRequest("tool_choice.name: name the tool.", "tool_choice.name")
            return {"type": "function", "function": {"name": choice.name}}
        case _:
            assert_never(choice.type)
