"""The driver: leases come and go, whatever clients, engines and disks do, and nothing is left behind."""

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from experts.errors import EngineStartFailed, EngineUnavailable, LoadFailed
from experts.simulated.engine import SimulatedEngine
from experts.spec import Expert, SimulationConfig
from memory_tiers.driver.event_feed import CHECK_EVENTS
from memory_tiers.driver.event_log import replayed
from memory_tiers.driver.host_store import PREFIX, HostStore
from memory_tiers.driver.manager import TierManager, ignore
from memory_tiers.errors import LeaseRejected, ManagerBroken
from memory_tiers.observations import (
    Displaced,
    EngineChanged,
    LeaseEnded,
    LeaseGranted,
    MoveDone,
    Observation,
    TicketEnded,
)
from memory_tiers.status import OpenCounts
from memory_tiers.tiers import TiersConfig
from tests.memory_tiers.driver.engine_in_hand import EngineInHand

NOTHING = OpenCounts(waiting=0, leases=0, moves=0)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class House:
    """A manager over one engine in hand and a host store in a temporary folder."""

    manager: TierManager
    engine: EngineInHand
    host: HostStore
    clock: Clock
    seen: list[Observation]
    react: Callable[[Observation], None] = ignore

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():  # noqa: ASYNC110 - what is waited for is not all told by events
                await asyncio.sleep(0)

    async def at_rest(self) -> None:
        await self.until(lambda: self.manager.counts() == NOTHING)

    def outcomes(self) -> list[str]:
        ended = [each for each in self.seen if isinstance(each, TicketEnded | LeaseGranted)]
        return [each.outcome if isinstance(each, TicketEnded) else "granted" for each in ended]


@contextlib.asynccontextmanager
async def a_house(
    tmp_path: Path,
    names: str = "abc",
    *,
    device: int = 20,
    host: int = 0,
    limit: int | None = None,
    held: int = 0,
    max_queue: int = 100,
    restart_pause_s: float = 1e6,
    event_log: Path | None = None,
    engine_idle_s: float | None = None,
    sleep_after_s: float | None = None,
) -> AsyncIterator[House]:
    """Experts of 10 bytes each; started and, unless the engine's gate is shut, ready."""
    experts = []
    for name in names:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(bytes(10))
        experts.append(Expert(name, "f", folder, 10, 0, "f", ""))
    tree = {
        "device": device,
        "host": host,
        "max_queue": max_queue,
        "min_residency_s": 0,
        "event_log": event_log,
        "engine_idle_s": engine_idle_s,
    }
    config = TiersConfig.model_validate(tree)
    engine, store, clock = EngineInHand(resident_limit=limit), HostStore(tmp_path), Clock()
    engine.held, engine.sleeps_after_s = held, sleep_after_s
    seen: list[Observation] = []

    def observe(observation: Observation) -> None:
        seen.append(observation)
        house.react(observation)

    manager = TierManager(config, experts, {"f": engine}, store, observe, clock, restart_pause_s)
    house = House(manager, engine, store, clock, seen)
    before = asyncio.all_tasks()
    await manager.start()
    await manager.ready()
    try:
        yield house
    finally:
        await manager.close(drain_s=0.0)
        assert asyncio.all_tasks() <= before, "a task is left"
        assert not [name for name in os.listdir(tmp_path) if name.startswith(PREFIX)]
        assert engine.state == "stopped"


