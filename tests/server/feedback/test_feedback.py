"""The feedback loop over a real socket and simulated engines: recorded, answered, exported, forgotten."""

import asyncio
import logging
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import SecretStr

from router.composition import Choice
from router.data.dataset import read_examples
from router.decision import Decision
from server.cli.main import main
from server.compose import running
from server.config.api_keys import KeyConfig
from server.config.feedback import DAY_S, FeedbackConfig
from server.config.settings import Settings, SettingsError, load
from server.errors import FeedbackUnavailable
from server.feedback.recorder import MOST_WAITING, Feedback, Recorded
from server.feedback.records import Kept
from server.feedback.store import FeedbackStore
from server.metrics.feedback import FeedbackMetrics
from server.reload.plan import check_reloadable
from server.routing.routing import Route
from server.storage.errors import DatabaseUnreadable
from server.storage.retention_clock import RetentionClock
from tests.server.conftest import Gateway, Serving, changed, until
from tests.server.metrics.test_metrics import scraped

Captured = pytest.CaptureFixture[str]
MATHS = "What is the integral of x^2? Answer to ada@example.org"
LAW = "May a landlord keep the deposit of a tenant who breaks the contract?"
MEDICINE = "What are the symptoms of type 2 diabetes in adults?"


def recorded(settings: Settings, folder: Path, **fields: Any) -> Settings:
    config = FeedbackConfig(consent=True, file=folder / "feedback.sqlite", **fields)
    return settings.model_copy(update={"feedback": config})


async def ask(gateway: Gateway, prompt: str, key: str = "", **fields: Any) -> str:
    """The request's id."""
    messages = [{"role": "system", "content": "no"}, {"role": "user", "content": prompt}]
    answer = await gateway.post(_bearer(key), **{"model": "coe", "messages": messages} | fields)
    assert answer.status_code == 200
    return answer.headers["x-request-id"]


async def say(gateway: Gateway, key: str = "", **body: Any) -> httpx.Response:
    return await gateway.http.post("/v1/coe/feedback", json=body, headers=_bearer(key))


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def kept(settings: Settings) -> list[Kept]:
    assert settings.feedback is not None
    store = FeedbackStore.open(settings.feedback.file, create=False)
    try:
        return list(store.kept())
    finally:
        store.close()


