"""Formats of logs and exports: from one record to the requests that the gateway would have been sent.

A record is one JSON object, or an array of messages. Which fields are looked at, in this order:

1. An Open WebUI chat: ``{"title", "chat": {"messages": [...], "history": {...}}}``, one of the array that its
   export of all chats saves (open-webui/open-webui, src/lib/components/chat/Settings/Chats.svelte). A whole
   conversation: each of its user turns was a request.
2. ``{"messages": [...]}``: an OpenAI chat request; LiteLLM's StandardLoggingPayload, which may also hold a
   text there (docs.litellm.ai/docs/proxy/logging_spec).
3. ``{"body": {...}}``: a line of an OpenAI batch file, ``{"custom_id", "method", "url", "body"}``.
4. ``{"proxy_server_request": ...}``: a row of LiteLLM's table LiteLLM_SpendLogs (BerriAI/litellm,
   schema.prisma), where it is the request's body and ``messages`` is mostly ``{}``; in its callbacks it is
   ``{"url", "method", "body"}``.
5. ``{"inputs": {...}}``: a LangSmith run (docs.langchain.com/langsmith/run-data-format). Its messages may be
   LangChain's, ``{"id": ["langchain", "schema", "messages", "HumanMessage"], "kwargs": {"content": ...}}``,
   and in a list for each of a batch.
6. ``{"input": ...}``: a Langfuse observation or trace (langfuse/langfuse-python, langfuse/openai.py):
   messages, ``{"messages", "tools"}`` or a text; an OpenAI Responses request.
7. ``{"prompt": "..."}``: a completions request, or a line as ``router/data/dataset.py`` reads it.

A value that is JSON in a text, as databases export it, is opened.
"""

import json
from collections.abc import Iterator, Mapping, Sequence

Messages = tuple[Mapping[str, object], ...]
"""The messages of one request, as OpenAI has them: ``role`` and ``content``."""

_NESTED = ("body", "proxy_server_request", "inputs")
_ROLES = {"human": "user", "HumanMessage": "user", "HumanMessageChunk": "user", "ai": "assistant"}


def requests_in(record: object, depth: int = 3) -> list[Messages]:
    """In the order in which they were sent; none if no such field is in the record or, for 3 to 6, nested
    in it as deep as ``depth``."""
    if isinstance(record, list):
        return _requests_of(record)
    if not isinstance(record, dict) or not depth:
        return []
    chat = opened(record.get("chat"))
    if isinstance(chat, dict):
        return list(_turns(_messages(chat.get("messages"))))
    if found := _requests_of(opened(record.get("messages"))):
        return found
    for name in _NESTED:
        inner = opened(record.get(name))
        if isinstance(inner, dict) and (found := requests_in(inner, depth - 1)):
            return found
    for name in ("input", "prompt"):
        value = opened(record.get(name))
        if found := requests_in(value, depth - 1) if isinstance(value, dict) else _requests_of(value):
            return found
    return []


def is_message(entry: Mapping[str, object]) -> bool:
    """OpenAI's or LangChain's."""
    return "role" in entry or "kwargs" in entry


def opened(value: object) -> object:
    """JSON in a text is opened; any other text stays a text."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _requests_of(value: object) -> list[Messages]:
    """Messages, a list for each of a batch, or the text of one request."""
    if isinstance(value, str):
        return [({"role": "user", "content": value},)] if value.strip() else []
    if isinstance(value, list) and value and all(isinstance(each, list) for each in value):
        return [messages for each in value if (messages := _messages(each))]
    messages = _messages(value)
    return [messages] if messages else []


def _messages(value: object) -> Messages:
    if not isinstance(value, list):
        return ()
    return tuple(_message(each) for each in value if isinstance(each, dict))


def _message(sent: Mapping[str, object]) -> Mapping[str, object]:
    """LangChain's have a ``type``, or a class's name at the end of ``id`` and their content in ``kwargs``."""
    inner = sent.get("kwargs")
    fields = inner if isinstance(inner, dict) else sent
    kind = sent.get("id") if isinstance(inner, dict) else None
    role = kind[-1] if isinstance(kind, list) and kind else fields.get("role", fields.get("type"))
    role = _ROLES.get(role, role) if isinstance(role, str) else ""
    return {"role": role, "content": _content(fields.get("content"))}


def _content(content: object) -> object:
    """The Responses API calls its text parts ``input_text``."""
    if not isinstance(content, Sequence) or isinstance(content, str):
        return content
    return [
        {**part, "type": "text"} if isinstance(part, dict) and part.get("type") == "input_text" else part
        for part in content
    ]


def _turns(messages: Messages) -> Iterator[Messages]:
    for number, message in enumerate(messages, 1):
        if message["role"] == "user":
            yield messages[:number]


def field_at(record: object, path: str) -> str | None:
    """The text at a dotted path, such as ``metadata.topic`` or ``request_tags.0``; None if none is there."""
    value = record
    for part in path.split("."):
        value = opened(value)
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value.strip() or None if isinstance(value, str) else None
