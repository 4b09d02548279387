"""What a server's answers to operators mean, when its engine core lives and when it does not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from experts.errors import DeviceFull, EngineUnavailable, ExpertsError, LoadFailed
from experts.vllm.server import VllmServer


@asynccontextmanager
async def server_that_answers(
    socket: Path, *, intact: bool = True, reports: list[dict[str, Any]] | None = None
) -> AsyncIterator[VllmServer]:
    """``reports``: of the workers; None: the server answers 500."""

    async def answers(request: web.Request) -> web.Response:
        if reports is None:
            return web.Response(status=500, text="EngineCore encountered an issue")
        return web.json_response({"results": reports})

    application = web.Application()
    application.router.add_post("/collective_rpc", answers)
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
    async with server_that_answers(tmp_path / "s", intact=intact) as server:
        with pytest.raises(meaning):
            await server.worker("coe_load_more", "math")


async def test_an_experts_bytes_are_those_of_all_ranks(tmp_path: Path) -> None:
    """Ranks differ: what is not divided (norms, a key-value head for several ranks) is in each."""
    reports = [{"held_bytes": 12, "whole": True}, {"held_bytes": 11, "whole": False}]
    async with server_that_answers(tmp_path / "s", reports=reports) as server:
        assert await server.worker("coe_load_more", "math") == {"held_bytes": 23, "whole": False}


async def test_a_device_without_room_is_told_from_other_failures(tmp_path: Path) -> None:
    reports: list[dict[str, Any]] = [{"held_bytes": 1}, {"error": "CUDA out of memory", "full": True}]
    async with server_that_answers(tmp_path / "s", reports=reports) as server:
        with pytest.raises(DeviceFull, match="out of memory"):
            await server.worker("coe_load", "math")
