"""The whole examination: measures this machine, and has each part judged."""

import functools
import os
import resource
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from experts.memory.machine_memory import memory
from experts.memory.shared_memory import shared_memory
from experts.vllm_seams import missing_seam
from experts.vllm_version import installed_vllm
from memory_tiers.gpu_memory import gpus_here
from server.config.installation import default_state
from server.config.settings import Settings
from server.doctor import configured, engines, machine
from server.doctor.finding import Finding, ok

DRIVER = Path("/sys/module/nvidia/version")


def examination(file: Path) -> Iterator[Finding]:
    """Yields the findings, one after the other: the machine's, vLLM's, the configuration's."""
    yield machine.processor(len(os.sched_getaffinity(0)))
    yield machine.main_memory(memory)
    yield machine.shared_memory_room(shared_memory)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    yield machine.open_files(None if hard == resource.RLIM_INFINITY else hard)
    yield machine.clock(time.time(), Path(__file__).stat().st_mtime)
    vllm = installed_vllm()
    yield engines.vllm(vllm)
    yield engines.seams(vllm, missing_seam() if vllm is not None else None)
    yield engines.libraries(vllm)
    driver = DRIVER.read_text().strip() if DRIVER.is_file() else None
    yield engines.gpus(vllm, gpus_here, driver)
    yield engines.compiler(vllm, shutil.which("g++"))
    settings = configured.read(file)
    if isinstance(settings, Finding):
        yield machine.disk(default_state())
        yield settings
    else:
        yield from _of_configuration(settings, file)


def _of_configuration(settings: Settings, file: Path) -> Iterator[Finding]:
    yield machine.disk(settings.state or default_state())
    yield ok("configuration", f"{file}: {len(settings.families)} families, {len(settings.experts)} experts")
    server = settings.server
    scheme = "http" if server.tls_cert is None else "https"
    serves = functools.partial(_serves, scheme, server.host, server.port)  # it has the other ports then
    for setting, host, number in _listeners(settings):
        yield configured.port(setting, host, number, _bind, serves)
    yield from configured.checkpoints(settings)
    yield configured.routers(settings)
    yield configured.plan(settings)


def _listeners(settings: Settings) -> Iterator[tuple[str, str, int]]:
    """Yields the addresses that ``coe serve`` listens on, with the setting of each one's port."""
    server, node = settings.server, settings.cluster
    yield "server.port", server.host, server.port
    if server.admin_port is not None:
        yield "server.admin_port", server.admin_host, server.admin_port
    if node is not None:
        yield "cluster.port", node.host, node.port


def _bind(host: str, number: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, number), family=family):
        pass


def _serves(scheme: str, host: str, number: int) -> bool:
    here = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104  # compared, not bound
    try:
        answer = httpx.get(f"{scheme}://{here}:{number}/health", timeout=2, trust_env=False, verify=False)  # noqa: S501
    except httpx.HTTPError:
        return False
    return answer.status_code == 200
