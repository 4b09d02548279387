"""The end of a node that an operator sends away."""

import asyncio
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from server.node.departure import Departure
from server.services import NodeServices


async def test_a_node_that_fails_to_give_away_says_so_and_ends_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Peers:
        leaving = False

        @property
        def here(self) -> Any:
            raise RuntimeError("it cannot be described")

    raised: list[int] = []
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    settings = SimpleNamespace(cluster=SimpleNamespace(drained=tmp_path / "drained"))
    services = SimpleNamespace(peers=Peers(), residency=SimpleNamespace(note=lambda: None), settings=settings)
    departure = Departure(cast(NodeServices, services))
    departure.begin()
    assert departure._task is not None
    await asyncio.wait([departure._task])
    assert raised == [signal.SIGTERM]
    assert "it cannot be described" in caplog.text
    assert (tmp_path / "drained").exists(), "it was sent away"
