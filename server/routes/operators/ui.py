"""The page of a gateway: files of the package, which a browser may run and nothing else."""

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

UI = Path(__file__).parent.parent.parent / "ui"
"""Files of the page."""
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "cache-control": "no-cache",  # asks again, and is told that nothing changed
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class PageFile:
    """A file of the page, read once."""

    def __init__(self, file: Path) -> None:
        self._content = file.read_bytes()
        tag = f'"{hashlib.sha256(self._content).hexdigest()[:16]}"'
        self._headers = {**HEADERS, "content-type": _TYPES[file.suffix], "etag": tag}
        self._tag = tag

    async def __call__(self, request: Request) -> Response:
        if request.headers.get("if-none-match") == self._tag:
            return Response(status_code=304, headers=self._headers)
        return Response(self._content, headers=self._headers)

    def __repr__(self) -> str:
        return f"<PageFile {self._headers['content-type']} {self._tag}>"


def page_router() -> APIRouter:
    """Makes the routes of the page; ``/docs`` leads a browser there. Reads its files."""
    router = APIRouter()
    router.routes.append(Route("/docs", _leading("/ui#/api"), include_in_schema=False))
    router.routes.append(Route("/ui", PageFile(UI / "index.html").__call__, include_in_schema=False))
    for file in sorted(UI.rglob("*.*")):
        if file.suffix in _TYPES and file.name != "index.html":
            path = f"/ui/{file.relative_to(UI).as_posix()}"
            router.routes.append(Route(path, PageFile(file).__call__, include_in_schema=False))
    return router


def _leading(place: str) -> Callable[[Request], Awaitable[Response]]:
    async def lead(request: Request) -> Response:
        return RedirectResponse(place, 307)

    return lead
