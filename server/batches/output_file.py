"""Lines of a batch's output and error files, appended one by one and found again after a crash."""

import os
import re
import uuid
from dataclasses import dataclass

import orjson

from server.batches.file_store import Spool
from server.batches.records import Tokens
from server.exchange.answer.token_counter import usage_in

_HEAD = re.compile(rb'\{"id":"batch_req_[0-9a-f]+","custom_id":("(?:[^"\\]|\\.)*"),"response":')


@dataclass(frozen=True, slots=True)
class AnsweredRequest:
    """The answer to one request of a batch. ``body``: a JSON object, which is passed on as it
    is: to parse a long one would hold up the event loop, also from another thread."""

    status: int
    request_id: str
    body: bytes
    tokens: Tokens

    @property
    def succeeded(self) -> bool:
        return self.status < 400

    def line(self, custom_id: str) -> bytes:
        said = orjson.dumps({"status_code": self.status, "request_id": self.request_id})
        body = self.body.replace(b"\r", b" ").replace(b"\n", b" ")  # in texts they are escaped
        return b"".join(
            (_head(custom_id), b',"response":', said[:-1], b',"body":', body, b'},"error":null}\n')
        )


def unanswered(custom_id: str, code: str, message: str) -> bytes:
    """Returns the line of a request that was not run."""
    error = orjson.dumps({"code": code, "message": message})
    return b"".join((_head(custom_id), b',"response":null,"error":', error, b"}\n"))


def _head(custom_id: str) -> bytes:
    return b'{"id":"batch_req_%b","custom_id":%b' % (uuid.uuid4().hex.encode(), orjson.dumps(custom_id))


@dataclass(frozen=True, slots=True)
class Written:
    custom_id: str
    tokens: Tokens


class AnswerFile:
    """Output or error file of a batch, for the archive's thread."""

    def __init__(self, spool: Spool, id: str, owner: str) -> None:
        self._spool = spool
        self._id = id
        self._descriptor = spool.create(id, owner)

    def __repr__(self) -> str:
        return f"<AnswerFile {self._id}>"

    @property
    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def recovered(self) -> list[Written]:
        """Finds what an earlier process has written. The piece of a line at its end is dropped."""
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
        self._spool.give_back(self._id, torn)
        return written

    def append(self, line: bytes) -> None:
        """Appends all of ``line`` or nothing. Raises SpoolFull."""
        self._spool.append(self._id, self._descriptor, line)

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def _written(raw: bytes) -> Written | None:
    """Parses a line; None: it is not whole. After a crash of the machine the unwritten part may be zeros."""
    found = _HEAD.match(raw)
    if found is None or not raw.endswith(b"}\n") or b"\0" in raw:
        return None
    return Written(orjson.loads(found[1]), Tokens.of(usage_in(raw, first=True)))
