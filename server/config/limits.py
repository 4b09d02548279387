"""Limits on clients' requests and their time: ``server.limits`` of the configuration."""

from pydantic import ByteSize, Field

from experts.spec import Strict


class LimitsConfig(Strict):
    """Bounds on clients. docs/security.md says what is answered beyond each."""

    connections: int = Field(default=4096, ge=1)
    """Connections at once; one more is told 503 and closed."""
    requests: int = Field(default=1024, ge=1)
    """Requests under way at once, those that wait for an expert too; one more is told 503."""
    bodies: ByteSize = ByteSize(2**30)
    """Bodies of all requests under way together; a request beyond is told 503."""
    url: ByteSize = ByteSize(8 * 2**10)
    """Longest path with its query."""
    headers: ByteSize = ByteSize(32 * 2**10)
    """All names and values of a request's headers together."""
    header_count: int = Field(default=100, ge=1)
    """Most headers of a request."""
    messages: int = Field(default=4096, ge=1)
    """Most messages of a request."""
    choices: int = Field(default=128, ge=1)
    """Most answers to one prompt (``n``), as OpenAI takes."""
    answers: int = Field(default=2048, ge=1)
    """Most answers of one request: the prompts of a completion, times ``n``."""
    json_depth: int = Field(default=100, ge=8, le=200)
    """How deep arrays and objects of a body may be nested."""
    json_parts: int = Field(default=100_000, ge=100)
    """Most arrays, objects and keys of a body: parsing them holds up all requests, 100,000 for up to 20
    ms."""
    json_values: int = Field(default=300_000, ge=100)
    """Most other values of a body, such as numbers and texts: as many as OpenAI takes tokens to embed."""
    json_escapes: int = Field(default=3_000_000, ge=100)
    """Most backslashes in a body's texts: as many as 16 MiB of other scripts have, escaped. Writing the texts
    again holds up all requests, 3,000,000 for up to 30 ms."""
    headers_s: float = Field(default=15.0, gt=0)
    """How long a client may take to send a request's headers, from the connection's or their first byte."""
    body_s: float = Field(default=30.0, gt=0)
    """How long a client may take to send a body, beside a second for each ``body_rate`` bytes of it."""
    body_rate: ByteSize = Field(default=ByteSize(4 * 2**10), ge=1)
    """Bytes per second that a client with a large body must reach."""
    idle_s: float = Field(default=75.0, gt=0)
    """How long a connection stays open without a request: longer than a load balancer in front keeps it."""
    stall_s: float = Field(default=60.0, ge=1)
    """How long a client may read nothing of an answer, with all buffers full, before it counts as gone."""