async def test_traffic_and_what_clients_say_of_it_become_training_data(
    serving: Serving, settings: Settings, tmp_path: Path, capsys: Captured
) -> None:
    tree = yaml.safe_load((tmp_path / "config.yaml").read_text())
    tree["feedback"] = {"consent": True, "redact": ["deposit"]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    settings = load(tmp_path / "config.yaml")
    async with serving(settings) as gateway:
        good, wrong, bad = [await ask(gateway, prompt) for prompt in (MATHS, LAW, MEDICINE)]
        await ask(gateway, "What is the capital of France?")
        assert (await say(gateway, id=good, thumbs="up")).json() == {
            "id": good,
            "score": 1.0,
            "category": None,
        }
        assert (await say(gateway, id=wrong, score=0.25)).status_code == 200
        assert (await say(gateway, id=wrong, score=0.75, category="economics")).status_code == 200
        assert (await say(gateway, id=bad, thumbs="down")).status_code == 200
        seen = await scraped(gateway)
    assert seen("coe_feedback_kept_total", kind="decision") == 4
    assert seen("coe_feedback_kept_total", kind="feedback") == 4
    assert seen("coe_feedback_recording") == 1
    out = tmp_path / "data.jsonl"
    assert coe("export", "--out", out, "--config", tmp_path / "config.yaml") == 0
    said = f"{out}: 4 prompts, 2 with a category, 3 with a score; 0 decisions have no text\n"
    assert capsys.readouterr().out == said
    examples = [(each.prompt, each.category, dict(each.scores)) for each in read_examples(out)]
    assert examples[:3] == [
        ("What is the integral of x^2? Answer to <email>", "math", {"math": 1.0}),
        (LAW.replace("deposit", "<redacted>"), "economics", {"law": 0.75}),
        (MEDICINE, None, {"medicine": 0.0}),
    ]
    assert examples[3][1:] == (None, {})
    assert {row.outcome for row in kept(settings)} == {"200"}
    before = out.read_bytes()
    assert coe("export", "--out", out, "--config", tmp_path / "config.yaml") == 0
    assert out.read_bytes() == before


async def test_without_a_feedback_section_nothing_is_kept(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        request_id = await ask(gateway, MATHS)
        answer = await say(gateway, id=request_id, thumbs="up")
        assert (await scraped(gateway))("coe_feedback_recording") == 0
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "feedback_off"


async def test_a_key_says_nothing_of_another_keys_request(
    serving: Serving, settings: Settings, tmp_path: Path
) -> None:
    keys = (SecretStr("first"), SecretStr("second"))
    settings = recorded(changed(settings, api_keys=keys), tmp_path)
    async with serving(settings) as gateway:
        request_id = await ask(gateway, MATHS, "first")
        answers = [await say(gateway, key, id=request_id, thumbs="up") for key in ("", "wrong", "second")]
        assert [answer.status_code for answer in answers] == [401, 401, 404]
        assert answers[-1].json()["error"]["code"] == "request_not_found"
        assert (await say(gateway, "first", id=request_id, score=1)).status_code == 200
    assert [row.score for row in kept(settings)] == [1.0]


async def test_what_one_keys_clients_left_is_forgotten_also_once_the_key_is_gone(
    serving: Serving, settings: Settings, tmp_path: Path, capsys: Captured
) -> None:
    def keyed(*keys: tuple[str, str]) -> Settings:
        given = [KeyConfig(key=SecretStr(secret), name=name) for name, secret in keys]
        return recorded(changed(settings, api_keys=tuple(given)), tmp_path)

    async with serving(keyed(("ada", "first"), ("bob", "second"))) as gateway:
        request_id = await ask(gateway, MATHS, "first")
        await ask(gateway, LAW, "second")
    async with serving(keyed(("ada", "rotated"), ("bob", "second"))) as gateway:
        await ask(gateway, MEDICINE, "rotated")
        assert (await say(gateway, "rotated", id=request_id, score=1)).status_code == 200
    file = tmp_path / "feedback.sqlite"
    assert coe("forget", "--key", "ada", "--file", file) == 0
    assert capsys.readouterr().out == f"{file}: 2 forgotten\n"
    assert [row.prompt for row in kept(recorded(settings, tmp_path))] == [LAW]


async def test_requests_that_name_an_expert_are_not_kept(
    serving: Serving, settings: Settings, tmp_path: Path
) -> None:
    settings = recorded(settings, tmp_path)
    async with serving(settings) as gateway:
        request_id = await ask(gateway, MATHS, model="law")
        assert (await say(gateway, id=request_id, thumbs="up")).status_code == 404
    assert kept(settings) == []


@pytest.mark.parametrize(
    ("body", "says", "param"),
    [
        (
            {"id": "x"},
            "The body: give a score from 0 to 1, or thumbs up or down, or the right category.",
            None,
        ),
        ({"id": "x", "score": 1, "thumbs": "up"}, "The body: give score or thumbs, not both.", None),
        ({"id": "x", "score": 2}, "score: Input should be less than or equal to 1.", "score"),
        ({"id": "x", "score": True}, "score: Input should be a valid number.", "score"),
        ({"id": "x", "thumbs": "sideways"}, "thumbs: Input should be 'up' or 'down'.", "thumbs"),
        ({"id": "x", "score": 1, "comment": "hm"}, "comment: Extra inputs are not permitted.", "comment"),
        ({"score": 1}, "id: Field required.", "id"),
        ({"id": "x", "category": "cooking"}, "'category' must be one of ", "category"),
    ],
)
async def test_wrong_feedback_is_refused_by_its_field(
    serving: Serving, settings: Settings, tmp_path: Path, body: dict[str, Any], says: str, param: str | None
) -> None:
    async with serving(recorded(settings, tmp_path)) as gateway:
        answer = await say(gateway, **body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["message"].startswith(says)
    assert error["param"] == param


async def test_an_openai_client_knows_the_id_also_while_an_answer_streams(
    serving: Serving, settings: Settings, tmp_path: Path
) -> None:
    settings = recorded(settings, tmp_path)
    async with serving(settings) as gateway:
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as client:
            answer = await client.chat.completions.create(
                model="coe", messages=[{"role": "user", "content": MATHS}]
            )
            assert (await say(gateway, "any", id=answer._request_id, thumbs="up")).status_code == 200
            stream = await client.chat.completions.create(
                model="coe", messages=[{"role": "user", "content": LAW}], stream=True, max_tokens=50_000
            )
            request_id = stream.response.headers["x-request-id"]
            assert (await say(gateway, "any", id=request_id, thumbs="down")).status_code == 200
            await stream.close()
        await until(lambda: gateway.engine.running == 0)
    assert [(row.score, row.outcome) for row in kept(settings)] == [(1.0, "200"), (0.0, "client_left")]


async def test_prompts_may_be_kept_as_hashes(
    serving: Serving, settings: Settings, tmp_path: Path, capsys: Captured
) -> None:
    settings = recorded(settings, tmp_path, prompts="hash")
    async with serving(settings) as gateway:
        await ask(gateway, MATHS)
        await ask(gateway, MATHS)
    file, out = tmp_path / "feedback.sqlite", tmp_path / "data.jsonl"
    assert b"integral" not in file.read_bytes()
    assert coe("export", "--out", out, "--file", file) == 1
    assert (
        capsys.readouterr().err
        == f"coe: nothing to export: no prompt is in {file}, 2 decisions without a text\n"
    )
    assert not out.exists()
    assert coe("stats", "--file", file) == 0
    assert "1 different prompts; the text of 0 is kept" in capsys.readouterr().out


async def test_a_file_that_breaks_ends_recording_and_nothing_else(
    serving: Serving, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = recorded(settings, tmp_path)
    async with serving(settings) as gateway:
        request_id = await ask(gateway, MATHS)
        assert (await say(gateway, id=request_id, thumbs="up")).status_code == 200
        sqlite3.connect(tmp_path / "feedback.sqlite").execute("DROP TABLE decisions").connection.close()
        with caplog.at_level(logging.ERROR, "coe.feedback"):
            again = await ask(gateway, LAW)
            answers = [await say(gateway, id=each, thumbs="up") for each in (request_id, again)]
        assert [answer.status_code for answer in answers] == [503, 503]
        assert answers[0].json()["error"]["code"] == "feedback_unavailable"
        seen = await scraped(gateway)
    assert len(caplog.records) == 1
    assert caplog.messages[0].startswith("feedback ends here, nothing more is recorded: ")
    assert seen("coe_feedback_recording") == 0
    assert seen("coe_feedback_dropped_total", reason="ended") >= 3


async def test_a_full_disk_ends_recording_and_nothing_else(
    serving: Serving, settings: Settings, small_memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = recorded(settings, small_memory)
    async with serving(settings) as gateway:
        (small_memory / "ballast").write_bytes(bytes(15 * 2**20))
        feedback = gateway.services.feedback
        assert feedback is not None
        for number in range(300):
            feedback.decided(f"{number}", "nobody", "coe", route("word " * 1500))
            await asyncio.sleep(0)
        assert (await say(gateway, id="299", thumbs="up")).status_code == 503
        assert await ask(gateway, MATHS)
    assert "disk is full" in caplog.text
    assert caplog.text.count("feedback ends here") == 1
    (small_memory / "ballast").unlink()
    assert 0 <= len(kept(settings)) < 300


async def test_a_file_of_another_program_is_refused_before_anything_is_started(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "feedback.sqlite").write_text("no database, but some text" * 100)
    with pytest.raises(DatabaseUnreadable, match="is damaged or no SQLite file"):
        async with running(recorded(settings, tmp_path)):
            raise AssertionError("it runs")


def route(prompt: str = "hello") -> Route:
    decision = Decision("law", "law", 0.9, {"law": 1.0}, False, "law", {}, 0.001)
    return Route("law", {}, "coe", Choice(decision, "map", decision, prompt))


class Clock:
    """While it is stopped, the thread that writes waits at it."""

    def __init__(self) -> None:
        self.now, self.ahead_s = 10 * DAY_S, 0.0
        self.told = RetentionClock(lambda: self() + self.ahead_s, lambda: self.now)
        self.goes, self.waits = threading.Event(), threading.Event()
        self.goes.set()

    def __call__(self) -> float:
        if threading.current_thread() is not threading.main_thread() and not self.goes.is_set():
            self.waits.set()
            assert self.goes.wait(30)
        return self.now


class Loop:
    """The feedback loop without a gateway."""

    def __init__(self, file: Path, draw: Callable[[], float] = lambda: 0.0, **fields: Any) -> None:
        self.registry, self.clock, self.file = CollectorRegistry(), Clock(), file
        config = FeedbackConfig(consent=True, file=file, **fields)
        metrics = FeedbackMetrics(self.registry)
        store = FeedbackStore.open(file, create=True)
        self.feedback = Feedback(config, store, metrics, clock=self.clock.told, draw=draw)

    def decided(self, request_id: str) -> Recorded | None:
        return self.feedback.decided(request_id, "nobody", "coe", route())

    def times(self) -> list[float]:
        store = FeedbackStore.open(self.file, create=False)
        try:
            return [row.at for row in store.kept()]
        finally:
            store.close()


@pytest.fixture
def loop_of(tmp_path: Path) -> Iterator[Callable[..., Loop]]:
    made: list[Loop] = []

    def make(**options: Any) -> Loop:
        made.append(Loop(tmp_path / "feedback.sqlite", **options))
        return made[-1]

    yield make
    for loop in made:
        loop.clock.goes.set()
        loop.feedback.close()


async def stopped(loop: Loop) -> None:
    """A decision of ``first`` is kept, the queue is empty, and the writer waits."""
    loop.clock.goes.clear()
    loop.decided("first")
    await until(loop.clock.waits.is_set)


async def test_what_does_not_fit_into_the_queue_is_dropped_and_counted(loop_of: Callable[..., Loop]) -> None:
    loop = loop_of()
    await stopped(loop)
    assert None not in [loop.decided(f"{number}") for number in range(MOST_WAITING)]
    assert loop.decided("one more") is None
    with pytest.raises(FeedbackUnavailable):
        await loop.feedback.said("first", "nobody", 0.0, None)
    assert 'coe_feedback_dropped_total{reason="queue_full"} 2.0' in generate_latest(loop.registry).decode()
    loop.clock.goes.set()
    await until(lambda: len(loop.times()) == 1 + MOST_WAITING)
    assert await loop.feedback.said("first", "nobody", 0.0, None)
    assert not await loop.feedback.said("one more", "nobody", 0.0, None)


async def test_a_client_that_leaves_before_it_is_heard_harms_nothing(loop_of: Callable[..., Loop]) -> None:
    loop = loop_of()
    await stopped(loop)
    leaving = asyncio.create_task(loop.feedback.said("first", "nobody", 0.0, None))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait({leaving})
    loop.clock.goes.set()
    assert await loop.feedback.said("first", "nobody", 0.5, None)


async def test_what_is_older_than_keep_days_is_deleted_while_it_serves(loop_of: Callable[..., Loop]) -> None:
    loop = loop_of(keep_days=2)
    loop.decided("old")
    assert await loop.feedback.said("old", "nobody", 1.0, None)
    loop.clock.now += 2 * DAY_S + 1
    loop.decided("new")
    assert await loop.feedback.said("new", "nobody", 1.0, None)
    await until(lambda: loop.times() == [loop.clock.now])
    assert not await loop.feedback.said("old", "nobody", 1.0, None)


async def test_a_clock_that_jumps_ahead_deletes_nothing(loop_of: Callable[..., Loop]) -> None:
    loop = loop_of(keep_days=2)
    loop.decided("old")
    loop.clock.now += DAY_S
    loop.decided("new")
    for jump_s in (1000 * DAY_S, 0.0):
        loop.clock.ahead_s = jump_s
        assert await loop.feedback.said("new", "nobody", 1.0, None)
    assert await loop.feedback.said("old", "nobody", 1.0, None)  # and so it was trimmed twice since
    assert loop.times() == [10 * DAY_S, 11 * DAY_S]


async def test_a_sample_is_kept(loop_of: Callable[..., Loop]) -> None:
    draws = iter([0.1, 0.5, 0.9, 0.49])
    loop = loop_of(draw=lambda: next(draws), sample=0.5)
    assert [loop.decided(f"{number}") is not None for number in range(4)] == [True, False, False, True]
    assert not await loop.feedback.said("1", "nobody", 1.0, None)
    assert await loop.feedback.said("3", "nobody", 1.0, None)


def test_a_reload_does_not_change_what_is_kept(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^feedback cannot change while serving: restart"):
        check_reloadable(settings, recorded(settings, tmp_path))


def coe(*arguments: str | Path) -> int:
    return main(["feedback", *map(str, arguments)])


@pytest.fixture
def file(loop_of: Callable[..., Loop]) -> Path:
    """Three decisions, of which one is years old."""
    loop = loop_of(keep_days=100_000)
    loop.decided("old")
    loop.clock.now = 20_000 * DAY_S
    loop.decided("b")
    recorded = loop.decided("a")
    assert recorded is not None
    recorded.ended("200")
    asyncio.run(loop.feedback.said("a", "nobody", 0.5, "math"))
    return loop.file


def test_what_is_kept_is_counted(file: Path, capsys: Captured) -> None:
    assert coe("stats", "--file", file) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{file}: 3 decisions, ")
    assert "1 different prompts; the text of 3 is kept\noutcomes: 200 1, not ended 2\n" in said
    assert re.findall(r"[\w.]+", said.splitlines()[-2]) == ["law", "law", "3", "0", "1", "0.50", "1"]


def test_what_is_kept_is_forgotten(file: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "data.jsonl.gz"
    assert coe("export", "--out", out, "--file", file, "--since", "1000000") == 0
    assert len(read_examples(out)) == 3
    assert coe("forget", "--file", file, "--id", "a") == 0
    assert coe("forget", "--file", file, "--before", "2000-01-31") == 0
    assert coe("forget", "--file", file, "--all") == 0
    assert capsys.readouterr().out.splitlines()[1:] == [f"{file}: 1 forgotten"] * 3
    assert coe("stats", "--file", file) == 0
    assert capsys.readouterr().out.startswith(f"{file}: 0 decisions")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["stats"], "config.yaml has no feedback; name the file with --file"),
        (["stats", "--file", "absent"], "absent does not exist: nothing has been kept there"),
        (["forget", "--id", "x", "--file", "feedback.sqlite"], "no request 'x' is in feedback.sqlite"),
        (
            ["forget", "--key", "x", "--file", "feedback.sqlite"],
            "nothing of API key 'x' is in feedback.sqlite",
        ),
        (
            ["forget", "--before", "soon", "--file", "feedback.sqlite"],
            "--before soon: not a date such as 2026-01-31",
        ),
        (
            ["export", "--out", "o", "--since", "1", "--file", "feedback.sqlite"],
            "nothing to export: no prompt is in",
        ),
    ],
)
def test_bad_input_is_one_line(
    file: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(file.parent)
    monkeypatch.setenv("COE_CONFIG", "config.yaml")
    assert coe(*arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"coe: {says}")
    assert error.count("\n") == 1
