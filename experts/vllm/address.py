"""The address of an expert in vLLM: what a request has so that its server computes with that one."""

from dataclasses import dataclass
from typing import Any

from experts.engines.engine import Body
from experts.engines.resident import Resident


@dataclass(frozen=True, slots=True)
class Address:
    """Address of ``expert``. ``model``: what it is called in requests. ``named``: the request's arguments of
    vLLM name it too, for engines whose experts share one model. ``resident``: its weights, whose prefixes are
    kept apart; None where an engine has one expert at a time."""

    expert: str
    model: str
    named: bool = False
    resident: Resident | None = None

    def addressed(self, body: Body) -> dict[str, Any]:
        """Returns ``body`` with what tells the server which expert it is for."""
        more: dict[str, Any] = {"model": self.model}
        if self.named:
            more["vllm_xargs"] = {**(body.get("vllm_xargs") or {}), "expert": self.expert}
        if self.resident is not None:
            more["cache_salt"] = self.resident.salt(self.expert, str(body.get("cache_salt") or ""))
        return {**body, **more}
