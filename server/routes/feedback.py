"""``POST /v1/coe/feedback``: a client's feedback on an answer it got."""

from typing import Annotated, Literal, Self

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from server.access.auth import authorization_of
from server.access.owner import owner_of
from server.errors import BadRequest, FeedbackOff, UnknownRequest
from server.services import NodeServices
from server.transport.json_body import body_schema, read_model

router = APIRouter(prefix="/v1/coe")


class FeedbackSent(BaseModel):
    """Feedback as sent. ``id``: the answer's header x-request-id. ``category``: the right one, where another
    was decided."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: Annotated[str, Field(min_length=1)]
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    thumbs: Literal["up", "down"] | None = None
    category: str | None = None

    @model_validator(mode="after")
    def _something_is_said(self) -> Self:
        if self.score is not None and self.thumbs is not None:
            raise ValueError("give score or thumbs, not both")
        if self.score is None and self.thumbs is None and self.category is None:
            raise ValueError("give a score from 0 to 1, or thumbs up or down, or the right category")
        return self

    @property
    def grade(self) -> float | None:
        return {None: self.score, "up": 1.0, "down": 0.0}[self.thumbs]


class FeedbackTaken(BaseModel):
    """Feedback now kept for this answer. It replaces earlier feedback."""

    id: str
    score: float | None
    category: str | None


@router.post("/feedback", openapi_extra=body_schema(FeedbackSent, required=True))
async def feedback(request: Request) -> FeedbackTaken:
    """Say how good an answer was, or which category would have been right."""
    services: NodeServices = request.app.services
    owner = owner_of(services.keys.check(authorization_of(request.headers)), request.headers)
    if services.feedback is None:
        raise FeedbackOff("No feedback is kept here: the configuration has no 'feedback'.")
    sent = await read_model(request, FeedbackSent)
    categories = services.catalog.routing.categories
    if sent.category is not None and sent.category not in categories:
        raise BadRequest(f"'category' must be one of {', '.join(sorted(categories))}.", "category")
    if not await services.feedback.said(sent.id, owner, sent.grade, sent.category):
        raise UnknownRequest(
            "No routed request of this key is kept under this id, the answer's header x-request-id. Requests "
            "that name an expert are not kept; of the others perhaps a sample, and none for ever.",
            "id",
        )
    return FeedbackTaken(id=sent.id, score=sent.grade, category=sent.category)
