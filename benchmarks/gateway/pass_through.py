"""The plainest proxy one writes: FastAPI and httpx. A rival of ``coe bench gateway``.

``UPSTREAM=http://127.0.0.1:PORT uvicorn benchmarks.gateway.pass_through:app``.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Request
from starlette.background import BackgroundTask
from starlette.responses import Response, StreamingResponse

from benchmarks.gateway.load import PATH


@asynccontextmanager
async def client(app: FastAPI) -> AsyncIterator[None]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=os.environ["UPSTREAM"], limits=limits, timeout=None) as upstream:
        app.state.upstream = upstream
        yield


app = FastAPI(lifespan=client)


@app.post(PATH)
async def pass_on(request: Request) -> Response:
    upstream: httpx.AsyncClient = request.app.state.upstream
    headers = {"content-type": "application/json"}
    sent = upstream.build_request("POST", PATH, content=await request.body(), headers=headers)
    answer = await upstream.send(sent, stream=True)
    kind = answer.headers["content-type"]
    if kind.startswith("text/event-stream"):
        closing = BackgroundTask(answer.aclose)
        return StreamingResponse(answer.aiter_raw(), answer.status_code, media_type=kind, background=closing)
    return Response(await answer.aread(), answer.status_code, media_type=kind)
