"""Tiers as /metrics, /v1/models and the log tell of them, over a real socket."""

import asyncio
import itertools
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ByteSize

from memory_tiers.status import OpenCounts
from server.config.settings import Settings
from server.metrics.counter import Counter as OurCounter
from server.metrics.exposition import AT_A_TIME, exposition
from server.metrics.histogram import Histogram
from server.metrics.tier_snapshot import Followed
from server.routes.models import entries
from tests.server.conftest import EXPERTS, Gateway, Serving, chat, simulated

WEIGHTS = 1072
"""Bytes of one of the tiny experts."""
UP_TO_HOST = {"from_tier": "disk", "to_tier": "host"}


@dataclass(frozen=True, slots=True)
class Scrape:
    """What a scrape found."""

    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    @classmethod
    def of(cls, text: str) -> "Scrape":
        families = text_string_to_metric_families(text)
        return cls({(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples})

    def __call__(self, name: str, **labels: str) -> float:
        return self.samples[name, frozenset(labels.items())]

    def total(self, name: str, **labels: str) -> float:
        """The sum over all other labels."""
        wanted = frozenset(labels.items())
        return sum(value for (each, given), value in self.samples.items() if each == name and wanted <= given)

    def values(self, name: str, label: str) -> set[str]:
        """Of ``label`` in all samples of ``name``."""
        return {dict(labels)[label] for each, labels in self.samples if each == name}


async def scraped(gateway: Gateway) -> Scrape:
    return Scrape.of((await gateway.http.get("/metrics")).text)


async def listed(gateway: Gateway, name: str) -> dict[str, Any]:
    detail: dict[str, Any] = (await gateway.http.get(f"/v1/models/{name}")).json()["coe"]
    return detail


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  what is awaited happens in the gateway and tells nobody
            await asyncio.sleep(0.001)


async def at_rest(gateway: Gateway) -> None:
    await until(lambda: gateway.services.tiers.counts() == OpenCounts(0, 0, 0))


async def loading(gateway: Gateway) -> None:
    tiers = gateway.services.tiers
    await until(lambda: any(move.target == "device" for move in tiers.progress()))


def with_tiers(settings: Settings, **fields: Any) -> Settings:
    return settings.model_copy(update={"tiers": settings.tiers.model_copy(update=fields)})


def roomy_host(settings: Settings) -> Settings:
    """Two experts on the device, all of them on the host, and nobody stays for having just come."""
    return with_tiers(settings, host=ByteSize(6000), min_residency_s=0.0)


async def evict_one_and_ask_for_it_again(gateway: Gateway) -> str:
    """general hot, law cold, both hot, math cold in place of one of them, which is asked for again. Who?"""
    for name in ("general", "law", "law", "general", "math"):
        assert (await gateway.post(model=name)).status_code == 200
    (evicted,) = [each.expert for each in gateway.services.tiers.status() if each.tier == "host"]
    assert (await gateway.post(model=evicted)).headers["x-coe-tier"] == "host"
    await at_rest(gateway)
    return evicted


async def test_hits_and_ways_to_an_expert_are_counted(serving: Serving, settings: Settings) -> None:
    async with serving(roomy_host(settings)) as gateway:
        evicted = await evict_one_and_ask_for_it_again(gateway)
        seen = await scraped(gateway)
    assert [seen("coe_tier_hits_total", tier=tier) for tier in ("device", "host", "disk")] == [3, 1, 2]
    assert seen("coe_actuations_total", expert="law", path="cold") == 1
    assert seen("coe_actuations_total", expert="math", path="cold") == 1
    assert seen("coe_actuations_total", expert=evicted, path="warm") == 1
    assert seen.total("coe_actuations_total", path="hot") == 3
    assert seen("coe_lease_wait_seconds_count", tier="disk") == 2
    assert seen.total("coe_lease_wait_seconds_count") == 6
    assert seen.total("coe_lease_seconds_count") == 6
    assert seen.total("coe_tickets_total", outcome="granted") == 6


async def test_every_move_is_counted_with_its_bytes(serving: Serving, settings: Settings) -> None:
    async with serving(roomy_host(settings)) as gateway:
        await evict_one_and_ask_for_it_again(gateway)
        seen = await scraped(gateway)
    moves = {
        ("disk", "host", "preload"): 1,
        ("disk", "host", "ticket"): 2,
        ("host", "device", "ticket"): 3,
        ("device", "host", "eviction"): 2,
    }
    for (source, target, reason), count in moves.items():
        labels = {"from_tier": source, "to_tier": target, "reason": reason, "outcome": "done"}
        assert seen("coe_move_seconds_count", **labels) == count
    assert seen.total("coe_move_seconds_count") == sum(moves.values())
    for source, target, count in (("disk", "host", 3), ("host", "device", 3), ("device", "host", 2)):
        way = {"from_tier": source, "to_tier": target, "outcome": "done"}
        assert seen("coe_move_bytes_count", **way) == count
        assert seen("coe_move_bytes_sum", **way) == count * WEIGHTS
    assert seen.total("coe_move_bytes_sum") == sum(moves.values()) * WEIGHTS
    assert seen("coe_evictions_total", tier="device", reason="eviction") == 2
    assert seen("coe_eviction_age_seconds_count", tier="device", reason="eviction") == 2
    assert seen.total("coe_evictions_total") == 2
    assert seen("coe_engine_start_seconds_count", family="small", outcome="done") == 1


async def test_how_full_each_tier_is_and_who_is_where(serving: Serving, settings: Settings) -> None:
    async with serving(roomy_host(settings)) as gateway:
        await evict_one_and_ask_for_it_again(gateway)
        seen = await scraped(gateway)
    used = {tier: seen("coe_tier_used_bytes", tier=tier) for tier in ("device", "host", "disk")}
    assert used == {"device": 2 * WEIGHTS, "host": 3 * WEIGHTS, "disk": 5 * WEIGHTS}
    assert seen("coe_tier_capacity_bytes", tier="device") == 2500
    assert seen("coe_tier_capacity_bytes", tier="host") == 6000
    assert "disk" not in seen.values("coe_tier_capacity_bytes", "tier")
    assert seen.total("coe_tier_reserved_bytes") == 0
    assert [seen.total("coe_expert_tier", tier=tier) for tier in ("device", "host", "disk")] == [2, 1, 2]
    assert seen("coe_expert_tier", expert="medicine", tier="disk") == 1


async def test_each_gpu_with_a_budget_has_what_is_charged_and_what_its_driver_says(
    serving: Serving, settings: Settings
) -> None:
    tiers = type(settings.tiers).model_validate({"devices": {0: 2500, 1: 9000}})
    families = {
        name: family.model_copy(update={"devices": (number,)})
        for number, (name, family) in enumerate(settings.families.items())
    }
    async with serving(settings.model_copy(update={"tiers": tiers, "families": families})) as gateway:
        await gateway.post(model="law")
        gateway.services.metrics._snapshot._used_here = lambda: [70_000, 60_000]
        seen = await scraped(gateway)
    assert seen("coe_gpu_budget_bytes", gpu="1") == 9000
    assert seen.total("coe_gpu_charged_bytes") == seen("coe_tier_used_bytes", tier="device") > 0
    assert [seen("coe_gpu_memory_used_bytes", gpu=gpu) for gpu in "01"] == [70_000, 60_000]


async def test_what_an_operator_sends_away_is_an_eviction_from_both_tiers(
    serving: Serving, settings: Settings
) -> None:
    async with serving(roomy_host(settings)) as gateway:
        await gateway.post(model="law")
        gateway.services.tiers.orders.move("law", "disk")
        await at_rest(gateway)
        seen = await scraped(gateway)
    for tier in ("device", "host"):
        assert seen("coe_evictions_total", tier=tier, reason="operator") == 1
        assert seen("coe_eviction_age_seconds_count", tier=tier, reason="operator") == 1
        assert 0 < seen("coe_eviction_age_seconds_sum", tier=tier, reason="operator") < 3600
    assert seen.total("coe_evictions_total") == 2


async def test_a_load_that_fails_has_moved_nothing_and_its_copy_is_unusable(
    serving: Serving, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "coe.tiers")
    async with serving(settings) as gateway:
        (settings.store / "law" / "config.json").unlink()
        assert (await gateway.post(model="law")).status_code == 503
        await at_rest(gateway)
        seen = await scraped(gateway)
    failed = {"from_tier": "host", "to_tier": "device", "reason": "ticket", "outcome": "failed"}
    assert seen("coe_move_seconds_count", **failed) == 1
    assert seen("coe_move_bytes_sum", from_tier="host", to_tier="device", outcome="failed") == 0
    assert seen("coe_evictions_total", tier="host", reason="unusable") == 1
    (line,) = [each for each in caplog.records if "outcome=failed" in each.getMessage()]
    assert line.levelno == logging.WARNING
    assert line.getMessage().startswith("move expert=law from=host to=device reason=ticket outcome=failed")
    assert "config.json" in line.getMessage()


async def test_the_log_has_one_line_for_each_move_and_change_of_an_engine(
    serving: Serving, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "coe.tiers")
    async with serving(settings) as gateway:
        await gateway.post(model="law")
    number = r"\d+\.\d{3}"
    moved = rf"outcome=done seconds={number} bytes={WEIGHTS} GB/s={number}"
    given_back = rf"outcome=done seconds={number} bytes={WEIGHTS} age_s=\d+\.\d"
    expected = [
        rf"move expert=general from=disk to=host reason=preload {moved}",
        r"engine family=small state=starting starts=1",
        rf"engine family=small state=ready starts=1 seconds={number}",
        rf"move expert=general from=host to=disk reason=eviction {given_back}",
        rf"move expert=law from=disk to=host reason=ticket {moved}",
        rf"move expert=law from=host to=device reason=ticket {moved}",
        r"engine family=small state=stopped starts=1",
    ]
    lines = [record.getMessage() for record in caplog.records if record.name == "coe.tiers"]
    assert len(lines) == len(expected)
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line)


