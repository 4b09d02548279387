"""Records of the feedback loop: what was decided, how it ended, what the client said of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FeedbackKey:
    """The request that feedback is about: its id, and the hash of its owner (see ``owner_of``)."""

    id: str
    client: bytes


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision. ``at``: seconds since 1970. ``prompt``: what the router read."""

    key: FeedbackKey
    at: float
    composition: str
    category: str
    cluster: str
    confidence: float
    uncertain: bool
    expert: str
    prompt: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a request. ``outcome``: HTTP status, or client_left."""

    key: FeedbackKey
    outcome: str


@dataclass(frozen=True, slots=True)
class Said:
    """Client's feedback on an answer: a score from 0 to 1, a better category, or both."""

    key: FeedbackKey
    score: float | None
    correction: str | None


@dataclass(frozen=True, slots=True)
class Kept:
    """Decision as kept in the file. ``name`` is its own, and reveals neither the client nor the request."""

    name: str
    at: float
    composition: str
    category: str
    uncertain: bool
    expert: str
    cluster: str
    prompt: str | None
    digest: bytes
    outcome: str | None
    score: float | None
    correction: str | None
