"""The configuration of files and batches."""

from pathlib import Path

from pydantic import ByteSize, Field

from experts.spec import Strict


class BatchesConfig(Strict):
    """Files and batches: requests that may wait, answered expert by expert (docs/guides/batches.md)."""

    folder: Path = Path("batches")
    """Folder for uploaded files, answers and the SQLite file that says what they are; a relative path counts
    from ``state``. One gateway at a time may use it."""
    max_bytes: ByteSize = Field(default=ByteSize(10 * 2**30), ge=2**20)
    """Most bytes of all files together, at least 1MiB. An upload that does not fit is refused, and a batch
    whose answers do not fit fails."""
    max_file_bytes: ByteSize = ByteSize(200 * 2**20)
    """Largest file that is taken."""
    max_files: int = Field(default=10_000, ge=1)
    """Most files, uploads and answers together."""
    max_requests: int = Field(default=50_000, ge=1)
    """Most requests of one batch."""
    concurrency: int = Field(default=16, ge=1)
    """Requests of all batches under way at once, all for the same expert."""
    keep_days: int = Field(default=30, ge=1)
    """Days after which files, and batches that have ended, are deleted, unless the client said otherwise of a
    file."""
