"""Nothing follows the event that ends a streamed answer, not even a time-out."""

from collections.abc import AsyncIterator

import pytest

from server.anthropic.messages import StreamedMessage
from server.exchange.pass_through import PassedStream

CHAT = [b'data: {"choices":[]}\n\n', b'data: {"choices":[]}\n\ndata: [DONE]\n\n']
MESSAGE = [
    b"event: message_delta\ndata: {}\n\n",
    b"event: message_delta\ndata: {}\n\nevent: message_stop\ndata: {}\n\n",
]


async def nothing() -> AsyncIterator[bytes]:
    no_chunks: tuple[bytes, ...] = ()
    for chunk in no_chunks:
        yield chunk


@pytest.mark.parametrize(
    ("streamed", "chunks"),
    [(PassedStream(nothing()), CHAT), (StreamedMessage(nothing(), "id", "request"), MESSAGE)],
)
def test_only_the_chunk_with_the_end_is_the_last(
    streamed: PassedStream | StreamedMessage, chunks: list[bytes]
) -> None:
    assert [streamed.is_last(chunk) for chunk in chunks] == [False, True]
