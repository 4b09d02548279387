"""Conversation with a gateway, over OpenAI's wire: questions out, answers in as they come."""

import json
from collections.abc import Iterator
from contextlib import closing

import httpx
from pydantic import BaseModel, ValidationError

from server.operator_api import OperatorError

PATIENCE = httpx.Timeout(10.0, read=None)
"""An answer may take as long as it takes: signs of life come while it waits."""
WHY = ("category", "confidence", "routed-by", "tier", "queue-ms", "swap-ms", "fallback-from")
"""Headers ``x-coe-...`` that tell why an expert answers."""


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model]


class _ErrorDetail(BaseModel):
    message: str


class _ErrorBody(BaseModel):
    error: _ErrorDetail


class Conversation:
    """``answered``: who gave the last answer, and why. Every method raises OperatorError, in one line."""

    def __init__(self, url: str, model: str | None, key: str | None = None) -> None:
        """``model``: None takes the gateway's first."""
        self._url = url.rstrip("/")
        self._http = httpx.Client(
            headers={"authorization": f"Bearer {key}"} if key else {}, timeout=PATIENCE, trust_env=False
        )
        self.messages: list[dict[str, str]] = []
        self.answered = ""
        self.model = model or ""

    def close(self) -> None:
        self._http.close()

    def models(self) -> list[str]:
        """Lists what may be asked for; compositions come first."""
        response = self._sent(self._http.build_request("GET", f"{self._url}/v1/models"), stream=False)
        try:
            return [model.id for model in _Models.model_validate_json(response.content).data]
        except ValidationError:
            raise OperatorError(f"{self._url} answers as no gateway does; name another with --url") from None

    def ask(self, question: str) -> Iterator[str]:
        """Yields the answer's text as it comes. What came of one that was broken off is kept too."""
        self.model = self.model or next(iter(self.models()), "coe")
        self.messages.append({"role": "user", "content": question})
        body = {"model": self.model, "messages": self.messages, "stream": True}
        request = self._http.build_request("POST", f"{self._url}/v1/chat/completions", json=body)
        text = ""
        try:
            with closing(self._sent(request, stream=True)) as response:
                self.answered = _who(response.headers)
                for line in response.iter_lines():
                    piece = _text(line)
                    text += piece
                    if piece:
                        yield piece
        except httpx.HTTPError as error:
            raise OperatorError(f"{self._url}: the answer broke off: {error}") from error
        finally:
            if text:
                self.messages.append({"role": "assistant", "content": text})
            else:
                self.messages.pop()

    def _sent(self, request: httpx.Request, *, stream: bool) -> httpx.Response:
        try:
            response = self._http.send(request, stream=stream)
            if response.is_error:
                with closing(response):
                    raise OperatorError(_problem(response.read(), response.status_code, self._url))
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise OperatorError(
                f"{self._url} is no address of a gateway; write it like http://127.0.0.1:8000"
            ) from error
        except httpx.HTTPError as error:
            raise OperatorError(
                f"cannot reach {self._url}: is `coe serve` running? ({error}); name another with --url"
            ) from error
        return response


def _who(headers: httpx.Headers) -> str:
    said = [f"{name} {headers[f'x-coe-{name}']}" for name in WHY if f"x-coe-{name}" in headers]
    return f"{headers.get('x-coe-expert', 'somebody')} ({', '.join(said)})"


def _text(line: str) -> str:
    """The text in a line of the stream. Raises OperatorError where it is an error's."""
    if not line.startswith("data: ") or line == "data: [DONE]":
        return ""
    event = json.loads(line.removeprefix("data: "))
    if "error" in event:
        raise OperatorError(str(event["error"].get("message", event["error"])))
    choices = event.get("choices") or [{}]
    delta = choices[0].get("delta") or {}
    return str(delta.get("reasoning") or "") + str(delta.get("content") or "")


def _problem(body: bytes, status: int, url: str) -> str:
    try:
        message = _ErrorBody.model_validate_json(body).error.message
    except ValidationError:
        return f"{url} answered {status}: is it a gateway?"
    return f"{message} (COE_API_KEY has the key.)" if status == 401 else message
