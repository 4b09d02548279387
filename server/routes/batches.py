"""``/v1/batches``: OpenAI's Batch API."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.responses import JSONResponse, Response

from server.batches.records import BatchRecord
from server.errors import BadRequest
from server.routes.pages import Owner, listed, page_query
from server.transport.json_body import body_schema, read_model

MOST_SENT = 2**17
"""Bytes; metadata may have 16 values of 512 characters."""
_Name = Annotated[str, StringConstraints(max_length=64)]
_Value = Annotated[str, StringConstraints(max_length=512)]

router = APIRouter(prefix="/v1/batches")


class ExpiresAfter(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class BatchSent(BaseModel):
    """``endpoint``: of all requests in the file. ``output_expires_after``: of the answers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    input_file_id: str
    endpoint: str
    completion_window: Literal["24h"]
    metadata: Annotated[dict[_Name, _Value], Field(max_length=16)] | None = None
    output_expires_after: ExpiresAfter | None = None


@router.post("", openapi_extra=body_schema(BatchSent, required=True))
async def create(request: Request) -> Response:
    """Answer the requests of an uploaded file within a day."""
    owner = Owner.of(request)
    sent = await read_model(request, BatchSent, MOST_SENT)
    endpoints = owner.batches.endpoints
    if sent.endpoint not in endpoints:
        raise BadRequest(f"'endpoint' must be one of {', '.join(endpoints)}.", "endpoint")
    keep_answers_s = sent.output_expires_after.seconds if sent.output_expires_after else None
    record = await owner.batches.create(
        owner.id, owner.key, sent.input_file_id, sent.endpoint, sent.metadata, keep_answers_s
    )
    return JSONResponse(_shown(record))


@router.get("")
async def batches(request: Request) -> Response:
    """List the key's batches, newest first."""
    owner, query = Owner.of(request), page_query(request, most=100, default=20)
    archive = owner.batches.archive
    page = await archive.do(lambda: archive.store.batches(owner.id, query))
    return JSONResponse(listed([_shown(batch) for batch in page.entries], has_more=page.has_more))


@router.get("/{id}")
async def batch(request: Request, id: str) -> Response:
    """Say how far one batch is."""
    owner = Owner.of(request)
    archive = owner.batches.archive
    return JSONResponse(_shown(await archive.do(lambda: archive.store.batch(owner.id, id))))


@router.post("/{id}/cancel")
async def cancel(request: Request, id: str) -> Response:
    """Leave the rest of one batch unanswered."""
    owner = Owner.of(request)
    return JSONResponse(_shown(await owner.batches.cancel(owner.id, id)))


def _shown(record: BatchRecord) -> dict[str, Any]:
    counts, tokens = record.counts, record.counts.tokens
    errors = {"object": "list", "data": [asdict(error) for error in record.errors]}
    return {
        "id": record.id,
        "object": "batch",
        "endpoint": record.endpoint,
        "model": record.model,
        "errors": errors if record.errors else None,
        "input_file_id": record.input_file_id,
        "completion_window": "24h",
        "status": record.status,
        "output_file_id": record.output_file_id,
        "error_file_id": record.error_file_id,
        "created_at": record.created_at,
        "in_progress_at": record.in_progress_at,
        "expires_at": record.expires_at,
        "finalizing_at": record.finalizing_at,
        "completed_at": record.completed_at,
        "failed_at": record.failed_at,
        "expired_at": record.expired_at,
        "cancelling_at": record.cancelling_at,
        "cancelled_at": record.cancelled_at,
        "request_counts": {"total": counts.total, "completed": counts.completed, "failed": counts.failed},
        "usage": {
            "input_tokens": tokens.input,
            "input_tokens_details": {"cached_tokens": tokens.cached},
            "output_tokens": tokens.output,
            "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
            "total_tokens": tokens.input + tokens.output,
        },
        "metadata": record.metadata,
    }
