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
    """Calls ``quick[path]`` for a POST, and ``app`` for anything else. ``app`` serves the quick ones too, and
    describes them: it only takes longer. They need nothing of it but its state: no path parameters, no
    dependencies, and their errors they answer themselves."""

    def __init__(self, app: FastAPI, quick: Mapping[str, Endpoint]) -> None:
        self._app = app
        self._quick = quick

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._quick.get(scope["path"]) if scope["type"] == "http" else None
        if endpoint is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        response = await endpoint(FastRequest(scope, receive))
        await response(scope, receive, send)

    def __repr__(self) -> str:
        return f"<FastPath of {', '.join(self._quick)}>"


class FastRequest(Request):
    """A request whose headers are looked up, where starlette's walks through all of them each time."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(scope, receive)
        self._headers = FastHeaders(scope)  # what its property gives, if it is there


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
