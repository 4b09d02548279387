"""The fields that the simulated engine reads of a body, checked as vLLM checks them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from experts.engines.engine import Body
from experts.simulated.vectors import DIMENSIONS, Input


class RequestFields(BaseModel):
    """The fields and their types."""

    model_config = ConfigDict(strict=True)

    messages: list[dict[str, Any]] | None = None
    prompt: str | list[Any] | None = None
    input: Input | None = None
    query: str | None = None
    queries: str | list[str] | None = None
    documents: str | list[str] | None = None
    top_n: int | None = Field(default=None, ge=0)
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1, le=DIMENSIONS)
    tokens: list[Annotated[int, Field(ge=0, le=1000)]] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stream_options: dict[str, Any] | None = None


def refusal(body: Body) -> Mapping[str, Any] | None:
    """Returns vLLM's error for a body with a field of another type; None where there is none."""
    try:
        RequestFields.model_validate(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in problem["loc"])
        said = {
            "message": f"{field}: {problem['msg']}",
            "type": "BadRequestError",
            "param": field,
            "code": 400,
        }
        return {"error": said}
    return None
