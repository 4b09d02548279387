"""Nodes that place experts by themselves: real processes over simulated engines."""

import asyncio
import re
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from cluster.event_log import replayed
from experts.checkpoints.prepare import prepare
from server.cli.main import main
from server.config.settings import Settings, load
from server.operator_api import ClusterStatus, PlacementStatus
from tests.server.conftest import EXPERTS
from tests.server.peers.link import Link
from tests.server.peers.nodes import PATIENCE_S, Node, ask, free_ports, nodes

pytestmark = pytest.mark.system

RULES = {"copies": 1, "lost_grace_s": 0, "order_s": 5, "avoid_s": 1}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        yield client


async def status(http: httpx.AsyncClient, node: Node) -> ClusterStatus:
    return ClusterStatus.model_validate_json((await http.get(f"{node.url}/v1/coe/cluster")).content)


async def followed(
    http: httpx.AsyncClient, node: Node, enough: Callable[[PlacementStatus], bool]
) -> PlacementStatus:
    """Returns the placement that the node follows, once it is as it should be."""
    found = None
    try:
        async with asyncio.timeout(PATIENCE_S):
            while (found := (await status(http, node)).placement) is None or not enough(found):
                pass
    except TimeoutError:
        pytest.fail(f"after {PATIENCE_S} s: {found!r}")
    return found


def placed(copies: int, experts: Sequence[str] = EXPERTS) -> Callable[[PlacementStatus], bool]:
    return lambda found: all(len(found.table.get(expert, ())) >= copies for expert in experts)


def of(node: Node, later_than: int = 0) -> Callable[[PlacementStatus], bool]:
    return lambda found: found.placer == node.address and found.term > later_than


