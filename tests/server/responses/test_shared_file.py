"""Several gateways on one file of responses, as when one is replaced by the next."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from server.config.responses import ResponsesConfig
from server.config.settings import Settings
from server.responses.kept.gateways import Gateways
from server.responses.kept.store import KeptResponse, ResponseStore
from tests.server.conftest import Serving, simulated, until
from tests.server.responses.test_responses import RUNNING, client_of, limited


@pytest.fixture
def config(tmp_path: Path) -> ResponsesConfig:
    return ResponsesConfig(file=tmp_path / "responses.sqlite")


def response(id: str, status: str) -> KeptResponse:
    said = {"id": id, "status": status, "background": True, "output": [], "error": None}
    return KeptResponse(id, "me", None, [], said)


def status(store: ResponseStore, id: str) -> str | None:
    found = store.find("me", id)
    return None if found is None else found.response["status"]


@contextmanager
def two(config: ResponsesConfig) -> Iterator[tuple[ResponseStore, ResponseStore]]:
    """The first makes response ``r`` when the second opens the file."""
    first = ResponseStore.open(config)
    first.keep(response("r", "in_progress"))
    with closing(ResponseStore.open(config)) as second:
        yield first, second


def test_a_second_gateway_leaves_the_firsts_running_responses_alone(config: ResponsesConfig) -> None:
    with two(config) as (first, second), closing(first):
        assert status(second, "r") == "in_progress"
        first.keep(response("r", "completed"))
        assert status(second, "r") == status(first, "r") == "completed"


def test_what_a_gateway_left_running_when_it_ended_has_failed(config: ResponsesConfig) -> None:
    with two(config) as (first, second):
        first.close()
        assert status(second, "r") == "failed"
        assert second.conversation("me", "r", 10_000)[0].response["error"]["code"] == "server_error"


_RUNNING = """
import sys, time
from pathlib import Path
from server.config.responses import ResponsesConfig
from server.responses.kept.store import ResponseStore
from tests.server.responses.test_shared_file import response

store = ResponseStore.open(ResponsesConfig(file=Path(sys.argv[1])))
store.keep(response("r", "in_progress"))
print("kept", flush=True)
time.sleep(600)
"""


def test_what_a_killed_gateway_left_running_has_failed(config: ResponsesConfig) -> None:
    arguments = [sys.executable, "-c", _RUNNING, str(config.file)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "kept\n"
        with closing(ResponseStore.open(config)) as before:
            found = status(before, "r")
            process.kill()
            process.wait()
            assert (found, status(before, "r")) == ("in_progress", "failed")


@pytest.mark.parametrize("left", ["cancelled", None])
def test_what_was_cancelled_or_deleted_by_another_gateway_stays_so(
    config: ResponsesConfig, left: str | None
) -> None:
    with two(config) as (first, second), closing(first):
        if left is None:
            assert second.delete("me", "r")
        else:
            second.keep(response("r", left))
        first.keep(response("r", "completed"))
        assert status(first, "r") == status(second, "r") == left


def test_a_gateways_file_goes_with_it_and_that_of_a_killed_one_when_it_is_looked_at(tmp_path: Path) -> None:
    one, other = Gateways(tmp_path), Gateways(tmp_path)
    (tmp_path / "killed").touch()
    assert one.runs(one.own)
    assert one.runs(other.own)
    assert other.runs(one.own)
    one.remove_ended()
    assert {file.name for file in tmp_path.iterdir()} == {one.own, other.own}
    other.close()
    assert not one.runs(other.own)
    one.close()
    assert [*tmp_path.iterdir()] == []


async def test_a_response_goes_on_while_another_gateway_starts_on_its_file(
    settings: Settings, serving: Serving, tmp_path: Path
) -> None:
    shared = limited(simulated(settings, tokens_per_s=0.1), file=tmp_path / "responses.sqlite")
    async with serving(shared) as first, client_of(first) as client:
        made = await client.responses.create(model="law", input="hello", background=True)
        await until(lambda: first.engine.running == 1)
        async with serving(shared) as second, client_of(second) as asked:
            assert (await asked.responses.retrieve(made.id)).status in RUNNING
            assert (await client.responses.cancel(made.id)).status == "cancelled"
            assert (await asked.responses.retrieve(made.id)).status == "cancelled"
