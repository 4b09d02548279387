"""OpenAI's endpoints for which no expert is: refused in a sentence that says what there is in their place."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from server.errors import NotCapable

router = APIRouter(include_in_schema=False)


@router.post("/v1/audio/{what}")
async def audio(request: Request, what: str) -> Response:
    """Refuse to speak and to transcribe. Raises NotCapable."""
    raise NotCapable(
        "No speech is made or transcribed here; an expert with the capability 'audio' takes recordings as "
        "parts of messages at /v1/chat/completions, and GET /v1/models lists the experts."
    )


@router.post("/v1/images/{what}")
async def images(request: Request, what: str) -> Response:
    """Refuse to make pictures. Raises NotCapable."""
    raise NotCapable(
        "No pictures are made here; an expert with the capability 'images' takes pictures as parts of "
        "messages at /v1/chat/completions, and GET /v1/models lists the experts."
    )
