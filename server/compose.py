"""The composition root: everything a gateway is made of, started in order and ended in reverse."""

import asyncio
import contextlib
import functools
import importlib.metadata
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from experts.engines.nursery import Nurseries
from experts.spec import Expert
from memory_tiers.driver.host_store import HostStore
from memory_tiers.driver.manager import TierManager
from memory_tiers.observations import Observation
from server.access.accounts import Accounts, accounting
from server.access.admission import Admissions
from server.access.counts import LocalCounts
from server.batches.service import Batches, batching
from server.config.settings import Settings
from server.engine_factory import EngineFactory, engines_of
from server.engine_factory import engine_of as engine_by_mode
from server.exchange.endpoint import Endpoint
from server.feedback.recorder import Feedback, recording
from server.live.feed import Feed
from server.live.sampler import sampling
from server.metrics.gateway import Metrics
from server.observation.observer import Observer, observing
from server.openai.chat import CHAT
from server.openai.completions import COMPLETIONS
from server.openai.embeddings import EMBEDDINGS
from server.peers.changes import ResidencyChanges
from server.planning.budgets import budgets_of, explaining
from server.planning.planned import PlannedSettings, planned
from server.resilience.circuit_breakers import Breakers
from server.responses.kept.stored_responses import StoredResponses, storing_responses
from server.responses.responses import Responses
from server.routing.catalog import Catalog
from server.routing.thread_pools import Workers
from server.services import NodeServices
from server.tracing.traces import Traces, tracing


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway that runs: what every request needs, and the features that only some endpoints know.
    ``batches`` is None where they are off."""

    services: NodeServices
    feed: Feed
    responses: StoredResponses
    responses_endpoint: Responses
    batches: Batches | None


@contextlib.asynccontextmanager
async def running(
    settings: Settings,
    *,
    engine_of: EngineFactory | None = None,
    host_store: Callable[[], HostStore] = HostStore,
) -> AsyncIterator[Running]:
    """Starts everything; engines become ready in the background, and requests wait for them. Simulations
    bring engines and a host store of their own.

    Leaving drains for at most ``server.drain_s`` and leaves no process, socket or shared memory.
    Raises CheckpointError, RouterError, TiersError, DatabaseError, SettingsError before anything is started.
    """
    metrics = Metrics(CollectorRegistry())
    found = await asyncio.to_thread(planned, settings)
    settings = found.settings
    with observing(settings.observation) as observer:
        async with (
            accounting(settings.accounts.file, settings.accounts.keep_days) as accounts,
            tracing(settings.observation) as traces,
            recording(settings.feedback, metrics.feedback) as feedback,
            storing_responses(settings.responses) as responses,
            _started(found, metrics, observer, traces, feedback, accounts, engine_of, host_store) as services,
            sampling(services),
        ):
            responses_endpoint = Responses(responses, services)
            endpoints = _batch_endpoints(responses_endpoint)
            async with batching(settings.batches, services, endpoints) as batches:
                yield Running(services, Feed(services), responses, responses_endpoint, batches)


def _batch_endpoints(responses: Responses) -> Mapping[str, Endpoint]:
    """The endpoints that a batch may ask, by their paths."""
    return {
        "/v1/chat/completions": CHAT,
        "/v1/completions": COMPLETIONS,
        "/v1/embeddings": EMBEDDINGS,
        "/v1/responses": responses,
    }


@contextlib.asynccontextmanager
async def _started(
    found: PlannedSettings,
    metrics: Metrics,
    observer: Observer,
    traces: Traces | None,
    feedback: Feedback | None,
    accounts: Accounts,
    engine_of: EngineFactory | None,
    host_store: Callable[[], HostStore],
) -> AsyncIterator[NodeServices]:
    settings = found.settings
    with contextlib.closing(Workers()) as workers, contextlib.closing(Nurseries()) as nurseries:
        engine_of = engine_of or functools.partial(engine_by_mode, nurseries=nurseries)
        catalog = Catalog.read(settings, metrics.decided, workers)
        metrics.expect(catalog.routing.expected)
        changes = ResidencyChanges()
        observers = [metrics.tiers.observe, observer.observe, changes.observe]
        if traces is not None:
            observers.append(traces.observe)
        observe = functools.partial(_observe, observers)
        tiers = await _tiers(found, catalog.experts, observe, engine_of, host_store())
        if settings.computes:
            await tiers.start()
        try:
            yield NodeServices(
                catalog=catalog,
                tiers=tiers,
                engine_of=engine_of,
                metrics=metrics,
                workers=workers,
                breakers=Breakers(settings.server.breaker_failures, settings.server.breaker_cool_down_s),
                feedback=feedback,
                observer=observer,
                traces=traces,
                accounts=accounts,
                admissions=Admissions(LocalCounts(accounts)),
                residency=changes,
                started=int(time.time()),
                version=importlib.metadata.version("composition-of-experts"),
            )
        finally:
            await tiers.close(settings.server.drain_s)


def _observe(observers: Sequence[Callable[[Observation], None]], observation: Observation) -> None:
    for observe in observers:
        observe(observation)


async def _tiers(
    found: PlannedSettings,
    experts: Mapping[str, Expert],
    observe: Callable[[Observation], None],
    engine_of: EngineFactory,
    host: HostStore,
) -> TierManager:
    """Makes the tier manager, not started. Raises TiersError."""
    settings = found.settings
    engines = {
        engine.family: engine
        for family in settings.families
        if any(expert.family == family for expert in experts.values())
        for engine in engines_of(engine_of, family, settings, experts.values())
    }
    try:
        budgets = await asyncio.to_thread(budgets_of, found, experts, engines, host.room)
        with explaining(budgets):
            return TierManager(budgets.config, list(experts.values()), engines, host, observe)
    except BaseException:
        host.close()
        raise