async def test_every_expert_gets_its_copies_on_different_nodes_and_all_follow_one_table(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    async with nodes(tmp_path, 3, tls=True, placement=RULES | {"copies": 2}, host="6kB") as made:
        seen = [await followed(http, node, placed(2)) for node in made]
        assert len({(found.placer, found.term) for found in seen}) == 1
        for found in seen:
            for copies in found.table.values():
                assert len({copy.node for copy in copies}) == len(copies)
        assert await asyncio.to_thread(main, ["cluster", "status", "--config", str(made[0].config)]) == 0
        shown = capsys.readouterr().out
        assert f"{seen[0].placer} places experts: term" in shown
        assert "done" in shown, "the moves are shown"


async def test_an_expert_that_many_ask_for_gets_a_second_device_by_the_placement(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    async with nodes(tmp_path, 2, placement=RULES, tokens_per_s=20, host="6kB") as made:
        await followed(http, made[0], placed(1))
        # Requests that wait for a load go to another node by themselves, those that are computed do not.
        assert (await ask(http, made[0], "law")).status_code == 200
        asked = [asyncio.create_task(ask(http, made[0], "law", 200)) for _ in range(30)]

        def replicated(found: PlacementStatus) -> bool:
            return [copy.tier for copy in found.table["law"]] == ["device", "device"]

        found = await followed(http, made[1], replicated)
        ordered = [move for move in found.moves if (move.expert, move.tier) == ("law", "device")]
        assert ordered, "it was no request that brought it"
        assert not ordered[0].leaves
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def test_the_node_that_places_is_lost_and_another_goes_on_under_a_higher_term_with_no_request_failed(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    async with nodes(tmp_path, 3, placement=RULES, host="6kB") as made:
        before = await followed(http, made[0], placed(1))
        placer = next(node for node in made if node.address == before.placer)
        gateway, other = [node for node in made if node is not placer]
        statuses, stop = list[int](), asyncio.Event()

        async def client(expert: str) -> None:
            while not stop.is_set():
                statuses.append((await ask(http, gateway, expert)).status_code)

        clients = [asyncio.create_task(client(expert)) for expert in EXPERTS]
        await placer.end(signal.SIGKILL)
        after = await followed(http, other, lambda found: found.term > before.term and placed(1)(found))
        assert after.placer in (gateway.address, other.address)
        assert all(copy.node != placer.address for copies in after.table.values() for copy in copies)
        assert await followed(http, gateway, lambda found: found.term == after.term)
        stop.set()
        await asyncio.gather(*clients)
        assert set(statuses) == {200}
        await placer.start()
        back = await followed(http, placer, placed(1))
        assert (back.placer, back.term) == (after.placer, after.term), "it takes nothing over"
        log = tmp_path / f"placed{made.index(placer)}-{before.term}.jsonl"
        assert replayed(log).different is None


async def test_of_two_that_placed_on_both_sides_of_a_cut_one_is_followed_once_it_heals(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    """Each node reaches the other over a link; cut, each places for itself."""
    ports, links = free_ports(2), (Link(), Link())
    far = [f"127.0.0.1:{port}" for port in ports]
    async with AsyncExitStack() as stack:
        made = await stack.enter_async_context(
            nodes(tmp_path, 2, {0: [far[1]], 1: [far[0]]}, placement=RULES, host="6kB")
        )
        for node, port, link in zip(made, ports, links, strict=True):
            serve = partial(link.pass_on, node.node_port)
            await stack.enter_async_context(await asyncio.start_server(serve, "127.0.0.1", port))
        for node, address in zip(made, reversed(far), strict=True):
            await node.says(f"node {address} answers")
        one = await followed(http, made[0], placed(1))
        await followed(http, made[1], lambda found: found.term == one.term)
        for link in links:
            link.whole.clear()
        cut = [await followed(http, node, of(node, one.term - 1)) for node in made]
        assert cut[0].placer != cut[1].placer
        for link in links:
            link.close()
        highest = max(each.term for each in cut)
        healed = await followed(http, made[0], lambda found: found.term > highest)
        same = await followed(http, made[1], lambda found: found.term >= healed.term)
        assert same.placer == healed.placer
        for link in links:
            link.close()


async def test_coe_cluster_rebalance_brings_copies_to_a_node_that_came_late(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    async with nodes(tmp_path, 2, placement=RULES | {"copies": 1}, host="20kB") as made:
        placer = (await followed(http, made[0], placed(1))).placer
        first, late = sorted(made, key=lambda node: node.address != placer)
        await late.end(signal.SIGKILL)
        await followed(http, first, placed(1))
        await late.start()

        def held_by_late(found: PlacementStatus) -> int:
            return sum(copy.node == late.address for copies in found.table.values() for copy in copies)

        rebalance = ["cluster", "rebalance", "--config", str(first.config)]
        assert await asyncio.to_thread(main, rebalance) == 0
        assert "experts are spread over the nodes" in capsys.readouterr().out
        await followed(http, first, lambda found: held_by_late(found) >= 2)


async def test_weights_come_from_another_nodes_host_memory_piece_by_piece(
    settings: Settings, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    """Places weights of 24 MB each; the second copy of an expert is read from the node that has the first."""
    large = tmp_path / "large"
    for name, config in settings.experts.items():
        shutil.copytree(str(config.checkpoint.folder), large / name)
        weights = np.random.default_rng(len(name)).random(6_000_000, np.float32)
        save_file({"weight": weights}, large / name / "model.safetensors")
    tree = yaml.safe_load((tmp_path / "config.yaml").read_text())
    tree["tiers"] = {"device": "50MB", "host": "100MB"}
    for name in tree["experts"]:
        tree["experts"][name]["checkpoint"] = {"folder": str(large / name)}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    made_from = load(tmp_path / "config.yaml")
    for name, expert in made_from.experts.items():
        prepare(name, expert, made_from.store)
    async with nodes(tmp_path, 2, weights="always", placement=RULES | {"copies": 2}, tls=True) as made:
        placer = (await followed(http, made[0], placed(1, ["law", "math"]))).placer
        first, late = sorted(made, key=lambda node: node.address != placer)
        await late.end(signal.SIGKILL)
        await followed(http, first, placed(1, ["law", "math"]))
        await late.start()
        await followed(http, first, placed(2, ["law", "math"]))
        metrics = (await http.get(f"{late.url}/metrics")).text
        found = re.search(r"^coe_move_bytes_from_nodes_total (\S+)", metrics, re.MULTILINE)
        assert found is not None
        assert float(found[1]) >= 24_000_000
