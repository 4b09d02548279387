"""What a server's answers to operators mean, when its engine core lives and when it does not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from experts.errors import EngineUnavailable, ExpertsError, LoadFailed
from experts.vllm.server import VllmServer


@asynccontextmanager
async def server_that_answers_500(socket: Path, *, intact: bool) -> AsyncIterator[VllmServer]:
    async def fails(request: web.Request) -> web.Response:
        return web.Response(status=500, text="EngineCore encountered an issue")

    application = web.Application()
    application.router.add_post("/collective_rpc", fails)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()

    async def stop() -> None:
        await runner.cleanup()

    process: Any = SimpleNamespace(socket=socket, intact=intact, stop=stop)
    server = VllmServer(process)
    try:
        yield server
    finally:
        await server.close()


@pytest.mark.parametrize(("intact", "meaning"), [(True, LoadFailed), (False, EngineUnavailable)])
async def test_a_failed_command_is_the_loads_failure_only_while_all_of_the_engine_lives(
    intact: bool, meaning: type[ExpertsError], tmp_path: Path
) -> None:
    async with server_that_answers_500(tmp_path / "s", intact=intact) as server:
        with pytest.raises(meaning):
            await server.worker("coe_load_more", "math")
