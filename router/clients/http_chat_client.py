"""Chat completions of an OpenAI-compatible endpoint: bounded, paced, retried."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import BaseModel, ValidationError

from router.clients.chat_client import Ask, Reply
from router.clients.openai_endpoint import BUSY, Endpoint, error_code, retry_after_s, why
from router.clients.rate_limiter import Pace
from router.errors import EndpointError, PromptRefused

ATTEMPTS = 6
LONGEST_WAIT_S = 300.0
"""Longest time that an endpoint may ask to wait; a longer one is a quota, and the run goes on another day."""
PATIENCE_S = 600.0
"""For one answer: an expert may have to be loaded first."""
KEPT_S = 2.0
"""A connection, unused: less than servers keep it, which would close it under a request."""
_REFUSED = {400, 413, 422}
_SPENT = "insufficient_quota"


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(BaseModel):
    choices: list[_Choice]
    usage: _Usage | None = None


class _Detail(BaseModel):
    parameters: int | None = None


class _Model(BaseModel):
    id: str
    coe: _Detail | None = None


class _Models(BaseModel):
    data: list[_Model]


class HttpChat:
    """Answers of the models at one endpoint. A busy endpoint (429, 5xx, no connection) is asked again
    up to six times, after what its Retry-After says or 1, 2, 4 ... seconds; then every call waits, not only
    the one that was refused."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        concurrency: int,
        requests_per_minute: float | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._endpoint = endpoint
        self._pace = Pace(requests_per_minute)
        self._places = asyncio.Semaphore(concurrency)
        self._sleep = sleep
        self._reached = False
        limits = httpx.Limits(max_connections=concurrency, keepalive_expiry=KEPT_S)
        timeout = httpx.Timeout(PATIENCE_S, connect=10.0)
        self._http = httpx.AsyncClient(headers=endpoint.headers, limits=limits, timeout=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    def __repr__(self) -> str:
        return f"<HttpChat {self._endpoint.url}, {self._pace!r}>"

    async def reply(self, ask: Ask) -> Reply:
        async with self._places:
            for attempt in range(ATTEMPTS):
                response = await self._once(ask)
                if isinstance(response, httpx.Response):
                    self._reached = True
                    if response.status_code not in BUSY or error_code(response) == _SPENT:
                        return self._read(ask, response)
                self._hold(attempt, response, ask)
        raise EndpointError(f"{self._problem(ask, response)}; given up after {ATTEMPTS} attempts")

    async def sizes(self) -> dict[str, float]:
        """Billions of parameters of each model that the endpoint tells them of, as a gateway of ours does; of
        none where it does not list its models."""
        try:
            response = await self._http.get(f"{self._endpoint.url}/models")
            listed = _Models.model_validate_json(response.content).data
        except (httpx.HTTPError, ValidationError):
            return {}
        return {each.id: each.coe.parameters / 1e9 for each in listed if each.coe and each.coe.parameters}

    async def _once(self, ask: Ask) -> httpx.Response | httpx.HTTPError:
        now = asyncio.get_running_loop().time()
        await self._sleep(self._pace.start(now) - now)
        try:
            return await self._http.post(f"{self._endpoint.url}/chat/completions", json=_body(ask))
        except httpx.HTTPError as error:
            if not self._reached and isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                raise EndpointError(self._problem(ask, error)) from error
            return error

    def _hold(self, attempt: int, response: httpx.Response | httpx.HTTPError, ask: Ask) -> None:
        asked = retry_after_s(response) if isinstance(response, httpx.Response) else None
        if asked is not None and asked > LONGEST_WAIT_S:
            raise EndpointError(f"{self._problem(ask, response)}; it asks to wait {asked:.0f} s")
        wait = 2.0**attempt if asked is None else asked
        self._pace.hold(asyncio.get_running_loop().time() + wait)

    def _problem(self, ask: Ask, response: httpx.Response | httpx.HTTPError) -> str:
        if isinstance(response, httpx.Response):
            return f"{self._endpoint.url} {self._endpoint.complaint(ask.model, response)}"
        return f"cannot reach {self._endpoint.url} ({why(response)})"

    def _read(self, ask: Ask, response: httpx.Response) -> Reply:
        if not response.is_success:
            refused = PromptRefused if response.status_code in _REFUSED else EndpointError
            raise refused(self._problem(ask, response))
        try:
            completion = _Completion.model_validate_json(response.content)
            choice = completion.choices[0]
        except (ValidationError, IndexError) as error:
            raise EndpointError(
                f"{self._endpoint.url} answered with something else than a chat completion: "
                "is it an OpenAI-compatible endpoint?"
            ) from error
        usage = completion.usage or _Usage()
        cut = choice.finish_reason == "length"
        text, expert = choice.message.content or "", response.headers.get("x-coe-expert", "")
        return Reply(text, cut, usage.prompt_tokens, usage.completion_tokens, expert)


def _body(ask: Ask) -> dict[str, Any]:
    system = [{"role": "system", "content": ask.system}] if ask.system else []
    said = [*ask.before, ask.prompt]
    turns = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(said)]
    return {
        "model": ask.model,
        "messages": [*system, *turns],
        "max_tokens": ask.max_tokens,
        "temperature": ask.temperature,
    }
