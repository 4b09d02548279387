"""An OpenAI-compatible endpoint: where it is, its key, and what it says is wrong.

Keys come from environment variables, so that no command line and no artifact shows one.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import httpx
from pydantic import BaseModel, ValidationError

from router.errors import EndpointError

BUSY = frozenset({408, 429, 500, 502, 503, 504, 529})
"""Statuses after which the same request may succeed."""


class _Detail(BaseModel):
    message: str
    code: str | int | None = None


class _ErrorBody(BaseModel):
    """OpenAI's error body."""

    error: _Detail


@dataclass(frozen=True, slots=True)
class Endpoint:
    url: str
    """Without a last slash; its routes, such as ``/chat/completions``, follow."""
    key_variable: str
    """The environment variable that its key is from."""
    key: str = field(default="", repr=False)

    @classmethod
    def at(cls, url: str, key_variable: str, environment: Mapping[str, str] = os.environ) -> Self:
        """An address without a path is meant to have ``/v1``. Raises EndpointError for what is no address,
        or holds a password."""
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            parsed = httpx.URL()
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise EndpointError(f"{url!r} is no address; write it like http://127.0.0.1:8000/v1")
        if parsed.userinfo:
            raise EndpointError(f"the address of {parsed.host} holds a key; set {key_variable} instead")
        path = parsed.path.rstrip("/") or "/v1"
        address = parsed.copy_with(path=path, query=None, fragment=None)
        return cls(str(address), key_variable, environment.get(key_variable, "").strip())

    @property
    def headers(self) -> dict[bytes, bytes]:
        return {b"authorization": b"Bearer " + self.key.encode()} if self.key else {}

    def complaint(self, model: str, response: httpx.Response) -> str:
        """One line on an answer that is an error, to follow what the endpoint is called."""
        detail = _detail(response)
        message = " ".join(detail.message.split())[:300] if detail else ""
        match response.status_code:
            case 401 | 403:
                wrong = f"does not take the key in {self.key_variable}"
                missing = f"wants a key; set {self.key_variable}"
                return f"{wrong if self.key else missing}" + (f" ({message})" if message else "")
            case 404:
                said = message or "it answered 404; is the address right?"
                return f"has no model {model!r}: {said}"
            case status:
                return f"answered {status} for {model!r}: {message or response.reason_phrase}"


def error_code(response: httpx.Response) -> str:
    """OpenAI's ``code`` of an error, or nothing."""
    said = _detail(response)
    return str(said.code or "") if said else ""


def retry_after_s(response: httpx.Response) -> float | None:
    """Seconds that the endpoint asks to wait, where it says so in seconds."""
    given = response.headers.get("retry-after", "").strip()
    return float(given) if given.replace(".", "", 1).isdecimal() else None


def why(error: httpx.HTTPError) -> str:
    """Says in a few words what went wrong on the way."""
    return str(error) or type(error).__name__


def _detail(response: httpx.Response) -> _Detail | None:
    try:
        return _ErrorBody.model_validate_json(response.content).error
    except ValidationError:
        return None
