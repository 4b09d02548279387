"""Uploads of files as forms, written to the spool as they come: a file is never whole in memory.

Starlette's ``request.form()`` bounds fields and their number, but no file, and spools files to /tmp; so this
reads python-multipart, on which Starlette builds, itself.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from server.batches.archive import Archive
from server.errors import BadRequest, TooLarge

MOST_FIELDS = 8
MOST_OF_A_FIELD = 4096
"""Most bytes of a field."""
_AROUND = 2**16
"""Bytes of a form beside its file."""


@dataclass(frozen=True, slots=True)
class Uploaded:
    """Uploaded file. ``fields``: the form's other fields."""

    filename: str
    bytes: int
    fields: Mapping[str, str]


async def receive(request: Request, archive: Archive, id: str, owner: str, most: int) -> Uploaded:
    """Writes the form's ``file``, of at most ``most`` bytes, to the spool as ``id``.

    Raises BadRequest, TooLarge, SpoolFull, ClientDisconnect, and then nothing of it is left.
    """
    form = _Form(request.headers.get("content-type", ""))
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > most + _AROUND:
        raise _too_large(most)
    spool = archive.spool
    descriptor = await archive.do(lambda: spool.create(id, owner))
    size = seen = 0
    try:
        async for chunk in request.stream():
            data = form.feed(chunk)
            seen, size = seen + len(chunk), size + len(data)
            if size > most or seen - size > _AROUND:
                raise _too_large(most)
            if data:
                await archive.do(lambda data=data: spool.append(id, descriptor, data))  # type: ignore[misc]
        filename = form.filename()
        if not size:
            raise BadRequest("The file is empty; its lines are the requests of a batch.", "file")
        return Uploaded(filename, size, form.fields)
    except BaseException:
        await archive.surely(lambda: spool.remove(id))
        raise
    finally:
        await archive.surely(lambda: os.close(descriptor))


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"The file has more than the {most:,} bytes that are taken; split it.", "file")


class _Form:
    """Holds what the parser has found so far. ``fields`` are the values of all parts but the file."""

    def __init__(self, content_type: str) -> None:
        """Reads the content type. Raises BadRequest."""
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise BadRequest("Send a form: content-type multipart/form-data with 'purpose' and 'file'.")
        self.fields: dict[str, str] = {}
        self._filename: str | None = None
        self._ended = False
        self._data = bytearray()  # of the part that is being read
        self._new: list[bytes] = []  # of the file, since the last feed
        self._header, self._value, self._disposition = bytearray(), bytearray(), b""
        self._name: str | None = None  # of the part that is being read; None: it is the file
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begins,
                    "on_header_field": self._header_comes,
                    "on_header_value": self._value_comes,
                    "on_header_end": self._header_ends,
                    "on_headers_finished": self._part_is_known,
                    "on_part_data": self._data_comes,
                    "on_part_end": self._part_ends,
                    "on_end": self._form_ends,
                },
            )
        except FormParserError as error:
            raise BadRequest(f"The form cannot be read: {error}.") from error

    def feed(self, chunk: bytes) -> bytes:
        """Parses a chunk, and returns the file's bytes in it. Raises BadRequest."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise BadRequest(f"The form cannot be read: {error}.") from error
        data = b"".join(self._new)
        self._new.clear()
        return data

    def filename(self) -> str:
        """Returns the file's name, once all was fed. Raises BadRequest where the form is not whole or has no
        file."""
        if not self._ended:
            raise BadRequest("The form ends in the middle; send it again.")
        if self._filename is None:
            raise BadRequest("The form has no 'file'.", "file")
        return self._filename

    def _part_begins(self) -> None:
        self._data.clear()
        self._disposition = b""

    def _header_comes(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _value_comes(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _part_is_known(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        filename = options.get(b"filename")
        if name == "file":
            if self._filename is not None:
                raise BadRequest("The form has more than one 'file'; send one at a time.", "file")
            self._filename = (filename or b"file").decode("utf-8", "replace")[-255:]
            self._name = None
        elif filename is not None:
            raise BadRequest(f"{name[:100]!r} is a file; the file to upload is called 'file'.", "file")
        elif len(self.fields) >= MOST_FIELDS:
            raise BadRequest(f"The form has more than {MOST_FIELDS} fields.")
        else:
            self._name = name

    def _data_comes(self, data: bytes, start: int, end: int) -> None:
        if self._name is None:
            self._new.append(data[start:end])
            return
        self._data += data[start:end]
        if len(self._data) > MOST_OF_A_FIELD:
            raise BadRequest(f"{self._name[:100]!r} is too long.", self._name[:100])

    def _part_ends(self) -> None:
        if self._name is not None:
            self.fields[self._name] = self._data.decode("utf-8", "replace")

    def _form_ends(self) -> None:
        self._ended = True
