"""A fleet on a Ray cluster of three machines, all of them this one, over simulated engines."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from server.config.settings import Settings
from tests.server.conftest import ROOT, chat

PATIENCE_S = 240.0
MEMORY = 80 * 2**20
KEY = "the key of operators"
AS_OPERATOR = {"authorization": f"Bearer {KEY}"}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "120")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # beside other tests it would wait for them
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False},
    )
    try:
        made.add_node(num_cpus=1, object_store_memory=MEMORY)
        yield made
    finally:
        made.shutdown()


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end, "in vain"
        time.sleep(0.2)
    return found


def coe(*arguments: str) -> str:
    command = [sys.executable, "-m", "server.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def nodes(folder: Path) -> dict[str, Any]:
    return {file.parent.name: json.loads(file.read_text()) for file in folder.glob("fleet/*/node.json")}


def up(node: dict[str, Any]) -> int:
    """How many nodes this one knows to be up; 0 where it does not answer."""
    try:
        told = httpx.get(f"{node['url']}/v1/coe/cluster", headers=AS_OPERATOR, timeout=10)
        ready = httpx.get(f"{node['url']}/ready", timeout=10).status_code == 200
    except httpx.HTTPError:
        return 0
    if told.status_code != 200 or not ready:
        return 0
    return sum(each["state"] in ("up", "this node") for each in told.json()["nodes"])


@pytest.mark.soak
def test_nodes_start_where_ray_has_machines_are_kept_adopted_and_ended(
    settings: Settings, tmp_path: Path, cluster: Any
) -> None:
    tree = yaml.safe_load((tmp_path / "config.yaml").read_text())
    del tree["state"]
    tree["server"] = {"admin_key": KEY}  # from another machine's address orders need one
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump(tree))
    (tmp_path / "secret").write_text(secrets.token_hex(32))
    file = tmp_path / "cluster.yaml"
    description = {"config": "fleet.yaml", "secret_file": "secret", "state": "fleet"}
    more = {"port": 0, "node_port": 0, "ray_address": cluster.address}
    file.write_text(yaml.safe_dump(description | more))

    shown = coe("cluster", "up", "--config", str(file), "--wait", str(PATIENCE_S))
    try:
        made = nodes(tmp_path)
        assert len(made) == 2
        assert all(node["address"] in shown for node in made.values())
        one = next(iter(made.values()))
        until(lambda: up(one) == 2)

        cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
        until(lambda: up(one) == 3)
        for node in nodes(tmp_path).values():
            answer = httpx.post(f"{node['url']}/v1/chat/completions", json=chat(max_tokens=3), timeout=60)
            assert answer.status_code == 200, answer.text

        victim = next(name for name, node in nodes(tmp_path).items() if node != one)
        before = nodes(tmp_path)
        os.kill(before[victim]["pid"], signal.SIGKILL)
        until(lambda: nodes(tmp_path)[victim]["pid"] != before[victim]["pid"])
        until(lambda: up(one) == 3)
        kept = {name for name in before if name != victim}
        assert all(nodes(tmp_path)[name] == before[name] for name in kept), "none of the others was touched"
    finally:
        ended = coe("cluster", "down", "--config", str(file), "--wait", str(PATIENCE_S))
    assert "all nodes have ended" in ended
    for node in nodes(tmp_path).values():
        assert not Path(f"/proc/{node['pid']}/cmdline").exists() or up(node) == 0
