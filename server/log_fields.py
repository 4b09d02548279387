"""Adds to a line of the log what it knows beside its text: fields for programs that read logs."""

import logging
from collections.abc import Callable, Mapping

Fields = Callable[[], Mapping[str, object]]
"""Makes the fields of a line, when it is written as JSON and not before."""


def with_fields(fields: Fields) -> Mapping[str, object]:
    """Returns ``extra`` for a call of a logger."""
    return {"fields": fields}


def fields_of(record: logging.LogRecord) -> Mapping[str, object]:
    """Returns the fields that a line came with; none where it came with none."""
    fields: Fields | None = record.__dict__.get("fields")
    return {} if fields is None else fields()
