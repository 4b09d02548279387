"""Messages of nodes to each other. Fields that another version does not know are passed over."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from memory_tiers.events import Priority
from memory_tiers.tiers import Tier

HEARTBEAT = "/node/heartbeat"
"""A stream of ``NodeSnapshot``, one a line, one every ``HEARTBEAT_S``, and one whenever an
expert has moved."""
ANSWER = "/node/answer"
"""Takes a ``NodeRequest``, and gives ``AnswerHead`` as the first line, then what the engine says."""
ORDER = "/node/order"
"""Takes a ``NodeOrder``, and answers 202 before it is carried out."""
ENGINE_PATHS = frozenset(
    {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize"}
)
"""Paths of an engine that another node may name: those of endpoints, and none that gives orders."""
HEARTBEAT_S = 0.5
LOST_S = 1.5
"""Seconds without a heartbeat after which a node counts as lost."""


class ExpertPlace(BaseModel):
    """Where an expert is on a node. ``seconds``: estimate until it could be on the device, with the loads
    that come before; ``waiting``: requests that wait for it."""

    model_config = ConfigDict(frozen=True)

    tier: Tier
    seconds: float
    waiting: int
    bytes: int


class NodeSnapshot(BaseModel):
    """Description of a node by itself. ``id``: differs with each start; ``run``: grows with it; ``number``:
    grows with each snapshot. ``running``: requests that it computes;
    ``device_free``: bytes of its device that nothing takes."""

    model_config = ConfigDict(frozen=True)

    id: str
    run: int
    number: int
    draining: bool
    running: int
    version: str
    url: str
    device_bytes: int
    device_free: int
    host_bytes: int
    experts: Mapping[str, ExpertPlace]


class NodeRequest(BaseModel):
    """A request to compute with ``expert``. ``id``: the same wherever it is asked, so that no node computes
    it twice. ``at_least``: refused with 409 if the expert is in a lower tier. ``whole``: the answer is no
    stream."""

    model_config = ConfigDict(frozen=True)

    id: str
    expert: str
    path: str
    body: dict[str, Any]
    whole: bool
    fail_fast: bool
    priority: Priority
    at_least: Tier

    @field_validator("path")
    @classmethod
    def _computes(cls, path: str) -> str:
        if path not in ENGINE_PATHS:
            raise ValueError(f"{path!r} is no path at which an engine computes for clients")
        return path


class NodeOrder(BaseModel):
    """Sends an expert to a tier of the node."""

    model_config = ConfigDict(frozen=True)

    expert: str
    tier: Tier


class AnswerHead(BaseModel):
    """Head of an answer, before its own bytes: as ``EngineResponse`` and ``Lease`` have it."""

    model_config = ConfigDict(frozen=True)

    status: int
    content_type: str
    tier: Tier
    queue_seconds: float
    swap_seconds: float


class Refusal(BaseModel):
    """Why a node gave no answer. ``reason``: that of a LeaseRejected, or the name of another error."""

    model_config = ConfigDict(frozen=True)

    reason: str
    message: str
    retry_after_s: float | None = None
