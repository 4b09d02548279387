"""Seam of ``coe bench gateway``: proxies between a client and an engine."""

import os
import shutil
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.gateway.pinned import Cores, Pinned, free_port
from benchmarks.gateway.upstream import EXPERT

DIRECT = "direct"
NGINX = "nginx"
VLLM_ROUTER = "vllm-router"
PASS_THROUGH = "FastAPI + httpx"
NGINX_CONFIGURATION = """
daemon off; {user} worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream engine {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048; keepalive_requests 100000000;
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Site:
    """Site of a proxy: the engine's port, a folder for its files, and the cores of each process."""

    upstream: Pinned
    folder: Path
    cores: Cores


class Proxy(Protocol):
    """Implementations: ``Direct``, ``Nginx``, ``VllmRouter``, ``PassThrough``, ``OurGateway``."""

    @property
    def name(self) -> str: ...

    @property
    def port(self) -> int:
        """Returns the port once it is started."""
        ...

    @property
    def pids(self) -> tuple[int, ...]:
        """Returns its processes."""
        ...

    @property
    def upstream(self) -> tuple[int, ...]:
        """Returns the processes of the engine that answers it."""
        ...

    def unfit(self) -> str | None:
        """Says why this machine cannot measure it; None when it can be tried."""
        ...

    async def start(self, site: Site) -> None:
        """Returns once it answers. Raises EngineError."""
        ...

    async def stop(self) -> None:
        """Leaves nothing. Idempotent."""
        ...


class Direct:
    """Direct connection, without a proxy."""

    name = DIRECT
    pids = ()

    def __init__(self) -> None:
        self.port = 0
        self.upstream: tuple[int, ...] = ()

    def unfit(self) -> str | None:
        return None

    async def start(self, site: Site) -> None:
        self.port, self.upstream = site.upstream.port, site.upstream.pids

    async def stop(self) -> None:
        pass


class OneProcess(ABC):
    """Base of proxies that are one command on one core in front of the upstream's port."""

    name = ""

    def __init__(self) -> None:
        self._running: Pinned | None = None
        self.port = 0
        self.upstream: tuple[int, ...] = ()

    @property
    def pids(self) -> tuple[int, ...]:
        return () if self._running is None else self._running.pids

    async def start(self, site: Site) -> None:
        self.port, self.upstream = free_port(), site.upstream.pids
        log = site.folder / f"{self.name}.log"
        self._running = await Pinned.launch(self._command(site), site.cores.proxy, self.port, log)
        await self._running.ready(EXPERT)

    async def stop(self) -> None:
        if self._running is not None:
            await self._running.stop()
        self._running = None

    @abstractmethod
    def _command(self, site: Site) -> list[str]: ...

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._running!r}>"


class Nginx(OneProcess):
    """One worker that keeps its connections to the engine and passes on what comes at once."""

    name = NGINX

    def __init__(self, program: Path | None) -> None:
        super().__init__()
        self._program = program or _found("nginx")

    def unfit(self) -> str | None:
        if self._program is None:
            return "nginx is not installed (--nginx)"
        return None if os.access(self._program, os.X_OK) else f"{self._program} is no program (--nginx)"

    def _command(self, site: Site) -> list[str]:
        file = site.folder / "nginx.conf"
        file.write_text(
            NGINX_CONFIGURATION.format(
                user="user root;" if os.geteuid() == 0 else "",
                folder=site.folder,
                upstream=site.upstream.port,
                port=self.port,
            ),
            encoding="utf-8",
        )
        return [str(self._program), "-e", "stderr", "-p", str(site.folder), "-c", str(file)]


class VllmRouter(OneProcess):
    """vllm-router of PyPI, which is written in Rust, with its defaults and one worker to choose from."""

    name = VLLM_ROUTER

    def __init__(self, python: Path | None) -> None:
        """``python``: an interpreter that has it."""
        super().__init__()
        self._python = python

    def unfit(self) -> str | None:
        if self._python is None:
            return "no interpreter with vllm_router was named (--router-python)"
        return None if self._python.is_file() else f"no file {self._python} (--router-python)"

    def _command(self, site: Site) -> list[str]:
        listening = ["--host", "127.0.0.1", "--port", str(self.port), "--prometheus-port", str(free_port())]
        worker = ["--worker-urls", f"http://127.0.0.1:{site.upstream.port}", "--policy", "round_robin"]
        return [str(self._python), "-m", "vllm_router.launch_router", *listening, *worker]


class PassThrough(OneProcess):
    """``benchmarks.gateway.pass_through`` under uvicorn."""

    name = PASS_THROUGH

    def unfit(self) -> str | None:
        return None

    def _command(self, site: Site) -> list[str]:
        upstream = f"UPSTREAM=http://127.0.0.1:{site.upstream.port}"
        command = [sys.executable, "-m", "uvicorn", "benchmarks.gateway.pass_through:app", "--no-access-log"]
        return ["env", upstream, *command, "--log-level", "warning", "--port", str(self.port)]


def _found(program: str) -> Path | None:
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return None if path is None else Path(path)
