"""Server-sent events: framing and parsing."""

from collections.abc import Iterator

END = b"\n\n"
"""The end of an event."""
DONE = b"[DONE]"
"""The data of OpenAI's last event."""
_DATA = b"data: "


def framed(data: bytes, name: str = "") -> bytes:
    """Frames ``data``, one line, as an event; a ``name`` is its type."""
    return (b"event: " + name.encode() + b"\n" if name else b"") + _DATA + data + END


def comment(text: str) -> bytes:
    """Frames ``text``, one line, as a comment, which every reader skips."""
    return f": {text}".encode() + END


def is_comment(event: bytes) -> bool:
    return event.startswith(b":")


def split(chunk: bytes) -> Iterator[bytes]:
    """Splits a chunk of whole events. Each keeps its end."""
    return (event + END for event in chunk.split(END) if event)


def data_of(event: bytes) -> bytes | None:
    """Returns the data of one event without a type; None: it has none, as comments have."""
    return event[len(_DATA) : -len(END)] if event.startswith(_DATA) else None
