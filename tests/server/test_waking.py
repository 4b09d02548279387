"""An engine that wakes for a request is none that a request would not reach."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from experts.engines.engine import Engine
from server.services import NodeServices
from tests.memory_tiers.driver.test_tier_manager import a_house


class Breakers:
    """No breaker is open."""

    def refusing(self, engines: dict[str, Engine]) -> dict[str, str]:
        return {}


async def test_a_node_is_ready_while_an_engine_wakes(tmp_path: Path) -> None:
    async with a_house(tmp_path, sleep_after_s=60.0) as house:
        house.clock.now += 60.0
        house.manager.foresee({})
        await house.until(lambda: house.engine.state == "asleep")
        await house.at_rest()
        seen = SimpleNamespace(
            tiers=house.manager,
            engines=house.manager.engines,
            breakers=Breakers(),
            settings=SimpleNamespace(computes=True),
        )
        services = cast(NodeServices, seen)
        house.engine.gate.clear()
        asked = asyncio.create_task(house.manager.lease("b"))
        await house.until(lambda: house.engine.calls[-1] == "load b")
        assert house.engine.state == "asleep"
        assert not any(engine.rests for engine in house.manager.readiness.engines)
        assert await NodeServices.problems(services) == {}
        house.engine.gate.set()
        (await asked).release()
