"""The lines of a batch's output and error files, appended one by one and found again after a crash."""

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from server.batch_records import Tokens
from server.spool import Spool


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint answered to one request of a batch. ``body``: a JSON tree."""

    status: int
    request_id: str
    body: object

    @property
    def succeeded(self) -> bool:
        return self.status < 400

    @property
    def tokens(self) -> Tokens:
        return tokens_of(self.body)

    def line(self, custom_id: str) -> bytes:
        response = {"status_code": self.status, "request_id": self.request_id, "body": self.body}
        return _line(custom_id, response=response, error=None)


def unanswered(custom_id: str, code: str, message: str) -> bytes:
    """The line of a request that was not run."""
    return _line(custom_id, response=None, error={"code": code, "message": message})


def _line(custom_id: str, **rest: object) -> bytes:
    return orjson.dumps({"id": f"batch_req_{uuid.uuid4().hex}", "custom_id": custom_id, **rest}) + b"\n"


@dataclass(frozen=True, slots=True)
class Written:
    custom_id: str
    tokens: Tokens


class AnswerFile:
    """For the archive's thread."""

    def __init__(self, spool: Spool, id: str) -> None:
        self._spool = spool
        self._id = id
        self._descriptor = spool.create(id)

    def __repr__(self) -> str:
        return f"<AnswerFile {self._id}>"

    @property
    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def recovered(self) -> list[Written]:
        """What an earlier process has written. The piece of a line at its end is dropped."""
        written: list[Written] = []
        whole = 0
        with self._spool.open(self._id) as file:
            for raw in file:
                found = _written(raw)
                if found is None:
                    break
                written.append(found)
                whole += len(raw)
        torn = self.size - whole
        os.ftruncate(self._descriptor, whole)
        self._spool.give_back(torn)
        return written

    def append(self, line: bytes) -> None:
        """All of it or nothing. Raises SpoolFull."""
        self._spool.append(self._descriptor, line)

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def _written(raw: bytes) -> Written | None:
    """None: no whole line."""
    if not raw.endswith(b"\n"):
        return None
    try:
        line = orjson.loads(raw)
        return Written(line["custom_id"], tokens_of((line["response"] or {}).get("body")))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None


def tokens_of(body: object) -> Tokens:
    """By the ``usage`` of an answer of any endpoint."""
    usage = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(usage, dict):
        return Tokens()
    asked = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    said = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    return Tokens(
        input=_count(usage, "prompt_tokens") or _count(usage, "input_tokens"),
        cached=_count(asked, "cached_tokens"),
        output=_count(usage, "completion_tokens") or _count(usage, "output_tokens"),
        reasoning=_count(said, "reasoning_tokens"),
    )


def _count(counts: Mapping[str, Any] | None, name: str) -> int:
    count = counts.get(name) if isinstance(counts, dict) else None
    return count if isinstance(count, int) else 0
