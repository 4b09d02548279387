"""Nodes that share a secret, and strangers that do not."""

import asyncio
import ssl

import pytest

from experts.engines.http_client import HttpClient, TcpAddress
from experts.engines.http_connection import ConnectionEnded
from server.config.cluster import Address, ClusterConfig
from server.peers.identity import Identity

OURS = Identity.of("the secret of our nodes")


async def asked(client_context: ssl.SSLContext | None) -> int:
    """The status that a server with our identity answers to a client with this context."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=OURS.context("server"))
    async with server:
        port = server.sockets[0].getsockname()[1]
        client = HttpClient(TcpAddress("127.0.0.1", port, client_context))
        try:
            response = await client.request("GET", "/")
            response.close()
            return response.status
        finally:
            await client.close()


async def test_a_node_with_the_same_secret_is_answered_over_tls() -> None:
    again = Identity.of("the secret of our nodes")
    assert again.certificate_pem == OURS.certificate_pem
    assert again.token == OURS.token
    assert await asked(again.context("client")) == 204


async def test_a_stranger_is_not_answered_and_does_not_believe_us() -> None:
    stranger = Identity.of("the secret of somebody else")
    assert stranger.token != OURS.token
    with pytest.raises(ConnectionEnded, match="certificate verify failed"):
        await asked(stranger.context("client"))
    believing = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    believing.check_hostname = False
    believing.verify_mode = ssl.CERT_NONE
    with pytest.raises(ConnectionEnded):
        await asked(believing)
    with pytest.raises(ConnectionEnded):
        await asked(None)


@pytest.mark.parametrize("text", ["10.0.0.2", "10.0.0.2:0", "10.0.0.2:99999", "http://a:1", "a b:1", ":1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write it like 10\.0\.0\.2:8100"):
        ClusterConfig(secret="0123456789abcdef", peers=(text,))  # type: ignore[arg-type]


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer than 16 characters; make one with: openssl rand -hex 32"):
        ClusterConfig(secret="short")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("address", "tls", "encrypted"),
    [
        ("127.0.0.1:1", None, False),
        ("localhost:1", None, False),
        ("[::1]:1", None, False),
        ("10.0.0.2:1", None, True),
        ("node-2.internal:1", None, True),
        ("127.0.0.1:1", True, True),
        ("10.0.0.2:1", False, False),
    ],
)
def test_nodes_speak_tls_unless_they_are_on_one_machine(
    address: str, tls: bool | None, encrypted: bool
) -> None:
    config = ClusterConfig(secret="0123456789abcdef", tls=tls)  # type: ignore[arg-type]
    assert config.encrypted(Address.parse(address)) is encrypted
    assert str(Address.parse(address)) == address
