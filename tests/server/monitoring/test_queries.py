"""Dashboards and alarms against a real Prometheus that scrapes a running gateway."""

import asyncio
import json
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from server.config.settings import Settings
from server.routing.catalog import compositions_of
from tests.server.conftest import EXPERTS, ROOT, Gateway, Serving

MONITORING = ROOT / "monitoring"
DASHBOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
SCRAPES = 4
"""Scrapes until rates are asked for: two of them, and some to spare."""


@pytest.fixture(autouse=True)
def _programs() -> None:
    assert shutil.which("prometheus"), "no Prometheus: apt-get install prometheus, as .ci/run does"


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> Iterator[tuple[str, str]]:
    """Every query of a dashboard with where it stands, over a time in which there are scrapes."""
    for file in DASHBOARDS:
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                query = re.sub(r"\[(?:\$__rate_interval|1h)\]", "[1m]", target["expr"])
                yield f"{file.stem}: {panel['title']}", query


@asynccontextmanager
async def prometheus(gateway: Gateway, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A Prometheus on a free port, once it has scraped ``gateway`` a few times. It writes to ``folder``."""
    scraped = {"job_name": "coe", "static_configs": [{"targets": [gateway.url.removeprefix("http://")]}]}
    every = {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"}
    rules = [str(MONITORING / "rules.yml")]
    (folder / "prometheus.yml").write_text(
        yaml.safe_dump({"global": every, "rule_files": rules, "scrape_configs": [scraped]})
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1") as client:
            async with asyncio.timeout(60):
                while not await scrapes(client) >= SCRAPES:
                    assert process.returncode is None, (folder / "prometheus.log").read_text()
                    await asyncio.sleep(0.1)
            yield client
    finally:
        process.terminate()
        await process.wait()


async def scrapes(client: httpx.AsyncClient) -> int:
    try:
        found = await result(client, 'count_over_time(up{job="coe"}[1m]) and up == 1')
    except (httpx.TransportError, httpx.HTTPStatusError):
        return 0  # it has just started
    return int(found[0]["value"][1]) if found else 0


async def result(client: httpx.AsyncClient, query: str) -> list[dict[str, Any]]:
    answer = await client.get("/query", params={"query": query})
    answer.raise_for_status()
    found: list[dict[str, Any]] = answer.json()["data"]["result"]
    return found


async def test_every_query_finds_series_of_a_running_gateway(
    serving: Serving, settings: Settings, tmp_path: Path
) -> None:
    """Rates need a sample from before something was counted: it is asked before it is scraped, and after."""
    async with serving(settings) as gateway:

        async def ask() -> None:
            for model in (*EXPERTS, "coe"):
                assert (await gateway.post(model=model)).status_code == 200
            assert (await gateway.post(model="nobody")).status_code == 404

        decision = compositions_of(settings)["coe"].router.decide("What is 2+2?")
        for category, share in gateway.services.catalog.routing.expected["coe"].items():
            for _ in range(round(500 * share)):  # as many as drift is measured from, as in training
                gateway.services.metrics.decided("coe", replace(decision, category=category), "map")
        await ask()
        async with prometheus(gateway, tmp_path) as client:
            await ask()
            before = await scrapes(client)
            while not await scrapes(client) > before + 1:  # noqa: ASYNC110  Prometheus tells nobody
                await asyncio.sleep(0.1)
            names = set((await client.get("/label/__name__/values")).json()["data"])
            unanswered = {where: query for where, query in panels() if not await result(client, query)}
            unknown = {
                rule["alert"]: sorted(used)
                for rule in rules()
                if (used := {*re.findall(r"\bcoe_\w+", rule["expr"])} - names)
            }
            firing = {
                alert["labels"]["alertname"]
                for alert in (await client.get("/alerts")).json()["data"]["alerts"]
            }
    assert (unanswered, unknown) == ({}, {})
    assert firing - {"CoeDiskNearlyFull"} == set()  # whose disk it is, is not the gateway's to say


def test_each_alarm_fires_on_what_it_is_for_and_has_a_runbook() -> None:
    tested = subprocess.run(
        ["promtool", "test", "rules", "alarms.yml"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    cases = (Path(__file__).parent / "alarms.yml").read_text()
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "guides" / "alarms.md").read_text(), re.MULTILINE)
    alarms = [rule["alert"] for rule in rules()]
    assert headings == alarms
    for rule in rules():
        assert f"alertname: {rule['alert']}\n        exp_alerts: [{{" in cases
        assert rule["annotations"]["runbook"] == f"docs/guides/alarms.md#{rule['alert'].lower()}"


def test_prometheus_takes_its_configuration() -> None:
    checked = subprocess.run(
        ["promtool", "check", "config", str(MONITORING / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_compose_gives_prometheus_and_grafana_what_they_read() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert {name for name, service in services.items() if service.get("profiles") == ["monitoring"]} == {
        "prometheus",
        "grafana",
    }
    mounted = [
        volume.split(":")[0]
        for name in ("prometheus", "grafana")
        for volume in services[name]["volumes"]
        if volume.startswith(".")
    ]
    assert mounted
    for path in mounted:
        assert (ROOT / path).exists(), path
    (source,) = yaml.safe_load((MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
