"""The experts that could leave a tier, in the order in which they should."""

import math
from dataclasses import dataclass, field

from memory_tiers.state.records.expert_record import ExpertRecord
from memory_tiers.state.records.policy import Policy
from memory_tiers.state.records.ranking import Ranking
from memory_tiers.state.records.timers import Timers


@dataclass(slots=True)
class Rankings:
    """Ranks residents without leases (``idle``), residents with leases (``used``) and host copies
    (``on_host``). ``expiries``: when idle residents have stayed for their ``ttl_s``, of which ``ttl_s`` is
    the configured default, or for as long as the latest request asked."""

    policy: Policy
    ttl_s: float | None
    idle: Ranking = field(init=False)
    used: Ranking = field(init=False)
    on_host: Ranking = field(init=False)
    expiries: Timers = field(default_factory=Timers)

    def __post_init__(self) -> None:
        self.idle, self.used = Ranking(self.policy, "device"), Ranking(self.policy, "device")
        self.on_host = Ranking(self.policy, "host")

    def update(self, expert: ExpertRecord) -> None:
        """Ranks the expert anew. Called after every change that decides whether or when it may leave."""
        may_leave = expert.device.presence == "present" and not expert.pinned and not expert.stuck
        idle = may_leave and not expert.leases
        self.idle.keep(expert, idle)
        self.used.keep(expert, may_leave and not idle)
        self.on_host.keep(expert.first, expert.host.presence == "present")
        ttl_s = self.ttl_s if expert.ttl_s is None else expert.ttl_s
        ttl_s = ttl_s if expert.kept_s is None else expert.kept_s
        if idle and ttl_s is not None and ttl_s != math.inf:
            self.expiries.set(expert.name, expert.last_used + ttl_s)
        else:
            self.expiries.clear(expert.name)
