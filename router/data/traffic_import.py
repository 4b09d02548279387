"""Own traffic as training data: logs and exports become prompts, redacted, each kept once.

A file is lines of JSON, one JSON document, or plain text with a prompt a line, compressed by gzip or not.
"""

import gzip
import hashlib
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from router.conversations.conversation import prompt_of
from router.data.dataset import Example, twin_keys
from router.data.redaction import Redaction, shortened
from router.data.traffic_formats import field_at, is_message, requests_in
from router.errors import DatasetError

STANDARD_INPUT = Path("-")
"""The name by which it is read."""
_JSON_NAMES = {".json", ".jsonl", ".ndjson"}
_LINES_LOOKED_AT = 20
"""Lines looked at to tell JSON lines from plain text."""
_NOTED = 3


@dataclass(frozen=True, slots=True)
class Unreadable:
    """``place``: the line, or the entry of a JSON array, counted from 1."""

    file: Path
    place: str
    why: str

    def __str__(self) -> str:
        return f"{self.file}, {self.place}: {self.why}"


@dataclass(slots=True)
class Imported:
    """``speechless``: requests in which no person says anything. ``twins`` differ from a kept prompt by a
    word or by numbers."""

    examples: list[Example] = field(default_factory=list)
    speechless: int = 0
    duplicates: int = 0
    twins: int = 0
    unreadable: int = 0
    first_unreadable: list[Unreadable] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    text: bytes


@dataclass(frozen=True, slots=True)
class _Record:
    place: str
    value: object


class TrafficImport:
    """``category``: of every prompt; ``category_field``: the dotted path in a record to its own."""

    def __init__(
        self,
        redaction: Redaction,
        *,
        category: str | None = None,
        category_field: str | None = None,
        limit: int | None = None,
    ) -> None:
        self._redaction = redaction
        self._category = category
        self._field = category_field
        self._limit = limit
        self._seen: set[str] = set()
        self._twins: set[str] = set()
        self.imported = Imported()

    def read(self, file: Path) -> None:
        """Adds what is in ``file``, up to the limit. What cannot be read of it is noted. Raises DatasetError
        when the file itself cannot be read."""
        for record in _records(file):
            if isinstance(record, Unreadable):
                self._note(record)
            elif not self._add(file, record):
                return

    def _add(self, file: Path, record: _Record) -> bool:
        """Whether there is room for more."""
        requests = requests_in(record.value)
        if not requests:
            why = "no messages, input or prompt in it"
            self._note(Unreadable(file, record.place, why))
        category = field_at(record.value, self._field) if self._field else self._category
        for messages in requests:
            if self._limit is not None and len(self.imported.examples) >= self._limit:
                return False
            self._add_prompt(self._redaction(shortened(prompt_of(messages))), category)
        return True

    def _note(self, unreadable: Unreadable) -> None:
        self.imported.unreadable += 1
        if len(self.imported.first_unreadable) < _NOTED:
            self.imported.first_unreadable.append(unreadable)

    def _add_prompt(self, prompt: str, category: str | None) -> None:
        prompt = prompt.encode("utf-8", "replace").decode()  # JSON may hold half of a surrogate pair
        if not prompt.strip():
            self.imported.speechless += 1
            return
        name = hashlib.sha256(prompt.encode()).hexdigest()[:24]
        if name in self._seen:
            self.imported.duplicates += 1
            return
        self._seen.add(name)
        keys = twin_keys(prompt)
        if self._twins.intersection(keys):
            self.imported.twins += 1
            return
        self._twins.update(keys)
        self.imported.examples.append(Example(f"traffic/{name}", prompt, category))


def _records(file: Path) -> Iterator[_Record | Unreadable]:
    try:
        with _opened_file(file) as stream:
            numbered = (_Line(number, line) for number, line in enumerate(stream, 1) if line.strip())
            yield from _parsed(file, list(islice(numbered, _LINES_LOOKED_AT)), numbered)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{file} cannot be read: {error}") from error


@contextmanager
def _opened_file(file: Path) -> Iterator[Iterable[bytes]]:
    descriptor = sys.stdin.fileno() if file == STANDARD_INPUT else os.open(file, os.O_RDONLY)
    with open(descriptor, "rb", closefd=file != STANDARD_INPUT) as stream:
        if stream.peek(2)[:2] == b"\x1f\x8b":
            with gzip.open(stream) as unpacked:
                yield unpacked
        else:
            yield stream


def _parsed(file: Path, first: Sequence[_Line], rest: Iterator[_Line]) -> Iterator[_Record | Unreadable]:
    """1. A first line that is JSON by itself: lines of JSON. 2. One that only begins as JSON does: one
    document, if all of it is JSON. 3. Lines of JSON too if one of the first ones is, or the file's name says
    so: half of a document is no text. 4. Else plain text."""
    if first and _json(first[0].text) is None and first[0].text.lstrip()[:1] in (b"{", b"["):
        lines = [*first, *rest]
        document = _json(b"".join(line.text for line in lines))
        if document is not None:
            entries = enumerate(_entries(document), 1)
            yield from (_Record(f"entry {number}", entry) for number, entry in entries)
            return
        first, rest = lines[:_LINES_LOOKED_AT], iter(lines[_LINES_LOOKED_AT:])
    named = Path(file.name.removesuffix(".gz")).suffix in _JSON_NAMES
    is_json = named or any(_json(line.text) is not None for line in first)
    for line in chain(first, rest):
        place = f"line {line.number}"
        if not is_json:
            text = line.text.decode("utf-8", "replace").strip()
            yield _Record(place, {"prompt": text})
            continue
        value = _json(line.text)
        if value is None:
            yield Unreadable(file, place, "not a JSON object")
        else:
            yield from (_Record(place, entry) for entry in _entries(value))


def _json(text: bytes) -> dict[str, object] | list[object] | None:
    """Parses an object or an array; None: it is neither, or not JSON."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def _entries(value: dict[str, object] | list[object]) -> list[object]:
    """An array is one conversation if it holds messages, else an export's array of records."""
    if isinstance(value, dict) or any(isinstance(each, dict) and is_message(each) for each in value):
        return [value]
    return value
