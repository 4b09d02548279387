"""Messages of nodes to each other, of a version that may differ by one from another node's.

A field that a version adds has a default, and the version before passes over it. A field or a path that is
needed no more goes with the version after the one that has stopped to need it.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from cluster.placement.actions import Entry
from memory_tiers.events import Priority
from memory_tiers.tiers import Tier
from server.access.figures import Figures

PROTOCOL = 2
"""Version of these messages: one more with the first change of them after a release."""
HEARTBEAT = "/node/heartbeat"
"""A stream of ``NodeSnapshot``, one a line, one every ``HEARTBEAT_S``, and one whenever an
expert has moved."""
LISTENS_AT = "node-address"
"""Header by which a node that follows a heartbeat says where it is followed itself."""
ANSWER = "/node/answer"
"""Takes a ``NodeRequest``, and gives ``AnswerHead`` as the first line, then what the engine says."""
ORDER = "/node/order"
"""Takes a ``NodeOrder``, and answers 202 before it is carried out."""
PLACEMENT = "/node/placement"
"""Takes ``PlacementNews`` of the node that places experts, and answers 202; 409 where another one is
followed, or tables in between were missed."""
REBALANCE = "/node/rebalance"
"""Has the node that places experts spread them evenly; 409 if it is another one."""
WEIGHTS = "/node/weights"
"""Gives a range, of one piece at most, of a file of an expert's copy in host memory. A piece that is on its
way there is given once it has come."""
COMING = "coming"
"""Field of its query by which a node says that the copy was ordered only now: it is waited for too."""
SUMS = "/node/sums"
"""Gives the digests of all pieces of such a file, of which its checksum is made."""
DIGEST_BYTES = 8
PREPARED = "/node/prepared"
"""Gives the small files of a prepared expert, for a gateway that has no store of its own."""
ADMIT = "/node/admit"
"""Takes an ``AdmitRequest``, and gives an ``AdmitAnswer``; 409 where another node is the key's home."""
SETTLE = "/node/settle"
"""Takes a list of ``Settlement``, and gives ``Settled``."""
FIGURES = "/node/figures"
"""Takes a ``FiguresRequest``, and gives the ``Figures`` of what this node has let in for the key."""
CLIENT = "/node/client"
"""Takes a ``ClientRequest`` as the first line, then the client's body; gives a ``ClientAnswer`` as the first
line, then its bytes."""
ENGINE_PATHS = frozenset(
    {"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize"}
)
"""Paths of an engine that another node may name: those of endpoints, and none that gives orders."""
HEARTBEAT_S = 0.5
LOST_S = 1.5
"""Seconds without a heartbeat after which a node counts as lost."""


class ExpertPlace(BaseModel):
    """Where an expert is on a node. ``seconds``: estimate until it could be on the device, with the loads
    that come before; ``waiting``: requests that wait for it; ``gives``: its files are in host memory, where
    other nodes may read them."""

    model_config = ConfigDict(frozen=True)

    tier: Tier
    seconds: float
    waiting: int
    bytes: int
    gives: bool = False


class NodeSnapshot(BaseModel):
    """Description of a node by itself. ``id``: differs with each start; ``run``: grows with it; ``number``:
    grows with each snapshot. ``running``: requests that it computes;
    ``device_free``: bytes of its device that nothing takes. ``term`` and ``placer``: the placement that it
    follows, by the id of the node; ``hears``: ``run`` and ``id`` of the node that has run longest of those
    that it hears. ``demand``: requests a second of its own clients. ``host_rate``, ``peer_rate``,
    ``disk_rate``: bytes/s from its host memory to its device, from another node's and from disk to its own;
    None where that was not measured."""

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
    term: int = 0
    placer: str = ""
    hears: tuple[int, str] | None = None
    demand: Mapping[str, float] = {}
    host_rate: float | None = None
    peer_rate: float | None = None
    disk_rate: float | None = None
    used: Mapping[str, Figures] = {}
    """Tells what this node has let in for keys with limits that were used in the last seconds."""
    protocol: int = 1
    """The version of what it says; the first one did not say it."""
    gateway: bool = False
    """Whether it is a gateway alone: it holds no experts, and is given none."""


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


class AdmitRequest(BaseModel):
    """Asks the home of a key to let a request in. ``node``: the id of the node that asks."""

    model_config = ConfigDict(frozen=True)

    node: str
    key: str
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrent_requests: int | None
    tokens_per_day: int | None
    tokens: int
    offline: bool


class LeftOf(BaseModel):
    """As ``server.access.rate_limits.Left``."""

    model_config = ConfigDict(frozen=True)

    limit: int
    remaining: int
    reset_s: float


class AdmitAnswer(BaseModel):
    """The home's answer. ``steady``: seconds of its clock, by which it knows the charge; None: the request
    is not let in, for the reason that ``limit`` and what follows it say. ``left``: by requests and tokens."""

    model_config = ConfigDict(frozen=True)

    steady: float | None = None
    limit: str = ""
    most: int = 0
    used: int = 0
    asked: int = 0
    retry_after_s: float | None = None
    left: Mapping[str, LeftOf] = {}


class Settlement(BaseModel):
    """Tells what a request was charged, ``age_s`` ago or at ``steady`` of the home with that id, and what it
    has used."""

    model_config = ConfigDict(frozen=True)

    node: str
    key: str
    home: str
    steady: float
    age_s: float
    day: int
    charged: int
    offline: bool
    used: int


class Settled(BaseModel):
    """The answer to settlements."""


class FiguresRequest(BaseModel):
    """Asks what a node has let in for a key. ``home``: the id of the node that counts for it from now on."""

    model_config = ConfigDict(frozen=True)

    home: str
    key: str


class ClientRequest(BaseModel):
    """A client's request for what another node may have kept. ``size``: bytes of its body."""

    model_config = ConfigDict(frozen=True)

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    size: int


class ClientAnswer(BaseModel):
    """The head of its answer."""

    model_config = ConfigDict(frozen=True)

    status: int
    headers: tuple[tuple[str, str], ...]


class NodeOrder(BaseModel):
    """Brings an expert to a tier of the node; with ``leaves`` it is sent down to that tier. ``source``: the
    node whose host memory has it. ``term`` and ``placer``: of the placement that orders it, refused where
    another one is followed; 0: a node that drains asks."""

    model_config = ConfigDict(frozen=True)

    expert: str
    tier: Tier
    leaves: bool = False
    source: str | None = None
    term: int = 0
    placer: str = ""


class MoveNote(BaseModel):
    """An order of the placement: ``outcome`` is empty while it is under way, then ``done`` or why not.
    ``seconds``: how long it took, or has taken by now."""

    model_config = ConfigDict(frozen=True)

    node: str
    expert: str
    tier: Tier
    leaves: bool
    source: str | None
    seconds: float
    outcome: str


class TableChange(BaseModel):
    """Entries of the table that changed with one epoch of a term."""

    model_config = ConfigDict(frozen=True)

    count: int
    entries: tuple[Entry, ...]


class PlacementNews(BaseModel):
    """The message of the node that places experts to the others. ``changes``: since what the node was told
    before, or with ``whole`` one that has all. ``address``: where the placing node listens."""

    model_config = ConfigDict(frozen=True)

    term: int
    placer: str
    address: str
    whole: bool
    changes: tuple[TableChange, ...]
    moves: tuple[MoveNote, ...]


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
