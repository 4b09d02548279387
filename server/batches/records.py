"""Records of files and batches, and how a batch goes from one status to the next."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from server.errors import Conflict

FilePurpose = Literal["batch", "batch_output"]
Status = Literal[
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
]
EndStatus = Literal["completed", "expired", "cancelled", "failed"]
"""Statuses that a batch ends in."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """File of an owner. Times in seconds since 1970. ``owner``: see ``owner_of``. ``expires_at``: deleted
    then."""

    id: str
    owner: str
    filename: str
    purpose: FilePurpose
    bytes: int
    created_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class LineError:
    """Reason why a batch failed. ``line``: counts from 1; None: the file as a whole."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts. ``cached`` are among ``input`` and ``reasoning`` among ``output``."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0

    @classmethod
    def of(cls, usage: Mapping[str, Any] | None) -> "Tokens":
        """Reads the usage that an answer of any endpoint reports; None: it reports none."""
        if usage is None:
            return cls()
        asked = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
        said = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
        return cls(
            input=_count(usage, "prompt_tokens") or _count(usage, "input_tokens"),
            cached=_count(asked, "cached_tokens"),
            output=_count(usage, "completion_tokens") or _count(usage, "output_tokens"),
            reasoning=_count(said, "reasoning_tokens"),
        )

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(
            self.input + other.input,
            self.cached + other.cached,
            self.output + other.output,
            self.reasoning + other.reasoning,
        )


@dataclass(frozen=True, slots=True)
class RequestCounts:
    """Counts of a batch's requests. ``total`` is 0 until its file was read."""

    total: int = 0
    completed: int = 0
    failed: int = 0
    tokens: Tokens = Tokens()

    def and_one(self, *, completed: bool, tokens: Tokens) -> "RequestCounts":
        return replace(
            self,
            completed=self.completed + completed,
            failed=self.failed + (not completed),
            tokens=self.tokens + tokens,
        )


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """Batch of an owner. ``key``: the name of the key it was made with. ``answers_id`` and ``failures_id``:
    the files that lines are appended to while it runs. At its end clients see them as ``output_file_id`` and
    ``error_file_id``, where they have lines. ``keep_answers_s``: how long these files are kept. ``model``: of
    all requests; None: they name several.

    Every change of status is one of the methods, which leave a batch alone that is past it.
    """

    id: str
    owner: str
    key: str
    endpoint: str
    input_file_id: str
    created_at: int
    expires_at: int
    answers_id: str
    failures_id: str
    keep_answers_s: int
    metadata: Mapping[str, str] | None = None
    status: Status = "validating"
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: tuple[LineError, ...] = ()
    model: str | None = None
    counts: RequestCounts = RequestCounts()

    @property
    def ended_at(self) -> int | None:
        return self.completed_at or self.failed_at or self.expired_at or self.cancelled_at

    def begun(self, at: int, model: str | None, counts: RequestCounts) -> "BatchRecord":
        """Begins the batch, whose file was read. ``counts``: includes answers of an earlier process."""
        if self.status == "validating":
            return replace(self, status="in_progress", in_progress_at=at, model=model, counts=counts)
        return replace(self, model=model, counts=counts)

    def cancelling(self, at: int) -> "BatchRecord":
        """Begins to cancel the batch. Raises Conflict."""
        if self.status == "cancelling":
            return self
        if self.status not in ("validating", "in_progress"):
            raise Conflict(f"Batch {self.id} is {self.status} and cannot be cancelled any more.", "batch_id")
        return replace(self, status="cancelling", cancelling_at=at)

    def finalizing(self, at: int) -> "BatchRecord":
        if self.status != "in_progress":
            return self
        return replace(self, status="finalizing", finalizing_at=at)

    def ended(
        self,
        at: int,
        outcome: EndStatus,
        errors: tuple[LineError, ...] = (),
        files: Collection[str] = (),
    ) -> "BatchRecord":
        """Ends the batch. ``files``: those of its two that have lines; they are whole."""
        ended = replace(
            self,
            status=outcome,
            errors=errors,
            output_file_id=self.answers_id if self.answers_id in files else None,
            error_file_id=self.failures_id if self.failures_id in files else None,
        )
        match outcome:
            case "completed":
                return replace(ended, completed_at=at)
            case "expired":
                return replace(ended, expired_at=at)
            case "cancelled":
                return replace(ended, cancelled_at=at)
            case "failed":
                return replace(ended, failed_at=at)


def _count(counts: Mapping[str, Any] | None, name: str) -> int:
    count = counts.get(name) if isinstance(counts, dict) else None
    return count if isinstance(count, int) else 0
