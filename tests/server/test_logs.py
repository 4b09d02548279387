"""Lines of the log are written together, and none is lost."""

import asyncio
import io
import json
import logging
import subprocess
import sys
import threading

import pytest

from server.config.settings import Settings
from server.log_fields import with_fields
from server.logs import JsonFormatter, LineFormatter, TurnHandler
from tests.server.conftest import Serving


class Written(io.StringIO):
    """Counts the writes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


def logger_to(stream: io.StringIO) -> logging.Logger:
    handler = TurnHandler(stream)
    handler.setFormatter(LineFormatter())
    logger = logging.Logger("test", logging.INFO)
    logger.addHandler(handler)
    return logger


async def test_what_one_turn_logs_is_one_write() -> None:
    log = logger_to(written := Written())
    for number in range(3):
        log.info("line %d", number)
    assert written.writes == 0
    await asyncio.sleep(0)
    assert [line.split()[-1] for line in written.getvalue().splitlines()] == ["0", "1", "2"]
    assert written.writes == 1


async def test_a_warning_is_written_when_it_comes_after_what_came_before() -> None:
    log = logger_to(written := Written())
    log.info("one")
    log.warning("two")
    assert [line.split()[-1] for line in written.getvalue().splitlines()] == ["one", "two"]


def test_without_a_loop_each_is_written_when_it_comes() -> None:
    log = logger_to(written := Written())
    log.info("one")
    assert written.getvalue().endswith("INFO test one\n")


async def test_a_thread_writes_what_waits_too() -> None:
    log = logger_to(written := Written())
    log.info("one")
    thread = threading.Thread(target=log.info, args=("two",))
    thread.start()
    thread.join()
    assert [line.split()[-1] for line in written.getvalue().splitlines()] == ["one", "two"]


def test_what_a_loop_left_is_written_in_the_next() -> None:
    log = logger_to(written := Written())

    async def says(text: str, turns: int) -> None:
        log.info(text)
        for _ in range(turns):
            await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.call_soon(loop.stop)
    loop.call_soon(log.info, "late")  # the loop has no turn after this one
    asyncio.set_event_loop(None)
    loop.run_forever()
    loop.close()
    asyncio.run(says("next", 1))
    assert {line.split()[-1] for line in written.getvalue().splitlines()} == {"late", "next"}


def test_the_last_line_of_a_process_is_written() -> None:
    code = (
        "import asyncio, logging, server.logs\n"
        "server.logs.configure(False)\n"
        "async def main(): logging.getLogger('coe').info('the last')\n"
        "asyncio.run(main())"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr.endswith("INFO coe the last\n")


def test_a_line_has_the_time_of_its_second() -> None:
    formatter = LineFormatter()
    record = logging.makeLogRecord({"created": 1_000_000.2})
    first = formatter.format(record)
    record.created = 1_000_001.1
    assert formatter.format(record) != first


async def test_json_has_a_requests_story_and_an_operators_order(
    serving: Serving, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "coe")
    async with serving(settings) as gateway:
        answer = await gateway.post(model="law", stream=True)
        await gateway.http.post("/v1/coe/experts/math/demote", json={"tier": "disk"})
        await gateway.http.post("/v1/coe/experts/nobody/load")
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    (request,) = [line for line in lines if line["logger"] == "coe.requests"]
    assert request["request_id"] == answer.headers["x-request-id"]
    assert request["level"] == "info"
    assert (request["model"], request["expert"], request["outcome"]) == ("law", "law", "200")
    assert request["key"] == "anonymous"
    assert request["phases"].keys() >= {"admit", "route", "wait", "load", "queue", "prefill", "decode"}
    assert sum(request["phases"].values()) == pytest.approx(request["seconds"], abs=1e-3)
    (order,) = [line for line in lines if line["logger"] == "coe.orders"]
    assert (order["order"], order["expert"], order["tier"]) == ("demote", "math", "disk")
    assert (order["by"], order["peer"]) == ("this_machine", "127.0.0.1")
    moves = [line for line in lines if line["message"].startswith("move")]
    assert {move["expert"] for move in moves} >= {"law"}


def test_json_is_one_line_whatever_is_said_and_has_the_error() -> None:
    log = logging.Logger("coe.test")
    log.addHandler(handler := TurnHandler(written := io.StringIO()))
    handler.setFormatter(JsonFormatter())
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception(
            "it failed\n%s", "\u2028", extra=with_fields(lambda: {"request_id": "r1", "expert": ""})
        )
    (line,) = written.getvalue().split("\n")[:-1]
    said = json.loads(line)
    assert said.keys() == {"time", "level", "logger", "message", "request_id", "error"}
    assert said["time"].endswith("Z")
    assert said["error"].endswith("ValueError: two\nlines")