async def test_who_the_router_finds_probable_is_brought_before_anybody_asks(
    serving: Serving, settings: Settings
) -> None:
    tiers = settings.tiers.model_copy(update={"prefetch_share": 0.5})
    async with serving(settings.model_copy(update={"tiers": tiers})) as gateway:
        question = "May a nurse refuse to treat a patient under the law?"
        answer = await gateway.post(model="coe", messages=[{"role": "user", "content": question}])
        assert answer.headers["x-coe-expert"] == "medicine"
        law = EXPERTS.index("law")
        await until(lambda: gateway.services.tiers.status()[law].tier != "disk")
        await gateway.post(model="law")
        scrape = await scraped(gateway)
        assert scrape("coe_move_seconds_count", **UP_TO_HOST, reason="prefetch", outcome="done") >= 1
        assert scrape.total("coe_prefetches_total", outcome="used") >= 1


async def test_without_a_share_nothing_is_prefetched(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        for question in ("May a nurse refuse to treat a patient under the law?", "Hello") * 3:
            await gateway.post(model="coe", messages=[{"role": "user", "content": question}])
        scrape = await scraped(gateway)
        assert scrape.total("coe_move_seconds_count", reason="prefetch") == 0


async def test_a_move_under_way_is_shown_until_it_ends(serving: Serving, settings: Settings) -> None:
    for_ever = simulated(settings, load_bytes_per_s=ByteSize(1))
    async with serving(for_ever) as gateway:
        assert await listed(gateway, "law") == {
            "kind": "expert",
            "task": "generate",
            "description": "",
            "parameters": 250,
            "family": "small",
            "capabilities": None,
            "context_length": 200_000,
            "tier": "disk",
            "ready": False,
            "loading": False,
            "breaker_open": False,
            "pinned": False,
            "weights_bytes": WEIGHTS,
        }
        asking = asyncio.create_task(gateway.post(model="law"))
        await loading(gateway)
        seen = await scraped(gateway)
        law, general = await listed(gateway, "law"), await listed(gateway, "general")
        asking.cancel()
        await asyncio.wait([asking])
    way = {"expert": "law", "from_tier": "host", "to_tier": "device", "reason": "ticket"}
    assert seen("coe_moving_seconds", **way) >= 0
    assert seen.values("coe_moving_seconds", "expert") == {"law"}
    assert seen.values("coe_moving_done", "expert") == set(), "no load has been measured yet"
    assert seen("coe_waiting", expert="law") == 1
    assert seen("coe_tier_reserved_bytes", tier="device") == WEIGHTS
    progress = {"from": "host", "to": "device", "done": None, "remaining_s": None}
    assert (law["tier"], law["ready"], law["loading"], law["progress"]) == ("host", False, True, progress)
    assert (general["tier"], general["ready"], general["loading"]) == ("device", True, False)
    assert "progress" not in general


async def test_how_far_a_move_is_follows_from_those_before(serving: Serving, settings: Settings) -> None:
    async with serving(roomy_host(simulated(settings, load_bytes_per_s=ByteSize(2000)))) as gateway:
        await gateway.post(model="law")
        asking = asyncio.create_task(gateway.post(model="math"))
        await loading(gateway)
        text = (await gateway.services.metrics.text(gateway.services.tiers, {}, {}, {})).decode()
        assert (await asking).status_code == 200
        await at_rest(gateway)
        after = await scraped(gateway)
    way = {"expert": "math", "from_tier": "host", "to_tier": "device", "reason": "ticket"}
    assert 0 <= Scrape.of(text)("coe_moving_done", **way) < 1
    assert after.values("coe_moving_seconds", "expert") == set()
    assert after.values("coe_moving_done", "expert") == set()


async def test_an_expert_is_not_ready_while_its_engine_is_dead(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        assert (await listed(gateway, "general"))["ready"]
        gateway.engine.crash()
        (general,) = [each["coe"] for each in entries(gateway.services) if each["id"] == "general"]
        assert (general["tier"], general["ready"]) == ("device", False), "the tiers have not heard of it yet"


async def test_counters_of_an_engine_go_on_after_it_died(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        for name in ("law", "general", "law"):
            await gateway.post(model=name)
        before = await scraped(gateway)
        gateway.engine.crash()
        for name in ("general", "law"):
            await gateway.post(model=name)
        counted = await gateway.engine.statistics()
        after = await scraped(gateway)
    switches = before("coe_engine_switches_total", family="small")
    busy = before("coe_engine_busy_seconds_total", family="small")
    assert switches == 3
    assert busy == pytest.approx(3 * 64 / 2000 + 3 * 0.002)
    assert 0 < counted.switches < switches
    assert after("coe_engine_switches_total", family="small") == switches + counted.switches
    assert counted.busy_seconds is not None
    both = pytest.approx(busy + counted.busy_seconds)
    assert after("coe_engine_busy_seconds_total", family="small") == both
    assert after("coe_engine_deaths_total", family="small") == 1
    assert after("coe_engine_start_seconds_count", family="small", outcome="done") == 2


def test_a_count_that_became_smaller_began_anew() -> None:
    followed = Followed()
    for count in (5, 7, 7, 2):
        followed.follow(count, "a")
    followed.follow(1, "b")
    assert followed.totals == {("a",): 9, ("b",): 1}


async def test_gauges_of_what_is_not_configured_any_more_are_gone(
    serving: Serving, settings: Settings
) -> None:
    experts = {name: each.model_copy(update={"family": "new"}) for name, each in settings.experts.items()}
    del experts["law"]
    later = settings.model_copy(
        update={"families": {"new": settings.families["small"]}, "experts": experts, "compositions": {}}
    )
    async with serving(settings) as gateway, serving(later) as other:
        before = await scraped(gateway)
        running = {"new": await other.services.engines["new"].statistics()}
        after = Scrape.of(
            (await gateway.services.metrics.text(other.services.tiers, running, {}, {})).decode()
        )
    for name in ("coe_expert_tier", "coe_leases", "coe_waiting"):
        assert before.values(name, "expert") == {*EXPERTS}
        assert after.values(name, "expert") == {*EXPERTS} - {"law"}
    for name in ("coe_engine_state", "coe_engine_requests"):
        assert before.values(name, "family") == {"small"}
        assert after.values(name, "family") == {"new"}


async def test_counters_of_closed_sets_exist_from_the_start(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        seen = await scraped(gateway)
    assert seen("coe_evictions_total", tier="host", reason="eviction") == 0
    assert seen("coe_prefetches_total", tier="device", outcome="used") == 0
    assert seen("coe_tier_hits_total", tier="device") == 0
    assert seen("coe_wait_bound_hits_total", family="small") == 0


async def test_a_histogram_has_no_series_before_its_first_observation(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway:
        for _ in range(2):
            assert (await gateway.post(model="law")).status_code == 200
        text = (await gateway.http.get("/metrics")).text
        families = text_string_to_metric_families(text)
        counts = [
            s for f in families for s in f.samples if f.type == "histogram" and s.name.endswith("_count")
        ]
        assert counts
        assert [sample for sample in counts if not sample.value] == []
        assert "_created" not in text


async def test_five_experts_that_were_all_asked_are_less_than_320_lines(
    serving: Serving, settings: Settings
) -> None:
    async with serving(with_tiers(settings, device=ByteSize(10_000), host=ByteSize(10_000))) as gateway:
        for model in (*EXPERTS, *EXPERTS, "coe"):
            assert (await gateway.post(model=model)).status_code == 200
        assert len((await gateway.http.get("/metrics")).text.splitlines()) < 320


async def test_the_engines_kv_cache_and_the_disks_are_scraped(serving: Serving, settings: Settings) -> None:
    async with serving(simulated(settings, tokens_per_s=5, kv_tokens=130)) as gateway:
        body = chat(model="general", stream=True)
        async with gateway.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            chunks = answer.aiter_bytes()
            await anext(chunks)
            seen = await scraped(gateway)
        await until(lambda: gateway.engine.running == 0)
        after = await scraped(gateway)
    assert seen("coe_engine_kv_used_ratio", family="small") == 0.5  # one word, and 64 tokens
    assert after("coe_engine_kv_used_ratio", family="small") == 0
    assert 0 < seen("coe_disk_free_ratio", folder="state") <= 1
    assert 0 < seen("coe_disk_free_ratio", folder="store") <= 1


async def test_scrapes_let_others_have_their_turn() -> None:
    """Whatever there is to say: no more than so many lines come without a turn for streams between them."""
    registry = CollectorRegistry()
    many = Histogram("coe_many", "Many", ["expert", "tier"], buckets=(1, 2, 5, 10, 20, 50), registry=registry)
    for expert, tier in itertools.product(range(150), ("device", "host", "disk")):
        many.observe(3, f"expert-{expert}", tier)
    turns = 0

    async def stream() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    streaming = asyncio.create_task(stream())
    text = await exposition(registry)
    streaming.cancel()
    assert text.count(b"\n") == 2 + 450 * 9
    assert text.count(b"# ") == 2
    assert turns >= text.count(b"\n") / AT_A_TIME


async def test_the_text_is_the_librarys_but_for_when_series_were_made() -> None:
    registry = CollectorRegistry()
    counter = Counter("coe_counted", 'Counts "a\\b"\nand more', ["name"], registry=registry)
    counter.labels('a "quoted" \\ name\nof two lines').inc(1e9)
    Gauge("coe_level", "Without labels", registry=registry).set(float("inf"))
    seconds = Histogram("coe_s", "Seconds", ["b", "a"], buckets=(0.5, 1, 100000000), registry=registry)
    for value in (0.5, 0.7, 1, 3, 1e10):
        seconds.observe(value, "x", "y")
    expected = [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]
    assert (await exposition(registry)).decode().splitlines() == expected


def test_a_counter_counts_as_the_librarys_does() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine, other = (
        OurCounter("coe_n", "N", ["a"], registry=ours),
        Counter("coe_n", "N", ["a"], registry=theirs),
    )
    bare, others = OurCounter("coe_m", "M", [], registry=ours), Counter("coe_m", "M", registry=theirs)
    mine.begin("x")
    other.labels("x")
    assert samples(ours) == samples(theirs), "also before the first count"
    for label in ("y", "x", "y"):
        mine.inc(label)
        other.labels(label).inc()
    mine.begin("y")
    bare.inc(by=5)
    others.inc(5)
    assert samples(ours) == samples(theirs)


def samples(registry: CollectorRegistry) -> set[tuple[object, ...]]:
    found = (sample for family in registry.collect() for sample in family.samples)
    return {(s.name, *s.labels.items(), s.value) for s in found if not s.name.endswith("_created")}


def test_a_histogram_counts_as_the_librarys_does() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Histogram("coe_s", "Seconds", ["a"], buckets=(0.5, 1, 5), registry=ours)
    other = prometheus_client.Histogram("coe_s", "Seconds", ["a"], buckets=(0.5, 1, 5), registry=theirs)
    for value in (0, 0.5, 0.50001, 1, 4.9, 5, 5.1, 1e9):
        mine.observe(value, "x")
        other.labels("x").observe(value)
    assert samples(ours) == samples(theirs)


async def test_an_endpoint_picker_reads_which_experts_are_resident_as_it_reads_vllms_adapters(
    serving: Serving, settings: Settings
) -> None:
    async with serving(simulated(settings, tokens_per_s=5)) as gateway:
        assert (await gateway.post(model="law", max_tokens=1)).status_code == 200
        asked = asyncio.create_task(gateway.post(model="law", max_tokens=1_000))
        await until(lambda: gateway.services.tiers.counts().leases == 1)
        scrape = await scraped(gateway)
        asked.cancel()
        (resident,) = scrape.values("vllm:lora_requests_info", "running_lora_adapters")
        assert {*resident.split(",")} == {
            each.expert for each in gateway.services.tiers.status() if each.tier == "device"
        }
        assert "law" in resident
        assert scrape.values("vllm:lora_requests_info", "max_lora") == {"2"}
        assert scrape("vllm:num_requests_running") == 1
        assert scrape("vllm:num_requests_waiting") == 0
