"""Every error class that can reach a client has a row in the one table."""

from collections.abc import Iterator
from typing import get_args

import orjson
import pytest

from experts.errors import CheckpointError, ExpertsError
from memory_tiers.errors import LeaseRejected, RejectionReason, TiersError
from router.errors import RouterError
from server.error_table import INTERNAL, REJECTIONS, error_body, failure_of, rendering_of
from server.errors import GatewayError
from server.exchange.engine.errors import engine_failure


def tree(root: type[Exception]) -> Iterator[type[Exception]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize("root", [GatewayError, ExpertsError, TiersError, RouterError])
def test_every_class_of_a_tree_has_a_row(root: type[Exception]) -> None:
    unmapped = [
        kind.__name__
        for kind in tree(root)
        if kind not in (GatewayError, LeaseRejected)
        and not issubclass(kind, CheckpointError)
        and rendering_of(kind.__new__(kind)) is INTERNAL
    ]
    assert unmapped == []


def test_every_reason_to_reject_a_ticket_has_a_row() -> None:
    assert set(REJECTIONS) == set(get_args(RejectionReason))


def test_an_unmapped_error_does_not_show_its_text() -> None:
    tree = orjson.loads(error_body(failure_of(RuntimeError("secret path /etc/x"))))
    assert tree["error"]["type"] == "server_error"
    assert "secret" not in tree["error"]["message"]


def test_the_engines_own_error_is_said_in_openais_words() -> None:
    theirs = {
        "error": {
            "message": "maximum context length is 8",
            "type": "BadRequestError",
            "param": "input_tokens",
            "code": 400,
        }
    }
    ours = orjson.loads(error_body(engine_failure(400, orjson.dumps(theirs))))["error"]
    assert ours == {
        "message": "maximum context length is 8",
        "type": "invalid_request_error",
        "param": None,
        "code": "context_length_exceeded",
    }


@pytest.mark.parametrize(
    ("theirs", "message", "param"),
    [
        (
            "1 validation error:\n  {'type': 'float_parsing', 'loc': 'body.temperature', 'msg': 'Input "
            "should be a valid number, unable to parse string as a number', 'input': 'warm'}",
            "temperature: Input should be a valid number, unable to parse string as a number",
            "body.temperature",
        ),
        (
            "2 validation errors:\n  {'type': 'missing', 'loc': 'body.tools.0.function', 'msg': 'Field "
            "required', 'input': '<dict of 1 items>'}\n  {'type': 'x', 'loc': 'body.n', 'msg': \"It's odd\"}",
            "tools.0.function: Field required; n: It's odd",
            "body.tools.0.function",
        ),
        ("1 validation error:\n  {'type': 'x', 'loc'...[truncated]", None, "n"),
        (
            "temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)",
            "temperature must be non-negative, got -1.0.",
            "temperature",
        ),
        ("It may be (or not).", None, "temperature"),
        ("n must be at least 1, got 0.", None, None),
    ],
)
def test_what_the_engine_found_wrong_is_said_plainly(
    theirs: str, message: str | None, param: str | None
) -> None:
    body = orjson.dumps({"error": {"message": theirs, "type": "Bad Request", "param": param, "code": 400}})
    failure = engine_failure(400, body)
    assert failure.message == (message or theirs)
    assert failure.param == ("n" if param is None else param.removeprefix("body."))


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b'{"error": {}}', b'{"error": null}'])
def test_an_engine_error_of_any_shape_becomes_openais(body: bytes) -> None:
    assert engine_failure(500, body).type == "server_error"
