"""The way past FastAPI for the paths on which every microsecond counts: it knows them, and nothing else."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[Response]]


class FastPath:
    """Calls ``fast[path]`` for a POST, and ``app`` for anything else. ``app`` serves these endpoints too, and
    describes them. They need nothing of it but its state: no path parameters, no dependencies, and they
    answer their errors themselves. Where ``app`` has middleware, it answers everything.

    An answer costs 250 us of processor time so, and 350 through FastAPI's own stack and router, on one core
    of a busy machine (``python -m scripts.measure.fast_path``).
    """

    def __init__(self, app: FastAPI, fast: Mapping[str, Endpoint]) -> None:
        self._app = app
        self._fast = fast

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._fast.get(scope["path"]) if scope["type"] == "http" else None
        if endpoint is None or scope["method"] != "POST" or self._app.user_middleware:
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        response = await endpoint(FastRequest(scope, receive))
        await response(scope, receive, send)

    def __repr__(self) -> str:
        return f"<FastPath for {', '.join(self._fast)}>"


class FastRequest(Request):
    """A request whose headers are looked up, where starlette's walks through all of them each time."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(scope, receive)
        self._looked_up = FastHeaders(scope)

    @property
    def headers(self) -> Headers:
        return self._looked_up


class FastHeaders(Headers):
    def __init__(self, scope: Scope) -> None:
        super().__init__(scope=scope)
        # Of several of one name the first counts, as with starlette.
        self._first = {name.decode("latin-1"): value for name, value in reversed(self.raw)}

    def __getitem__(self, key: str) -> str:
        return self._first[key.lower()].decode("latin-1")

    def get(self, key: str, default: Any = None) -> Any:
        value = self._first.get(key.lower())
        return default if value is None else value.decode("latin-1")

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower() in self._first
