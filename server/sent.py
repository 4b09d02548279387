"""Small bodies that clients send to the gateway itself, read as a model and described in /openapi.json."""

from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from server.errors import BadRequest
from server.limits import read_body

MOST = 10_000
"""Bytes."""

Sent = TypeVar("Sent", bound=BaseModel)


async def read_model(request: Request, model: type[Sent], most: int = MOST) -> Sent:
    """Raises BadRequest naming the field, TooLarge."""
    raw = await read_body(request, most)
    try:
        return model.model_validate_json(raw or b"{}")
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        raise BadRequest(f"{field or 'The body'}: {message}.", field or None) from error


def described(model: type[BaseModel], *, required: bool) -> dict[str, Any]:
    """For ``openapi_extra``. FastAPI would read a body of any size, before it asks who sends it."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"content": content, "required": required}}
