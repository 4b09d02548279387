"""Names what a request asks of the tiers, whose manager may be in another process."""

from collections.abc import Mapping
from typing import Protocol

from experts.engines.engine import Answering
from memory_tiers.events import Priority
from memory_tiers.lease import Lease
from memory_tiers.status import ExpertStatus, MoveProgress


class Residency(Protocol):
    """Implemented by ``memory_tiers.driver.manager.TierManager``, and for other processes of a gateway by
    ``server.processes.gateway.tiers.LeasedTiers``."""

    @property
    def engines(self) -> Mapping[str, Answering]:
        """The engines that are there now, by family."""
        ...

    async def lease(
        self,
        expert: str,
        *,
        fail_fast: bool = False,
        priority: Priority = "normal",
        conversation: str = "",
        keep_s: float | None = None,
    ) -> Lease:
        """Waits for the expert to be on the device: see ``TierManager.lease``. Raises LeaseRejected,
        ManagerBroken."""
        ...

    def has_several(self, family: str) -> bool:
        """Whether several engines compute for ``family``."""
        ...

    def foresee(self, chances: Mapping[str, float]) -> None:
        """Takes in the probabilities of being wanted soon of experts beside the chosen one."""
        ...

    def status(self) -> tuple[ExpertStatus, ...]:
        """Describes each configured expert."""
        ...

    def progress(self) -> tuple[MoveProgress, ...]:
        """Describes every move under way."""
        ...
