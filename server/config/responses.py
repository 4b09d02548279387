"""The configuration of kept responses."""

from pathlib import Path

from pydantic import ByteSize, Field

from experts.spec import Strict


class ResponsesConfig(Strict):
    """Responses kept for clients to read and to go on from at ``/v1/responses``
    (docs/guides/responses.md)."""

    file: Path | None = None
    """SQLite file that outlives a restart; a relative path counts from ``state``. Absent: responses are kept
    in memory."""
    keep_days: float = Field(default=30, gt=0)
    """Days after which a response that no other goes on from is deleted."""
    max_count: int = Field(default=10_000, ge=1)
    """Most responses kept. To make room, the owner of the most loses its oldest."""
    max_bytes: ByteSize = Field(default=ByteSize(256 * 2**20), ge=2**20)
    """Largest size of them all, at least 1MiB. Room is made likewise."""
    max_stream_bytes: ByteSize = Field(default=ByteSize(64 * 2**20), ge=2**20)
    """Largest size, at least 1MiB, of the events that are kept of responses streamed from the background, so
    that their clients can leave and come back."""
    max_background: int = Field(default=32, ge=0)
    """Most responses made in the background at a time; further ones are refused."""
