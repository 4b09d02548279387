"""``/v1/files``: OpenAI's Files API, as far as batches need it."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any, BinaryIO

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Send

from server.batches.records import FileRecord
from server.routes.pages import Owner, listed, page_query

PIECE = 256 * 2**10
"""Bytes of a file that are read at once."""
_FORM = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": ["batch"]},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2592000},
    },
}
_UPLOAD = {"requestBody": {"content": {"multipart/form-data": {"schema": _FORM}}, "required": True}}

router = APIRouter(prefix="/v1/files")


@router.post("", openapi_extra=_UPLOAD)
async def upload(request: Request) -> Response:
    """Upload the requests of a batch, one a line."""
    owner = Owner.of(request)
    return JSONResponse(_shown(await owner.batches.upload(owner.id, request)))


@router.get("")
async def files(request: Request) -> Response:
    """List the key's files, newest first unless ``order`` is asc."""
    owner, query = Owner.of(request), page_query(request, most=10_000, default=10_000)
    archive = owner.batches.archive
    page = await archive.do(lambda: archive.store.files(owner.id, query))
    return JSONResponse(listed([_shown(file) for file in page.entries], has_more=page.has_more))


@router.get("/{id}")
async def file(request: Request, id: str) -> Response:
    """Describe one file."""
    owner = Owner.of(request)
    archive = owner.batches.archive
    return JSONResponse(_shown(await archive.do(lambda: archive.store.file(owner.id, id))))


@router.get("/{id}/content")
async def content(request: Request, id: str) -> Response:
    """Read the bytes of one file."""
    owner = Owner.of(request)
    archive = owner.batches.archive

    def open_it() -> BinaryIO:
        archive.store.file(owner.id, id)
        return archive.spool.open(id)

    opened = await archive.do(open_it)
    headers = {"content-length": str(os.fstat(opened.fileno()).st_size)}
    return Contents(_pieces(opened), headers=headers, media_type="application/octet-stream")


@router.delete("/{id}")
async def delete(request: Request, id: str) -> Response:
    """Delete one file that no batch reads."""
    owner = Owner.of(request)
    await owner.batches.delete_file(owner.id, id)
    return JSONResponse({"id": id, "object": "file", "deleted": True})


class Contents(StreamingResponse):
    """Says with the last byte that it was the last: a client that has as many as ``content-length`` promised
    may ask again at once, and a connection is answered one request at a time."""

    async def stream_response(self, send: Send) -> None:
        left = int(self.headers["content-length"])
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for piece in self.body_iterator:
            left -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
        if left or not int(self.headers["content-length"]):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _pieces(opened: BinaryIO) -> AsyncIterator[bytes]:
    with opened:
        while piece := await asyncio.to_thread(opened.read, PIECE):
            yield piece


def _shown(record: FileRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "object": "file",
        "bytes": record.bytes,
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "filename": record.filename,
        "purpose": record.purpose,
        "status": "processed",
        "status_details": None,
    }
