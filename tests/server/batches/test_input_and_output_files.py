"""Lines of input and of answers, without a gateway."""

import io
import os
from pathlib import Path

import orjson

from server.batches.file_store import Spool
from server.batches.input_file import MOST_ERRORS, body_at, check
from server.batches.output_file import AnsweredRequest, AnswerFile, unanswered
from server.batches.records import Tokens
from server.config.limits import LimitsConfig
from tests.server.batches.batch_client import CHAT, jsonl, request


def test_each_line_is_found_again_whatever_is_between_them(tmp_path: Path) -> None:
    one, two, three = (orjson.dumps(request(name, name)) for name in ("one", "två", "three"))
    file = tmp_path / "in.jsonl"
    file.write_bytes(b"\n" + one + b"\r\n  \n" + two + b"\n\n" + three)
    with file.open("rb") as opened:
        checked = check(opened, CHAT, most=3, longest=10_000, limits=LimitsConfig())
    assert checked.errors == []
    assert checked.model is None
    assert [line.custom_id for line in checked.lines] == ["one", "två", "three"]
    assert [orjson.loads(body_at(file, line))["model"] for line in checked.lines] == ["one", "två", "three"]


def test_a_line_that_is_too_long_does_not_hide_the_next() -> None:
    file = io.BytesIO(jsonl([request("a", user="x" * 5000), request("b", url="/other"), request("c")]))
    checked = check(file, CHAT, most=3, longest=400, limits=LimitsConfig())
    assert [(error.code, error.line) for error in checked.errors] == [
        ("line_too_long", 1),
        ("url_mismatch", 2),
    ]
    assert [line.custom_id for line in checked.lines] == ["c"]


def test_no_more_errors_are_told_than_anybody_reads() -> None:
    checked = check(io.BytesIO(b"nonsense\n" * 1000), CHAT, most=10, longest=400, limits=LimitsConfig())
    assert len(checked.errors) == MOST_ERRORS


def left(spool: Spool, contents: bytes) -> None:
    """Answers written by a process before it was killed."""
    descriptor = spool.create("answers", "me")
    spool.append("answers", descriptor, contents)
    os.close(descriptor)


def test_of_a_file_that_was_cut_anywhere_the_whole_lines_are_recovered(tmp_path: Path) -> None:
    body = b'{"usage":{"prompt_tokens":2,"completion_tokens":3}}'
    lines = [
        AnsweredRequest(200, "r", body, Tokens()).line("one"),
        unanswered("two", "batch_expired", "too late"),
    ]
    spool = Spool(tmp_path, 2**20)
    for cut in range(sum(map(len, lines)) + 1):
        spool.remove("answers")
        left(spool, b"".join(lines)[:cut])
        file = AnswerFile(spool, "answers", "me")
        recovered = file.recovered()
        whole = [line for end, line in ((len(lines[0]), 1), (sum(map(len, lines)), 2)) if cut >= end]
        assert [line.custom_id for line in recovered] == ["one", "two"][: len(whole)]
        assert file.size == spool.used_bytes == sum(map(len, lines[: len(whole)]))
        file.append(lines[0])
        assert [line.custom_id for line in file.recovered()][-1] == "one"
        file.close()
    assert recovered[0].tokens == Tokens(input=2, output=3)
    spool.close()


def test_an_answer_is_written_as_it_came_on_one_line() -> None:
    line = AnsweredRequest(200, "r", b'{"data": [1.50],\r\n "usage":null}', Tokens()).line('"one"')
    assert b'"body":{"data": [1.50],   "usage":null}},"error":null}\n' in line
    assert line.count(b"\n") == 1
    read = orjson.loads(line)
    assert read["custom_id"] == '"one"'
    assert read["response"] == {
        "status_code": 200,
        "request_id": "r",
        "body": {"data": [1.5], "usage": None},
    }


def test_what_was_written_is_told_from_what_a_power_cut_left(tmp_path: Path) -> None:
    """A response repeats the tools of its request, one of which may speak of usage too."""
    body = orjson.dumps(
        {
            "output": [{"arguments": '{"usage":{"input_tokens":8}}'}],
            "usage": {"input_tokens": 2, "output_tokens": 3},
            "tools": [{"parameters": {"properties": {"usage": {"input_tokens": 9}}}}],
        }
    )
    line = AnsweredRequest(200, "r", body, Tokens()).line("ünd " * 128)
    spool = Spool(tmp_path, 2**20)
    unwritten = line[:300] + bytes(len(line) - 302) + b"}\n"
    left(spool, line + unwritten + line)
    file = AnswerFile(spool, "answers", "me")
    (recovered,) = file.recovered()
    assert (recovered.custom_id, recovered.tokens) == ("ünd " * 128, Tokens(input=2, output=3))
    assert file.size == len(line)
    file.close()
    spool.close()


def test_tokens_are_read_from_the_usage_of_any_endpoint() -> None:
    usage = {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 2},
    }
    assert Tokens.of(usage) == Tokens(5, 4, 3, 2)
    assert Tokens.of(None) == Tokens()
