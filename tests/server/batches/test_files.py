"""Files by OpenAI's own client and by forms as nobody should send them, over a real socket."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import openai
import pytest
from openai.types import FileObject
from starlette.types import Message

from server.config.settings import Settings
from server.routes.files import Contents
from tests.server.batches.batch_client import client_of, ended, request, submitted, with_batches
from tests.server.conftest import Gateway, Serving, simulated, until

FORM = {"content-type": "multipart/form-data; boundary=edge"}


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    of_file = f'; filename="{filename}"' if filename is not None else ""
    return (
        f'--edge\r\ncontent-disposition: form-data; name="{name}"{of_file}\r\n\r\n'.encode() + value + b"\r\n"
    )


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--edge--\r\n"


PURPOSE, FILE = part("purpose", b"batch"), part("file", b"{}\n", "in.jsonl")


async def sent(gateway: Gateway, content: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    return await gateway.http.post("/v1/files", content=content, headers=FORM | (headers or {}))


async def test_a_file_comes_back_as_it_was_sent(settings: Settings, serving: Serving, tmp_path: Path) -> None:
    contents = os.urandom(3_000_000)
    async with serving(with_batches(settings, tmp_path)) as gateway, client_of(gateway.url) as client:
        made = await client.files.create(
            file=("in.jsonl", contents),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        FileObject.model_validate(made.model_dump(), strict=True)
        assert (made.filename, made.bytes, made.purpose) == ("in.jsonl", len(contents), "batch")
        assert made.expires_at == made.created_at + 3600
        assert await client.files.retrieve(made.id) == made
        assert (await client.files.content(made.id)).content == contents
        deleted = await client.files.delete(made.id)
        assert (deleted.id, deleted.deleted) == (made.id, True)
        for attempt in (client.files.retrieve(made.id), client.files.content(made.id)):
            with pytest.raises(openai.NotFoundError):
                await attempt
    assert contents_of(tmp_path) == []


def contents_of(folder: Path) -> list[Path]:
    return [*(folder / "batches" / "contents").iterdir()]


async def test_lists_have_pages_an_order_and_a_purpose(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    async with serving(with_batches(settings, tmp_path)) as gateway, client_of(gateway.url) as client:
        batch = await ended(client, (await submitted(client, [request("a")])).id)
        more = [(await client.files.create(file=("x", b"{}"), purpose="batch")).id for _ in range(3)]
        uploaded = [batch.input_file_id, *more]
        assert [file.id async for file in client.files.list(limit=2, purpose="batch")] == uploaded[::-1]
        assert [file.id async for file in client.files.list(order="asc", purpose="batch")] == uploaded
        output = [file async for file in client.files.list(purpose="batch_output")]
        assert [(file.id, file.filename) for file in output] == [
            (batch.output_file_id, f"{batch.id}_output.jsonl")
        ]
        assert len([file async for file in client.files.list()]) == 5
        with pytest.raises(openai.BadRequestError):
            await client.files.list(limit=10_001)


@pytest.mark.parametrize(
    ("content", "status", "param"),
    [
        (form(FILE), 400, "purpose"),
        (form(part("purpose", b"vision"), FILE), 400, "purpose"),
        (form(PURPOSE), 400, "file"),
        (form(PURPOSE, FILE, FILE), 400, "file"),
        (form(PURPOSE, FILE, part("other", b"", "x")), 400, "file"),
        (form(PURPOSE, FILE, *(part(f"field{n}", b"") for n in range(8))), 400, None),
        (form(PURPOSE, FILE, part("long", b"x" * 5000)), 400, "long"),
        (form(PURPOSE, FILE, part("expires_after[seconds]", b"5000")), 400, "expires_after[anchor]"),
        (
            form(
                PURPOSE,
                FILE,
                part("expires_after[anchor]", b"created_at"),
                part("expires_after[seconds]", b"60"),
            ),
            400,
            "expires_after[seconds]",
        ),
        (form(PURPOSE, part("file", b"x" * 1001, "in.jsonl")), 413, "file"),
        (form(PURPOSE, part("file", b"x" * 100_000, "in.jsonl")), 413, "file"),
        (form(PURPOSE, FILE)[:-12], 400, None),
        (b"nonsense", 400, None),
        (b"", 400, None),
        (b"--edge\r\n" + b"a: b\r\n" * 100 + b"\r\n", 400, None),
    ],
)
async def test_a_bad_form_is_refused_and_leaves_nothing(
    settings: Settings, serving: Serving, tmp_path: Path, content: bytes, status: int, param: str | None
) -> None:
    async with serving(with_batches(settings, tmp_path, max_file_bytes=1000)) as gateway:
        answer = await sent(gateway, content)
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
        assert contents_of(tmp_path) == []
        assert gateway.batches is not None
        assert gateway.batches.archive.spool.used_bytes == 0
        assert (await sent(gateway, form(PURPOSE, FILE))).status_code == 200


async def test_what_is_no_form_is_refused(settings: Settings, serving: Serving, tmp_path: Path) -> None:
    async with serving(with_batches(settings, tmp_path)) as gateway:
        for kind in ("application/json", "multipart/form-data", "multipart/form-data; boundary=" + "x" * 300):
            answer = await sent(gateway, form(PURPOSE, FILE), {"content-type": kind})
            assert answer.status_code == 400


async def test_a_client_that_leaves_while_it_uploads_leaves_nothing(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    async with serving(with_batches(settings, tmp_path)) as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\ncontent-type: "
        writer.write(head + FORM["content-type"].encode() + b"\r\n\r\n" + PURPOSE + FILE[:-4])
        await writer.drain()
        await until(lambda: len(contents_of(tmp_path)) == 1)
        writer.close()
        await writer.wait_closed()
        await until(lambda: contents_of(tmp_path) == [])


async def test_what_does_not_fit_is_refused_until_something_is_deleted(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    small = with_batches(settings, tmp_path, max_bytes=2**20)
    big = form(PURPOSE, part("file", b"x" * 700_000, "in.jsonl"))
    async with serving(small) as gateway:
        first = await sent(gateway, big)
        refused = await sent(gateway, big)
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "storage_full")
        await gateway.http.delete(f"/v1/files/{first.json()['id']}")
        assert (await sent(gateway, big)).status_code == 200


async def test_a_file_that_a_batch_reads_cannot_be_deleted(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    slow = with_batches(simulated(settings, tokens_per_s=0.1), tmp_path)
    async with serving(slow) as gateway, client_of(gateway.url) as client:
        batch = await submitted(client, [request("a")])
        with pytest.raises(openai.ConflictError):
            await client.files.delete(batch.input_file_id)
        await client.batches.cancel(batch.id)
        await ended(client, batch.id)
        await client.files.delete(batch.input_file_id)


@pytest.mark.parametrize("pieces", [[b"ab", b"c"], [b"abc"], []])
async def test_the_last_bytes_of_a_file_are_said_to_be_the_last(pieces: list[bytes]) -> None:
    async def read() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    size = str(sum(map(len, pieces)))
    await Contents(read(), headers={"content-length": size}).stream_response(send)
    assert [message["more_body"] for message in sent[1:]] == [True] * (len(pieces) - 1) + [False]
    assert b"".join(message["body"] for message in sent[1:]) == b"".join(pieces)
