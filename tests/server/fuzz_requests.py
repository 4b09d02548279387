"""Malformed requests from a seed: broken bodies in whole requests, and bytes that are no whole request."""

import random
from collections.abc import Callable
from typing import Any

import orjson

from tests.server.transport.test_connection import AMBIGUOUS
from tests.server.wire import HOST, JSON, get, post

PATHS = (
    b"/v1/chat/completions",
    b"/v1/completions",
    b"/tokenize",
    b"/detokenize",
    b"/v1/embeddings",
    b"/v1/messages",
    b"/v1/responses",
    b"/api/chat",
    b"/api/generate",
    b"/api/embed",
    b"/api/show",
    b"/v1/batches",
    b"/v1/files",
    b"/v1/coe/route",
    b"/v1/coe/feedback",
    b"/v1/coe/reload/x",
    b"/v1/coe/experts/law/demote",
)
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 1e308, 2**63, "", "x", "\x00", "\ud7ff\U0010ffff", [], {}, [None], [[]],
    [{}], {"": None}, {"type": "text"}, [{"role": None}], [{"role": "user", "content": {"a": 1}}], "a" * 5000,
    [1] * 500,
)  # fmt: skip
FIELDS = (
    "model", "messages", "prompt", "stream", "stream_options", "max_tokens", "max_completion_tokens",
    "stop", "n", "tools", "tool_choice", "response_format", "logprobs", "temperature", "seed", "tokens",
    "vllm_xargs", "user", "cache_salt", "chat_template", "stop_token_ids", "ignore_eos",
    "truncate_prompt_tokens", "input", "metadata", "echo", "suffix", "priority", "request_id",
    "category", "score", "options", "format", "keep_alive", "think", "images", "raw", "tool_calls",
)  # fmt: skip


def body(rng: random.Random) -> bytes:
    """JSON with odd values, JSON that is broken, or no JSON."""
    message = {"role": "user", "content": [{"type": "text", "text": "hello"}]}
    tree: dict[str, Any] = {
        "model": rng.choice(["law", "law", "math", "general", "coe", "lwa"]),
        "messages": [message],
        "max_tokens": 4,
    }
    if rng.random() < 0.2:
        tree["prompt"] = "hello"
    for _ in range(rng.randrange(3)):
        tree[rng.choice(FIELDS)] = rng.choice(ODD)
    if rng.random() < 0.3:
        message[rng.choice(["role", "content", "tool_calls", "name"])] = rng.choice(ODD)
    raw = orjson.dumps(tree)
    return rng.choice(_BREAKS)(rng, raw)


def _nested(rng: random.Random, raw: bytes) -> bytes:
    depth = rng.choice([50, 150, 300, 1100, 20_000])
    inner = rng.choice([b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth])
    return raw[:-1] + b',"deep":' + inner + b"}"


def _flipped(rng: random.Random, raw: bytes) -> bytes:
    broken = bytearray(raw)
    for _ in range(rng.randrange(1, 6)):
        broken[rng.randrange(len(broken))] = rng.randrange(256)
    return bytes(broken)


_BREAKS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    lambda rng, raw: raw,
    lambda rng, raw: raw,
    lambda rng, raw: raw[: rng.randrange(len(raw))],
    _flipped,
    _nested,
    lambda rng, raw: raw.decode().encode(rng.choice(["utf-16", "utf-32", "utf-8-sig", "cp500"]), "replace"),
    lambda rng, raw: rng.randbytes(rng.randrange(200)),
    lambda rng, raw: raw + raw,
    lambda rng, raw: raw.replace(
        b"4", rng.choice([b"1e999", b"NaN", b"-0", b"1" * 400, b"Infinity", b"0x4"])
    ),
    lambda rng, raw: raw.replace(
        b"hello", rng.choice([b"\\ud800", b"\xff\xfe", b"\\u0000", b"\x00", b"\\x"])
    ),
    lambda rng, raw: raw[:-1] + b',"model":"math","stream":"yes"}',
    lambda rng, raw: b" " * rng.choice([1, 70_000]) + raw,
)


