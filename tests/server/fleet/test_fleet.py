"""A fleet on a Ray cluster of three machines, all of them this one, over simulated engines."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from server.config.settings import Settings
from server.fleet.machine_folder import began
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


def described(folder: Path, cluster: Any) -> Path:
    """The file of ``coe cluster up``, beside ``config.yaml`` with prepared experts."""
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    del tree["state"]
    tree["server"] = {"admin_key": KEY}  # from another machine's address orders need one
    (folder / "fleet.yaml").write_text(yaml.safe_dump(tree))
    (folder / "secret").write_text(secrets.token_hex(32))
    file = folder / "cluster.yaml"
    description = {"config": "fleet.yaml", "secret_file": "secret", "state": "fleet"}
    more = {"port": 0, "node_port": 0, "ray_address": cluster.address}
    file.write_text(yaml.safe_dump(description | more))
    return file


def kill(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def none_left(tmp_path: Path) -> Iterator[None]:
    """Ends what nodes a test leaves, since they outlive whoever started them."""
    yield
    kill(*(node["pid"] for node in nodes(tmp_path).values() if alive(node)))


def alive(node: dict[str, Any]) -> bool:
    return bool(began(node["pid"]) == node["began"])


@pytest.mark.soak
def test_nodes_start_where_ray_has_machines_are_kept_adopted_and_ended(
    settings: Settings, tmp_path: Path, cluster: Any, none_left: None
) -> None:
    file = described(tmp_path, cluster)
    shown = coe("cluster", "up", "--config", str(file), "--wait", str(PATIENCE_S))
    made = nodes(tmp_path)
    assert len(made) == 2
    assert all(node["address"] in shown for node in made.values())
    one = next(iter(made.values()))
    until(lambda: up(one) == 2)

    third = cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
    until(lambda: up(one) == 3)
    for node in nodes(tmp_path).values():
        answer = httpx.post(f"{node['url']}/v1/chat/completions", json=chat(max_tokens=3), timeout=60)
        assert answer.status_code == 200, answer.text

    before = nodes(tmp_path)
    added = next(name for name in before if name not in made)
    victim = next(name for name, node in made.items() if node != one)
    kill(before[victim]["pid"])
    until(lambda: nodes(tmp_path)[victim]["pid"] != before[victim]["pid"])
    until(lambda: up(one) == 3)
    kept = before.keys() - {victim}
    assert all(nodes(tmp_path)[name] == before[name] for name in kept), "none of the others was touched"

    raylet = psutil.Process(third.all_processes["raylet"][0].process.pid)
    kill(raylet.pid, *(each.pid for each in raylet.children(recursive=True)))
    cluster.add_node(num_cpus=1, object_store_memory=MEMORY)  # the same machine, by Ray under another id
    until(lambda: added not in nodes(tmp_path))
    found = nodes(tmp_path)
    (again,) = found.keys() - before.keys()
    assert found[again] == before[added], "its node was not touched"
    kill(found[again]["pid"])
    until(lambda: nodes(tmp_path)[again]["pid"] != found[again]["pid"])
    until(lambda: up(one) == 3)
    drained = nodes(tmp_path)[victim]
    coe("cluster", "drain", drained["address"], "--url", one["url"], "--config", str(tmp_path / "fleet.yaml"))
    until(lambda: not alive(drained))
    until(lambda: up(one) == 2)
    shown = coe("cluster", "up", "--config", str(file), "--wait", str(PATIENCE_S))
    until(lambda: up(one) == 3)
    assert nodes(tmp_path)[victim]["pid"] != drained["pid"], "it was started again because it was asked for"
    ended = coe("cluster", "down", "--config", str(file), "--wait", str(PATIENCE_S))
    assert "all nodes have ended" in ended
    assert not any(alive(node) for node in nodes(tmp_path).values())


@pytest.mark.soak
def test_without_ray_nodes_answer_on(
    settings: Settings, tmp_path: Path, cluster: Any, none_left: None
) -> None:
    coe("cluster", "up", "--config", str(described(tmp_path, cluster)), "--wait", str(PATIENCE_S))
    made = [*nodes(tmp_path).values()]
    until(lambda: all(up(node) == 2 for node in made))
    statuses, enough = list[int](), threading.Event()

    def ask_on(url: str) -> None:
        with httpx.Client(timeout=60) as client:
            while not enough.is_set():
                body = chat(max_tokens=3)
                statuses.append(client.post(f"{url}/v1/chat/completions", json=body).status_code)

    asking = [threading.Thread(target=ask_on, args=(node["url"],)) for node in made]
    for each in asking:
        each.start()
    try:
        until(lambda: len(statuses) > 50)
        cluster.head_node.kill_gcs_server(check_alive=False)
        for node in cluster.list_all_nodes():
            node.kill_raylet(check_alive=False)
        gone = len(statuses)
        until(lambda: len(statuses) > gone + 500)
    finally:
        enough.set()
        for each in asking:
            each.join()
    assert set(statuses) == {200}
    assert [*nodes(tmp_path).values()] == made
    assert all(up(node) == 2 for node in made)
