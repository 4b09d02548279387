"""An interleaved engine that falls asleep or wakes while something else happens to it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from experts.engines.engine import EngineState
from experts.errors import LoadFailed
from experts.spec import Expert, FamilyConfig
from experts.vllm.interleaved import InterleavedEngine
from experts.vllm.server import VllmServer


class Server:
    """A server that does as it is told. ``reset``: its answer to a reset of the prefix cache."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.reset = b'{"success":true}'
        self.after: Callable[[str], None] = lambda call: None

    async def worker(self, method: str, *arguments: str) -> dict[str, Any]:
        return {"whole": True, "converted": False, "held_bytes": 7, "call": self._called(method)}

    async def command(self, path: str) -> bytes:
        self._called(path)
        return self.reset

    def _called(self, call: str) -> str:
        self.calls.append(call)
        self.after(call)
        return call


class Engine(InterleavedEngine):
    """An engine that runs on ``Server``."""

    def __init__(self, tmp_path: Path) -> None:
        super().__init__("f", FamilyConfig(), tmp_path)
        self.it = Server()
        self.enter("ready")

    @property
    def server(self) -> VllmServer:
        return cast(VllmServer, self.it)

    def enter(self, state: EngineState) -> None:
        self._state = state

    def dies_after(self, call: str) -> None:
        self.it.after = lambda done: self.enter("dead") if done == call else None


async def test_an_engine_whose_prefix_cache_stays_does_not_sleep(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    engine.it.reset = b'{"success":false}'  # its blocks would be zeroes after the wake
    with pytest.raises(LoadFailed, match="prefix cache is in use"):
        await engine.sleep()
    assert engine.state == "ready"


async def test_a_version_that_does_not_say_whether_it_was_reset_sleeps(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    engine.it.reset = b""
    await engine.sleep()
    assert engine.state == "asleep"


async def test_an_engine_that_dies_as_it_falls_asleep_is_dead(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    engine.dies_after("/reset_prefix_cache")
    await engine.sleep()
    assert engine.state == "dead", "it can be started again"


async def test_an_engine_that_dies_as_it_wakes_is_dead(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    await engine.sleep()
    engine.dies_after("coe_wake")
    await engine.load(Expert("law", "f", tmp_path, 8, 2, "fingerprint", ""), tmp_path)
    assert engine.state == "dead"