def whole(rng: random.Random, number: int) -> bytes:
    """A request that is complete, so that an answer with its number is due."""
    more = b"X-Request-Id: fuzz-%d\r\n" % number
    more += rng.choice([
        b"", b"", b"Content-Type: %b\r\n" % rng.choice([b"application/xml", b"multipart/form-data", b"\xff"]),
        b"Content-Encoding: gzip\r\n", b"X-Coe-Priority: \xe9\r\n", b"X-Coe-Category: law\r\n",
        b"Authorization: Bearer \xff\xfe\r\n", b"X-Coe-Fail-Fast: maybe\r\n", b"Expect: 100-continue\r\n",
    ])  # fmt: skip
    sent = body(rng)
    if rng.random() < 0.2:
        size = rng.randrange(1, 50)
        pieces = [sent[at : at + size] for at in range(0, min(len(sent), 4000), size)]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        head = b"POST %b HTTP/1.1\r\n%b%bTransfer-Encoding: chunked\r\n%b\r\n"
        head %= (rng.choice(PATHS), HOST, JSON, more)
        return head + chunks + b"0\r\n\r\n"
    return post(sent, rng.choice(PATHS), more)


def bytes_of(rng: random.Random) -> bytes:
    """Anything that may arrive on a socket; whether it is a request nobody knows."""
    return rng.choice(_WIRES)(rng)


def _mutated(rng: random.Random) -> bytes:
    raw = bytearray(rng.choice([post(body(rng)), get(b"/v1/models"), AMBIGUOUS[rng.choice([*AMBIGUOUS])]]))
    for _ in range(rng.randrange(1, 8)):
        at, size = rng.randrange(len(raw) + 1), rng.choice([1, 1, 2, 10])
        match rng.randrange(4):
            case 0:
                raw[at : at + size] = rng.randbytes(size)
            case 1:
                raw[at:at] = rng.choice(
                    [b"\r\n", b"\n", b"\r", b" ", b":", b"\x00", b"0\r\n\r\n", raw[at : at + 20]]
                )
            case 2:
                del raw[at : at + size]
            case 3:
                raw[at:at] = rng.randbytes(size)
        if not raw:
            return b"\r\n"
    return bytes(raw)


_SMUGGLED = post(b"{}", more=b"X-Request-Id: smuggled\r\n")
_METHODS = (b"OPTIONS", b"TRACE", b"PUT", b"M-SEARCH", b"get", b"CONNECT")
_HOSTS = (b"[", b"[::1", b"a:b:c", b"", b"\xff", b"a b")
_HEADER = b"X-%d: %b\r\n"
_WIRES: tuple[Callable[[random.Random], bytes], ...] = (
    _mutated,
    _mutated,
    _mutated,
    lambda rng: AMBIGUOUS[rng.choice([*AMBIGUOUS])] + rng.choice([b"", _SMUGGLED]),
    lambda rng: post(body(rng)) + _SMUGGLED * rng.randrange(1, 30),
    lambda rng: whole(rng, 0)[: -rng.randrange(1, 60)],
    lambda rng: rng.randbytes(rng.randrange(1, 400)),
    lambda rng: get(b"/" + rng.randbytes(rng.choice([3, 3000, 9000])).hex().encode()),
    lambda rng: get(more=_HEADER % (rng.randrange(9), b"a" * rng.randrange(3000)) * rng.randrange(200)),
    lambda rng: b"GET / HTTP/1.1\r\n" + rng.choice([b"X: ", b"X"]) + b"a" * rng.choice([10, 50_000]),
    lambda rng: rng.choice(_METHODS) + get(rng.choice([b"/health", b"/v1/chat/completions", b"*"]))[3:],
    lambda rng: get(b"/%2e%2e/%2e%2e/etc/passwd?%00=%ff", rng.choice([b"", b"Host: [\r\n"])),
    lambda rng: get(b"/nothing").replace(HOST, b"Host: %b\r\n" % rng.choice(_HOSTS)),
    lambda rng: post(b"a" * 70_000) + b"a" * 10,
    lambda rng: post(body(rng), more=b"Connection: upgrade\r\nUpgrade: websocket\r\n"),
)
