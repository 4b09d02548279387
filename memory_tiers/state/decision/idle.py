"""Gives back what stays unused: experts, engines, and the device to its defaults."""

from memory_tiers.state.decision.evictions import Evictions
from memory_tiers.state.records.demand import Demand
from memory_tiers.state.records.expert_record import EngineRecord
from memory_tiers.state.records.records import Records
from memory_tiers.tiers import TiersConfig


class IdleRules:
    """Orders down, stops and calls back by the time that has passed without use.

    1. An idle expert whose ``ttl_s`` is over is ordered down from the device.
    2. An engine that was unused for its ``sleep_after_s`` sleeps; one that was for ``engine_idle_s`` is
       stopped, and so is one without experts.
    3. When no request was asked for during ``return_to_default_s``, the defaults are called back, once.
    """

    def __init__(self, records: Records, demand: Demand, evictions: Evictions, config: TiersConfig) -> None:
        self._records = records
        self._demand = demand
        self._evictions = evictions
        self._engine_idle_s = config.engine_idle_s
        self._return_to_default_s = config.return_to_default_s

    def __repr__(self) -> str:
        return f"<IdleRules with {self._records.rankings.expiries!r}>"

    def order_expired(self) -> None:
        """Orders down the experts whose ``ttl_s`` is over (1)."""
        records, expiries = self._records, self._records.rankings.expiries
        for name in expiries.due(records.now):
            if name not in records.ordered:
                records.order(records.experts[name], "host", "idle")
        if (at := expiries.next) is not None:
            records.wake(at)

    def stop_engines(self) -> None:
        """Stops the engines that were unused long enough, or has them sleep (2)."""
        for engine in [*self._records.engines.values()]:
            if engine.occupied or engine.leases or any(engine.queued):
                continue
            if not engine.members or self._has_rested(engine, self._engine_idle_s):
                self._evictions.stop(engine, None, "idle")
            elif not engine.asleep and self._has_rested(engine, engine.sleep_after_s):
                self._evictions.stop(engine, None, "idle", sleep=True)

    def return_to_default(self) -> None:
        """Calls the default experts back (3)."""
        records = self._records
        if self._return_to_default_s is None or records.quiet_since is None:
            return
        due = records.quiet_since + self._return_to_default_s
        if records.now < due:
            records.wake(due)
            return
        records.quiet_since = None
        for expert in records.experts.values():
            if expert.default and expert.ordered is None:
                self._demand.want(expert)

    def _has_rested(self, engine: EngineRecord, seconds: float | None) -> bool:
        if seconds is None or engine.state != "ready":
            return False
        if any(member.pinned or member.default for member in engine.members.values()):
            return False
        due = engine.last_used + seconds
        self._records.wake(due)
        return self._records.now >= due