async def test_a_lease_names_its_expert_and_engine_and_where_the_expert_was(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        with await house.manager.lease("a") as lease:
            assert (lease.expert, lease.engine, lease.tier) == ("a", house.engine, "device")
            assert house.manager.counts().leases == 1
        with await house.manager.lease("b") as lease:
            assert lease.tier == "disk"
        assert house.manager.counts() == NOTHING


async def test_releasing_twice_counts_once(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        lease = await house.manager.lease("a")
        lease.release()
        lease.release()
        assert house.manager.counts() == NOTHING
        assert sum(isinstance(each, LeaseEnded) for each in house.seen) == 1


async def test_waiting_and_swapping_are_measured(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        house.engine.gate.clear()
        waiting = asyncio.create_task(house.manager.lease("b"))
        await house.until(lambda: "load b" in house.engine.calls)
        house.clock.now += 3.0
        late = asyncio.create_task(house.manager.lease("b"))
        await house.until(lambda: house.manager.counts().waiting == 2)
        house.clock.now += 2.0
        house.engine.gate.set()
        first, second = await waiting, await late
        assert (first.queue_seconds, first.swap_seconds) == (5.0, 5.0)
        assert (second.queue_seconds, second.swap_seconds) == (2.0, 2.0)
        assert house.engine.calls.count("load b") == 1
        first.release()
        second.release()


async def test_requests_before_the_engine_is_ready_wait(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    engine, store = EngineInHand(), HostStore(tmp_path)
    config = TiersConfig.model_validate({"device": 20})
    manager = TierManager(config, [Expert("a", "f", folder, 10, 0, "f", "")], {"f": engine}, store)
    engine.gate.clear()
    await manager.start()
    assert not manager.readiness.ready
    waiting = asyncio.create_task(manager.lease("a"))
    ready = asyncio.create_task(manager.ready())
    await asyncio.sleep(0)
    engine.gate.set()
    assert (await ready).ready
    (await waiting).release()
    await manager.close(1.0)


async def test_weights_are_read_from_the_host_copy(tmp_path: Path) -> None:
    async with a_house(tmp_path, host=30) as house:
        (await house.manager.lease("b")).release()
        assert house.engine.resident["b"] == house.host.path("b")
        moves = [(each.source, each.target) for each in house.seen if isinstance(each, MoveDone)]
        assert moves == [("disk", "host"), ("disk", "host"), ("host", "device")]


async def test_what_leaves_gives_its_bytes_back_and_says_how_long_it_was_there(tmp_path: Path) -> None:
    async with a_house(tmp_path, device=10, host=30) as house:
        house.clock.now += 3.0
        (await house.manager.lease("b")).release()
        await house.at_rest()
        house.manager.orders.move("a", "disk")
        await house.at_rest()
        house.clock.now += 1.0
        house.manager.orders.move("b", "disk")
        await house.at_rest()
        left = [each for each in house.seen if isinstance(each, MoveDone) and each.age_s is not None]
        assert [(each.expert, each.source, each.target, each.bytes, each.age_s) for each in left] == [
            ("a", "device", "host", 10, 3.0),
            ("a", "host", "disk", 10, 3.0),
            ("b", "device", "host", 10, 1.0),
            ("b", "host", "disk", 10, 1.0),
        ]


async def test_whose_place_is_taken_is_displaced(tmp_path: Path) -> None:
    async with a_house(tmp_path, device=10, limit=1) as house:
        house.clock.now += 3.0
        (await house.manager.lease("b")).release()
        assert [each for each in house.seen if isinstance(each, Displaced)] == [
            Displaced("a", "eviction", 3.0, "b")
        ]
        assert all(each.age_s is None for each in house.seen if isinstance(each, MoveDone))


async def test_who_is_resident_in_an_engine_that_is_stopped_is_displaced(tmp_path: Path) -> None:
    log = tmp_path / "tiers.log"
    async with a_house(tmp_path, engine_idle_s=60.0, event_log=log) as house:
        (await house.manager.lease("b")).release()
        house.clock.now += 60.0
        house.manager.foresee({})
        await house.until(lambda: house.engine.state == "stopped")
        await house.at_rest()
        displaced = [each for each in house.seen if isinstance(each, Displaced)]
        assert displaced == [Displaced("a", "idle", 60.0), Displaced("b", "idle", 60.0)]
    assert replayed(log).different is None


async def test_an_engine_that_sleeps_is_woken_by_a_request(tmp_path: Path) -> None:
    log = tmp_path / "tiers.log"
    async with a_house(tmp_path, sleep_after_s=60.0, event_log=log) as house:
        (await house.manager.lease("b")).release()
        for rounds in (1, 2):
            house.clock.now += 60.0
            house.manager.foresee({})
            await house.until(lambda: house.engine.state == "asleep")
            await house.at_rest()
            assert [engine.state for engine in house.manager.readiness.engines] == ["asleep"]
            assert house.manager.readiness.ready
            (await house.manager.lease("b")).release()
            assert house.engine.state == "ready"
            changes = [(e.state, e.detail) for e in house.seen if isinstance(e, EngineChanged)]
            assert changes[-2:] == [("asleep", "idle"), ("ready", "woken")]
            assert house.engine.calls.count("sleep") == rounds
        house.engine.die()
        await house.until(lambda: EngineChanged("f", "dead", 1, 0.0, "killed") in house.seen)
    assert replayed(log).different is None


@pytest.mark.parametrize("error", [EngineUnavailable("connection refused"), KeyError("results")])
async def test_an_engine_that_cannot_sleep_is_stopped(tmp_path: Path, error: Exception) -> None:
    async with a_house(tmp_path, sleep_after_s=60.0) as house:
        house.engine.failures.append(error)
        house.clock.now += 60.0
        house.manager.foresee({})
        await house.until(lambda: house.engine.state == "stopped")
        await house.at_rest()
        assert [engine.state for engine in house.manager.readiness.engines] == ["stopped"]


async def test_an_image_that_a_load_leaves_takes_the_place_of_the_copied_checkpoint(tmp_path: Path) -> None:
    async with a_house(tmp_path, device=10, host=40) as house:
        house.engine.image_bytes = 12
        (await house.manager.lease("b")).release()
        assert house.engine.resident["b"] == house.host.path("b")
        assert not house.host.path("b").exists()
        assert [file.name for file in house.host.images("b").iterdir()] == ["image-0"]
        host = {status.expert: status.host_bytes for status in house.manager.status()}
        assert host["b"] == 12
        (await house.manager.lease("a")).release()
        (await house.manager.lease("b")).release()
        assert house.engine.resident["b"] == tmp_path / "b", "read only should the image be bad"
        last = [each for each in house.seen if isinstance(each, MoveDone)][-1]
        assert (last.source, last.target, last.outcome) == ("host", "device", "done")


async def test_a_load_that_fails_leaves_no_half_image_and_no_copy(tmp_path: Path) -> None:
    async with a_house(tmp_path, device=10, host=40) as house:
        house.engine.failures.append(LoadFailed("tensor x holds NaN"))
        with pytest.raises(LeaseRejected, match="tensor x"):
            await house.manager.lease("b")
        await house.until(lambda: house.manager.counts().moves == 0)
        assert not house.host.path("b").exists()
        assert {status.expert: status.host for status in house.manager.status()}["b"] == "absent"
        (await house.manager.lease("b")).release()


async def test_an_eviction_unloads_the_victim(tmp_path: Path) -> None:
    async with a_house(tmp_path, device=10) as house:
        (await house.manager.lease("b")).release()
        assert house.engine.calls == ["start a", "unload a", "load b"]
        assert [status.tier for status in house.manager.status()] == ["disk", "device", "disk"]
        assert house.manager.usage()[0].used_bytes == 10


async def test_a_plain_engine_takes_the_next_expert_in_place(tmp_path: Path) -> None:
    async with a_house(tmp_path, device=10, limit=1) as house:
        (await house.manager.lease("b")).release()
        assert house.engine.calls == ["start a", "load b", "unload a"]
        assert [*house.engine.resident] == ["b"]


async def test_an_engine_of_several_gives_up_who_is_replaced_once_the_next_is_there(tmp_path: Path) -> None:
    async with a_house(tmp_path, device=20, limit=2) as house:
        (await house.manager.lease("b")).release()
        house.engine.failures.append(LoadFailed("bad"))
        with pytest.raises(LeaseRejected):
            await house.manager.lease("c")
        assert [*house.engine.resident] == ["a", "b"], "a failed load changes nothing"
        (await house.manager.lease("c")).release()
        assert [*house.engine.resident] == ["b", "c"]


async def test_what_engines_hold_is_in_use_from_the_beginning(tmp_path: Path) -> None:
    async with a_house(tmp_path, device=30, held=15) as house:
        assert house.manager.usage()[0].used_bytes == 15 + 10


async def test_who_gives_way_goes_on_once_nobody_waits_for_another(tmp_path: Path) -> None:
    async with a_house(tmp_path, device=10) as house:
        holder = await house.manager.lease("a")
        waiting = asyncio.create_task(house.manager.lease("b"))
        await house.until(lambda: house.manager.counts().waiting == 1)
        giving_way = asyncio.create_task(house.manager.none_waits_but_for("a"))
        await house.manager.none_waits_but_for("b")
        await asyncio.sleep(0)
        assert not giving_way.done()
        holder.release()
        (await waiting).release()
        await giving_way
        await house.manager.none_waits_but_for("nobody")


async def test_a_client_that_leaves_while_waiting_gives_its_ticket_back(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        house.engine.gate.clear()
        waiting = asyncio.create_task(house.manager.lease("b"))
        await house.until(lambda: house.manager.counts().waiting == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert house.manager.counts() == OpenCounts(waiting=0, leases=0, moves=1)
        house.engine.gate.set()
        await house.at_rest()
        assert "b" in house.engine.resident, "the load outlives the client"
        assert house.outcomes() == ["cancelled"]


async def test_a_grant_that_crosses_a_cancellation_is_given_back(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        house.engine.gate.clear()
        clients = [asyncio.create_task(house.manager.lease("b")) for _ in range(2)]
        await house.until(lambda: house.manager.counts().waiting == 2)

        def leave(observation: Observation) -> None:
            """While the second is being granted: the first has its lease and has not woken up yet."""
            if house.outcomes() == ["granted", "granted"]:
                for client in clients:
                    client.cancel()

        house.react = leave
        house.engine.gate.set()
        await asyncio.wait(clients)
        assert all(client.cancelled() for client in clients)
        assert house.manager.counts() == NOTHING
        assert sum(isinstance(each, LeaseGranted) for each in house.seen) == 2
        assert sum(isinstance(each, LeaseEnded) for each in house.seen) == 2


async def test_a_failed_load_tells_everybody_who_waited_and_the_next_one_tries_again(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        house.engine.failures.append(LoadFailed("no such tensor"))
        answers = await asyncio.gather(*(house.manager.lease("b") for _ in range(3)), return_exceptions=True)
        assert [answer.reason for answer in answers if isinstance(answer, LeaseRejected)] == [
            "load_failed"
        ] * 3
        assert "no such tensor" in str(answers[0])
        (await house.manager.lease("a")).release()
        (await house.manager.lease("b")).release()
        failed = [each for each in house.seen if isinstance(each, MoveDone) and each.outcome == "failed"]
        assert [each.detail for each in failed] == ["no such tensor"]


async def test_a_checkpoint_that_cannot_be_read_is_a_failed_load(tmp_path: Path) -> None:
    async with a_house(tmp_path, host=30) as house:
        (tmp_path / "b" / "model.safetensors").unlink()
        (tmp_path / "b" / "model.safetensors").symlink_to(tmp_path / "nowhere")
        with pytest.raises(LeaseRejected, match="could not be read"):
            await house.manager.lease("b")


async def test_a_bug_in_an_engine_is_logged_and_rejects_the_ticket(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_house(tmp_path) as house:
        house.engine.failures.append(ZeroDivisionError("oh"))
        with pytest.raises(LeaseRejected, match="ZeroDivisionError: oh"):
            await house.manager.lease("b")
        assert "failed unexpectedly" in caplog.text


async def test_a_killed_engine_is_restarted_and_those_who_wait_are_served(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        held = await house.manager.lease("a")
        house.engine.gate.clear()
        waiting = asyncio.create_task(house.manager.lease("b"))
        await house.until(lambda: "load b" in house.engine.calls)
        house.engine.die("signal 9")
        await house.until(lambda: not house.manager.readiness.ready)
        assert house.manager.readiness.engines[0].detail == "signal 9"
        held.release()
        house.engine.gate.set()
        (await waiting).release()
        assert house.engine.calls == ["start a", "load b", "start b", "load a"]
        assert house.manager.readiness.ready
        states = [each.state for each in house.seen if isinstance(each, EngineChanged)]
        assert states == ["starting", "ready", "dead", "starting", "ready"]


async def test_a_move_that_learns_of_the_death_first_waits_for_the_news(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        house.engine.gate.clear()
        waiting = asyncio.create_task(house.manager.lease("b"))
        await house.until(lambda: "load b" in house.engine.calls)
        house.engine.gate.set()
        house.engine.die()
        (await waiting).release()


async def test_an_engine_that_does_not_start_rejects_who_waits_and_is_tried_again(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        house.engine.failures.extend([EngineStartFailed("no memory")] * 2)
        house.engine.die()
        with pytest.raises(LeaseRejected, match="does not start: no memory") as rejection:
            await house.manager.lease("b")
        assert rejection.value.reason == "engine_failed"
        with pytest.raises(EngineStartFailed, match="no memory"):
            await house.manager.ready()
        (await house.manager.lease("b")).release()
        assert (await house.manager.ready()).engines[0].starts == 4


async def test_an_engine_that_was_given_up_is_tried_again_though_nobody_asks(tmp_path: Path) -> None:
    async with a_house(tmp_path, restart_pause_s=0.0) as house:
        house.engine.failures.extend([EngineStartFailed("no memory")] * 3)
        house.engine.die()
        await house.until(lambda: house.manager.readiness.ready and not house.engine.failures)
    starts = [call for call in house.engine.calls if call.startswith("start")]
    assert starts == ["start a", "start a", "start b", "start c", "start a"], "who did not fail comes first"


async def test_failing_fast_says_when_to_come_back_from_what_moves_cost(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        with pytest.raises(LeaseRejected) as rejection:
            await house.manager.lease("b", fail_fast=True)
        assert rejection.value.reason == "not_resident"
        assert rejection.value.retry_after_s is None, "nothing was measured yet"
        house.engine.gate.clear()
        waiting = asyncio.create_task(house.manager.lease("b"))
        await house.until(lambda: "load b" in house.engine.calls)
        house.clock.now += 4.0
        house.engine.gate.set()
        (await waiting).release()
        with pytest.raises(LeaseRejected) as rejection:
            await house.manager.lease("c", fail_fast=True)
        assert rejection.value.retry_after_s == pytest.approx(4.0)


async def test_the_queue_is_bounded_and_unknown_experts_are_rejected(tmp_path: Path) -> None:
    async with a_house(tmp_path, max_queue=0) as house:
        with pytest.raises(LeaseRejected) as rejection:
            await house.manager.lease("b")
        assert rejection.value.reason == "queue_full"
        with pytest.raises(LeaseRejected) as rejection:
            await house.manager.lease("nobody")
        assert rejection.value.reason == "unknown_expert"
        assert house.outcomes() == ["queue_full"], "what clients make up is no label"


async def test_closing_waits_for_leases_and_rejects_who_comes(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        lease = await house.manager.lease("a")
        closing = asyncio.create_task(house.manager.close(drain_s=60.0))
        await asyncio.sleep(0)
        with pytest.raises(LeaseRejected) as rejection:
            await house.manager.lease("a")
        assert rejection.value.reason == "shutting_down"
        assert house.engine.stops == 0
        lease.release()
        await closing
        assert house.engine.stops == 1


async def test_closing_gives_up_on_leases_after_the_drain_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_house(tmp_path) as house:
        lease = await house.manager.lease("a")
        with caplog.at_level(logging.WARNING):
            await house.manager.close(drain_s=0.0)
        assert "1 leases are still held" in caplog.text
        lease.release()
        assert house.manager.counts() == NOTHING


async def test_closing_in_the_middle_of_a_move_leaves_nothing(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        house.engine.gate.clear()
        waiting = asyncio.create_task(house.manager.lease("b"))
        await house.until(lambda: "load b" in house.engine.calls)
        await house.manager.close(drain_s=0.0)
        with pytest.raises(LeaseRejected):
            await waiting
        assert house.manager.counts() == NOTHING
        cancelled = [
            each for each in house.seen if isinstance(each, MoveDone) and each.outcome == "cancelled"
        ]
        assert len(cancelled) == 1


async def test_closing_before_a_move_has_begun_leaves_nothing(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        waiting = asyncio.create_task(house.manager.lease("b"))
        await asyncio.sleep(0)
        assert house.manager.counts().moves == 1
        await house.manager.close(drain_s=0.0)
        with pytest.raises(LeaseRejected):
            await waiting
        assert house.manager.counts() == NOTHING


async def test_an_error_of_our_own_reaches_everybody_who_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_house(tmp_path) as house:
        house.engine.gate.clear()
        waiting = asyncio.create_task(house.manager.lease("b"))
        await house.until(lambda: house.manager.counts().waiting == 1)
        house.manager._state._records.device.parts[0].used += 1
        for _ in range(CHECK_EVENTS):  # it looks at itself once in so many
            house.manager.foresee({})
        with pytest.raises(ManagerBroken):
            await waiting
        with pytest.raises(ManagerBroken):
            await house.manager.lease("a")
        with pytest.raises(ManagerBroken):
            house.manager.orders.pin("a", True)
        assert not house.manager.readiness.ready
        assert "restart the server" in caplog.text


async def test_every_event_is_in_the_log_and_replays(tmp_path: Path) -> None:
    async with a_house(tmp_path, device=10, host=40, event_log=tmp_path / "log.jsonl") as house:
        for name in "abcab":
            (await house.manager.lease(name)).release()
    again = replayed(tmp_path / "log.jsonl")
    assert again.different is None
    assert again.events > 20


async def test_an_observer_that_fails_does_not_stop_the_tiers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(observation: Observation) -> None:
        raise ValueError("no")

    folder = tmp_path / "a"
    folder.mkdir()
    engine, store = EngineInHand(), HostStore(tmp_path)
    config = TiersConfig.model_validate({"device": 20})
    manager = TierManager(config, [Expert("a", "f", folder, 10, 0, "f", "")], {"f": engine}, store, fail)
    await manager.start()
    (await manager.lease("a")).release()
    await manager.close(1.0)
    assert "observing" in caplog.text


@pytest.mark.parametrize("seed", range(3))
async def test_a_crowd_of_clients_that_come_and_go_leaves_nothing(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)

    async def client(manager: TierManager) -> str:
        expert = chance.choice("abcdefgh")
        try:
            async with asyncio.timeout(chance.choice([0.0, 0.001, 30.0, 30.0])):
                with await manager.lease(expert) as lease:
                    for _ in range(chance.randrange(4)):
                        await asyncio.sleep(0)
                    return lease.expert
        except TimeoutError:
            return "left"
        except LeaseRejected as rejection:
            return rejection.reason

    async with a_house(tmp_path, "abcdefgh", device=30, host=50) as house:
        for number in range(8):
            if number == 4:
                house.engine.die()
            elif number == 6:
                house.engine.failures.append(LoadFailed("once"))
            ends = await asyncio.gather(*(client(house.manager) for _ in range(25)))
            assert len(ends) == 25
        await house.at_rest()
        assert len(house.outcomes()) == 200


async def test_the_simulated_engine_serves_more_experts_than_it_holds(tmp_path: Path) -> None:
    experts = []
    for name in "abcde":
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(bytes(10))
        (tmp_path / name / "config.json").write_text("{}")
        experts.append(Expert(name, "f", tmp_path / name, 10, 0, "f", ""))
    engine, store = SimulatedEngine("f", SimulationConfig()), HostStore(tmp_path)
    config = TiersConfig.model_validate({"device": 20, "host": 30})
    manager = TierManager(config, experts, {"f": engine}, store)
    await manager.start()

    async def client(expert: str) -> None:
        with await manager.lease(expert):
            assert expert in (await engine.statistics()).resident

    await asyncio.gather(*(client(expert) for expert in "abcdeedcbaaebdc"))
    engine.crash()
    await asyncio.gather(*(client(expert) for expert in "abcde"))
    await manager.close(5.0)
    assert manager.counts() == NOTHING
