"""Small bodies that clients send to the gateway itself, read as a model and described in /openapi.json."""

from collections.abc import Mapping
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from server.errors import BadRequest
from server.transport.body_limits import check_content_type, read_body
from server.validation import problem_of

MOST = 10_000
"""Most bytes of a body."""

Sent = TypeVar("Sent", bound=BaseModel)


async def read_model(request: Request, model: type[Sent], most: int = MOST) -> Sent:
    """Reads a body as a model. Raises BadRequest naming the field, TooLarge, and NotJson unless there is no
    body."""
    raw = await read_body(request, most)
    if raw:
        check_content_type(request)
    try:
        return model.model_validate_json(raw or b"{}")
    except ValidationError as error:
        problem = problem_of(error)
        message = f"{problem.field or 'The body'}: {problem.reason}."
        raise BadRequest(message, problem.field or None) from error


def body_schema(model: type[BaseModel], *, required: bool) -> dict[str, Any]:
    """Describes a body for ``openapi_extra``. FastAPI would read a body of any size, before the client is
    authenticated."""
    tree = model.model_json_schema()
    content = {"application/json": {"schema": _whole(tree, tree.pop("$defs", {}))}}
    return {"requestBody": {"content": content, "required": required}}


def _whole(tree: Any, parts: Mapping[str, Any]) -> Any:
    """Replaces each reference by its part: in the middle of a document references mean something else."""
    if isinstance(tree, list):
        return [_whole(each, parts) for each in tree]
    if not isinstance(tree, dict):
        return tree
    name = tree.get("$ref")
    if isinstance(name, str):
        return _whole(parts[name.removeprefix("#/$defs/")], parts)
    return {key: _whole(value, parts) for key, value in tree.items()}
