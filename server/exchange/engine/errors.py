"""Refusals of engines in OpenAI's words."""

import contextlib
import re

import orjson

from server.error_table import BY_ITSELF, Failure

_LISTED = re.compile(r"^ *\{.*?'loc': '(?P<loc>[^']*)', 'msg': (?P<quote>['\"])(?P<msg>.*?)(?P=quote)(, '|})")
_REPEATED = re.compile(r" \(parameter=\w+(, value=[^()]*)?\)$")
_SUBJECT = re.compile(r"(?P<field>[a-z][a-z_]*) (must be|cannot) ")
_ENGINE_TYPES = {400: "invalid_request_error", 404: "invalid_request_error", 422: "invalid_request_error"}


def engine_failure(status: int, body: bytes) -> Failure:
    """Returns vLLM's error in OpenAI's words (vLLM's ``type`` is a Python class, its ``code`` the status).
    The text of a failure of vLLM itself, which may say anything, stays in the log."""
    message, param = f"The expert's engine answered {status}. {BY_ITSELF}", None
    if status < 500:
        with contextlib.suppress(orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
            tree = orjson.loads(body)
            error = tree.get("error", tree)
            message, param = str(error["message"]), error.get("param")
    code = "context_length_exceeded" if "context length" in message else None
    kind = _ENGINE_TYPES.get(status, "server_error")
    return Failure(status, _plainly(message), kind, _field(param, message), code)


def _field(param: object, message: str) -> str | None:
    """Returns vLLM's ``param`` as a field of the request; where there is none, the field that ``message``
    begins with."""
    if param in ("input_tokens", "input_text"):
        return None  # how long a prompt is
    if not isinstance(param, str):
        found = _SUBJECT.match(message)
        return found["field"] if found else None
    return param.removeprefix("body.")


def _plainly(message: str) -> str:
    """Shortens vLLM's message, which lists pydantic's problems as Python dicts and repeats the parameter."""
    message = _REPEATED.sub("", message)
    first, _, listed = message.partition(":\n")
    if not first.endswith(("validation error", "validation errors")):
        return message
    found = [_LISTED.match(line) for line in listed.splitlines()]
    said = [f"{each['loc'].removeprefix('body.')}: {each['msg']}" for each in found if each is not None]
    more = [f"and {len(said) - 3} more"] if len(said) > 3 else []  # one for each type that a field may have
    return "; ".join(said[:3] + more) or message
