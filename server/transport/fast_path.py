"""The way past FastAPI for the paths on which every microsecond counts: it knows them, and nothing else."""

from collections.abc import Awaitable, Callable, Mapping

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[Response]]


class FastPath:
    """Calls ``fast[path]`` for a POST, and ``app`` for anything else. ``app`` serves these endpoints too, and
    describes them. They need nothing of it but its state: no path parameters, no dependencies, and they
    answer their errors themselves. Where ``app`` has middleware, it answers everything.

    An answer costs 250 us of processor time so, and 350 through FastAPI's own stack and router, on one core
    of a busy machine (``python -m scripts.measure.fast_path``).
    """

    def __init__(self, app: FastAPI, fast: Mapping[str, Endpoint], otherwise: ASGIApp | None = None) -> None:
        """``otherwise``: called for anything else, in the place of ``app``."""
        self._app = app
        self._fast = fast
        self._otherwise = otherwise or app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._fast.get(scope["path"]) if scope["type"] == "http" else None
        if endpoint is None or scope["method"] != "POST" or self._app.user_middleware:
            await self._otherwise(scope, receive, send)
            return
        scope["app"] = self._app
        response = await endpoint(FastRequest(scope, receive))
        await response(scope, receive, send)

    def __repr__(self) -> str:
        return f"<FastPath for {', '.join(self._fast)}>"


class FastRequest(Request):
    """A request whose headers are looked up by their names in lower case, where starlette's walks through all
    of them each time."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(scope, receive)
        # Of several of one name the first counts, as with starlette.
        self._looked_up = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])
        }

    @property
    def headers(self) -> Mapping[str, str]:  # type: ignore[override]  # no more than this is asked of it
        return self._looked_up
