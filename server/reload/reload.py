"""Another configuration while serving: read, checked as a whole, then in force at once, or refused."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from experts.engines.engine import Engine
from experts.errors import ExpertsError
from memory_tiers.errors import TiersError
from router.errors import RouterError
from server.config.settings import Settings, SettingsError
from server.engine_factory import check_has_place, engines_of
from server.errors import ReloadRefused
from server.operator_api import Reloaded
from server.planning.planned import as_before, planned
from server.reload.plan import ReloadPlan, check_reloadable, plan
from server.routing.catalog import Catalog
from server.services import NodeServices
from server.transport.tls import Certificate


@dataclass(frozen=True, slots=True)
class _Next:
    """Next state, prepared beforehand."""

    catalog: Catalog
    plan: ReloadPlan
    engines: tuple[Engine, ...]


class Reload:
    """Reloads of the configuration, one after another. Slow work is done off the event loop; then a request
    sees either configuration and never a part of one. A request that waits for an expert or uses it keeps
    it."""

    def __init__(
        self, services: NodeServices, read: Callable[[], Settings], certificate: Certificate | None = None
    ) -> None:
        """``read`` gives the settings as they are written now; it raises SettingsError. ``certificate`` is
        renewed."""
        self._services = services
        self._read = read
        self._certificate = certificate
        self._turn = asyncio.Lock()
        self._follow: Callable[[Settings], Awaitable[None]] | None = None

    def __repr__(self) -> str:
        return f"<Reload of {self._services.tiers!r}{' under way' if self._turn.locked() else ''}>"

    def followed_by(self, follow: Callable[[Settings], Awaitable[None]]) -> None:
        """Has each reload end once ``follow`` has taken the settings over too."""
        self._follow = follow

    async def now(self) -> Reloaded:
        """Reloads now. Raises ReloadRefused, and then nothing has changed."""
        async with self._turn:
            try:
                coming = await asyncio.to_thread(self._prepare)
                self._take_over(coming)
            except (SettingsError, ExpertsError, RouterError, TiersError) as error:
                raise ReloadRefused(f"Nothing was changed: {error}") from error
            if self._follow is not None:
                await self._follow(coming.catalog.settings)
        device, host, _ = self._services.tiers.usage()
        return Reloaded(
            added=tuple(expert.name for expert in coming.plan.added),
            removed=coming.plan.removed,
            changed=tuple(expert.name for expert in coming.plan.changed),
            compositions=tuple(coming.catalog.settings.compositions),
            device_bytes=device.capacity_bytes or 0,
            host_bytes=host.capacity_bytes or 0,
        )

    def coming(self) -> Settings:
        """Reads the settings that a reload would serve, as far as they can be read: not for the event loop.
        Raises SettingsError, and what planning them does."""
        return planned(as_before(self._read(), self._services.settings)).settings

    def _prepare(self) -> _Next:
        """Prepares the next state; it only reads files. Raises SettingsError, ExpertsError, RouterError,
        TiersError."""
        services, old = self._services, self._services.catalog
        settings = planned(as_before(self._read(), old.settings)).settings
        check_reloadable(old.settings, settings)
        catalog = Catalog.read(settings, services.metrics.decided, services.workers)
        wanted = plan(old.settings, settings, old.experts, catalog.experts)
        running = services.tiers.engines
        for expert in wanted.added:
            if expert.family not in wanted.families:
                check_has_place(running[expert.family], expert)
        experts = catalog.experts.values()
        if self._certificate is not None:
            self._certificate.renew()
        return _Next(
            catalog,
            wanted,
            tuple(
                engine
                for family in wanted.families
                for engine in engines_of(services.engine_of, family, settings, experts)
            ),
        )

    def _take_over(self, coming: _Next) -> None:
        """Puts the next state in force without a pause in which a request could see half of it. Raises
        TiersError."""
        wanted = coming.plan
        self._services.tiers.orders.revise(
            added=wanted.added,
            removed=wanted.removed,
            changed=wanted.changed,
            engines=coming.engines,
            device=wanted.device,
            host=wanted.host,
        )
        self._services.catalog = coming.catalog
        self._services.metrics.expect(coming.catalog.routing.expected)
