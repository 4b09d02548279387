"""The fast path answers as the application does, and steps aside where that has middleware."""

import pytest
from fastapi import FastAPI, Request, Response
from starlette.datastructures import Headers
from starlette.middleware.base import RequestResponseEndpoint
from starlette.requests import empty_receive
from starlette.routing import Route

from server.app import FAST_ENDPOINTS, create_app
from server.config.settings import Settings
from server.reload.reload import Reload
from server.transport.fast_path import FastRequest
from tests.server.conftest import Serving, chat

RAW = [(b"host", b"a"), (b"x-twice", b"1"), (b"x-twice", b"2"), (b"x-latin", b"\xe9")]


@pytest.mark.parametrize("name", ["host", "x-twice", "x-latin", "x-none"])
def test_a_header_is_what_starlette_says_it_is(name: str) -> None:
    quick = FastRequest({"type": "http", "headers": RAW}, empty_receive).headers
    starlettes = Headers(raw=RAW)
    assert quick.get(name) == starlettes.get(name)
    assert (name in quick) == (name in starlettes)
    assert quick.get(name, "else") == starlettes.get(name, "else")
    assert quick.keys() == {*starlettes.keys()}


async def test_every_fast_path_is_served_and_described_by_the_application_too(
    settings: Settings, serving: Serving
) -> None:
    async with serving(settings) as gateway:
        app = create_app(gateway.made, Reload(gateway.services, lambda: settings))
        for path, endpoint in FAST_ENDPOINTS.items():
            assert "post" in app.openapi()["paths"][path]
            routes = [route for route in app.routes if isinstance(route, Route) and route.path == path]
            assert endpoint in [route.endpoint for route in routes if "POST" in (route.methods or ())]


async def test_other_methods_and_paths_are_the_applications(settings: Settings, serving: Serving) -> None:
    async with serving(settings) as gateway:
        for method, path, status in (
            ("GET", "/v1/chat/completions", 405),
            ("GET", "/health", 200),
        ):
            assert (await gateway.http.request(method, path)).status_code == status
        answer = await gateway.http.post("/v1/chat/completions?a=b", json=chat())
        assert answer.status_code == 200


async def test_middleware_of_the_application_runs_on_every_path(settings: Settings, serving: Serving) -> None:
    def mark(app: FastAPI) -> None:
        @app.middleware("http")
        async def marked(request: Request, call_next: RequestResponseEndpoint) -> Response:
            answer = await call_next(request)
            answer.headers["x-marked"] = request.url.path
            return answer

    async with serving(settings, extend=mark) as gateway:
        for stream in (False, True):
            answer = await gateway.post(stream=stream)
            assert answer.status_code == 200
            assert answer.headers["x-marked"] == "/v1/chat/completions"
        assert (await gateway.http.get("/health")).headers["x-marked"] == "/health"
