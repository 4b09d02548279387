"""Gateway as ``coe bench gateway`` runs it: five experts without weights on one simulated engine."""

import asyncio
import os
import sys
from pathlib import Path

import yaml

import router
from benchmarks.gateway.cpu import children
from benchmarks.gateway.pinned import Pinned, free_port
from benchmarks.gateway.proxy import Site
from benchmarks.gateway.upstream import CHECKPOINT, EXPERT
from experts.checkpoints.prepare import prepare
from experts.spec import SimulationConfig
from server.config.settings import load

ROUTED = "coe"
EXPERTS = ("general", "math", "coding", "medicine", EXPERT)
"""Experts that the embedded router chooses from."""


class OurGateway:
    """``coe serve``, and its engine on the upstream's core. Answers as ``EXPERT`` without a decision, as
    ``ROUTED`` with the embedded router."""

    name = "gateway"

    def __init__(self, speeds: SimulationConfig) -> None:
        """``speeds``: of its engine, which are the upstream's."""
        self._speeds = speeds.model_copy(update={"process": True})
        self._running: Pinned | None = None
        self.port = 0
        self.upstream: tuple[int, ...] = ()

    @property
    def pids(self) -> tuple[int, ...]:
        return () if self._running is None else self._running.pids

    def unfit(self) -> str | None:
        return None

    async def start(self, site: Site) -> None:
        file = await asyncio.to_thread(self.prepare, site.folder)
        self.port = free_port()
        command = [
            sys.executable,
            "-m",
            "server.cli",
            "serve",
            "--config",
            str(file),
            "--port",
            str(self.port),
        ]
        log = site.folder / "gateway.log"
        self._running = await Pinned.launch(command, site.cores.proxy, self.port, log)
        await self._running.ready(EXPERT)
        await self._running.ready(ROUTED)
        self.upstream = tuple(children(self._running.pid))
        for pid in self.upstream:
            os.sched_setaffinity(pid, {site.cores.upstream})

    async def stop(self) -> None:
        if self._running is not None:
            await self._running.stop()
        self._running = None

    def prepare(self, folder: Path) -> Path:
        """Prepares its experts, and returns its configuration's file."""
        embedded = Path(router.__file__).parent / "embedded"
        tree = {
            "state": str(folder),
            "tiers": {"device": "1MB", "host": "1MB"},
            "families": {"small": {"mode": "simulated", "simulation": self._speeds.model_dump(mode="json")}},
            "experts": {
                name: {"family": "small", "checkpoint": {"folder": str(folder / CHECKPOINT)}, "pinned": True}
                for name in EXPERTS
            },
            "compositions": {ROUTED: {"artifact": str(embedded)}},
        }
        file = folder / "config.yaml"
        file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
        settings = load(file)
        for name, expert in settings.experts.items():
            prepare(name, expert, settings.store)
        return file

    def __repr__(self) -> str:
        return f"<OurGateway {self._running!r}>"
