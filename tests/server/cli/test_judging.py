"""``coe router judge`` over real sockets: experts and judge are scripted, or a gateway has the experts."""

import asyncio
import gzip
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from server.cli.main import main
from server.config.settings import Settings
from tests.router.embedders.scripted_endpoint import (
    Call,
    Scripted,
    completion,
    failure,
    prompt_of,
    scripted,
)
from tests.server.conftest import ROOT, Serving

Captured = pytest.CaptureFixture[str]
QUALITY = {"small": 1, "large": 3, "middle": 2}
INTERRUPTIBLE = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from server.cli.main import main; sys.exit(main(sys.argv[1:]))"
)
"""A shell gives its background jobs an ignored SIGINT, which they would hand on."""


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COE_ANSWERS_KEY", "COE_JUDGE_KEY"):
        monkeypatch.delenv(name, raising=False)


def expert(call: Call) -> Scripted:
    """As many plus signs as it is good."""
    return completion(f"{call.body['model']} " + "+" * QUALITY[call.body["model"]])


def answer_in(call: Call, place: str) -> str:
    """What the judge is shown there."""
    return prompt_of(call).split(f"[Start of answer {place}]\n")[1].split("\n[End of answer")[0]


def fair(call: Call) -> Scripted:
    """More plus signs win."""
    a, b = (answer_in(call, place).count("+") for place in "AB")
    return completion("Plus signs decide.\n" + ("A" if a > b else "B" if b > a else "TIE"))


def judge(call: Call) -> Scripted:
    """One endpoint for all."""
    return fair(call) if call.body["model"] == "referee" else expert(call)


def lines(count: int = 3, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": f"q/{index}", "prompt": f"Question {index}?"} | fields for index in range(count)]


def written(folder: Path, data: list[dict[str, Any]]) -> Path:
    file = folder / "prompts.jsonl"
    file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in data), encoding="utf-8")
    return file


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def arguments(data: Path, endpoint: str, *more: str, experts: str = "small,large,middle") -> list[str]:
    return [
        *("router", "judge", "--data", str(data), "--experts", experts, "--answers-url", endpoint),
        *("--judge-url", endpoint, "--judge-model", "referee", "--out", str(data.with_name("judged.jsonl"))),
        *more,
    ]


def test_scores_are_filled_in_and_all_else_stays(tmp_path: Path, capsys: Captured) -> None:
    data = lines(2, source="hand", category="größe")
    data[0]["scores"] = {"stranger": 1, "small": 1}
    file = written(tmp_path, data)
    with scripted(judge) as endpoint:
        assert main(arguments(file, endpoint.url, "--yes")) == 0
    expected = {"small": 0.0, "large": 1.0, "middle": 0.5}
    out = read(tmp_path / "judged.jsonl")
    assert out == [data[0] | {"scores": {"stranger": 1} | expected}, data[1] | {"scores": expected}]
    assert "größe" in (tmp_path / "judged.jsonl").read_text(encoding="utf-8")
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "judged.jsonl",
        "judged.jsonl.replies",
        "prompts.jsonl",
    ]
    assert len(endpoint.calls) == 2 * 3 + 2 * 3 * 2
    shown = capsys.readouterr().out
    for words in (
        "2 prompts, 3 pairs of experts each",
        "verdicts of referee",
        "0.0% (0) of the judged",
        "1.000 to 1.000",
    ):
        assert words in shown


def test_a_reference_is_what_the_others_are_compared_with(tmp_path: Path) -> None:
    file = written(tmp_path, lines(1))
    with scripted(judge) as endpoint:
        assert main(arguments(file, endpoint.url, "--yes", "--reference", "middle")) == 0
    assert read(tmp_path / "judged.jsonl")[0]["scores"] == {"small": 0.0, "large": 1.0, "middle": 0.5}
    assert len(endpoint.calls) == 3 + 2 * 2


def test_a_judge_that_favours_a_place_gives_ties_and_is_shown(tmp_path: Path, capsys: Captured) -> None:
    def answer(call: Call) -> Scripted:
        return completion("A") if call.body["model"] == "referee" else expert(call)

    file = written(tmp_path, lines(1))
    with scripted(answer) as endpoint:
        assert main(arguments(file, endpoint.url, "--yes")) == 0
    assert set(read(tmp_path / "judged.jsonl")[0]["scores"].values()) == {0.5}
    shown = capsys.readouterr().out
    assert "100.0% (3) of the judged pairs changed their verdict" in shown
    assert "3 of them chose the first place twice" in shown


def test_what_holds_no_verdict_is_counted_and_has_no_score(tmp_path: Path, capsys: Captured) -> None:
    def answer(call: Call) -> Scripted:
        unclear = call.body["model"] == "referee" and "middle" not in prompt_of(call)
        return completion("Both are fine, or A.") if unclear else judge(call)

    file = written(tmp_path, lines(2))
    with scripted(answer) as endpoint:
        assert main(arguments(file, endpoint.url, "--yes")) == 0
    assert [line["scores"] for line in read(tmp_path / "judged.jsonl")] == [{"middle": 0.5}] * 2
    shown = capsys.readouterr().out
    assert "4 judged, 0 of equal answers, 2 not judged" in shown
    assert "4 replies without one" in shown


def test_a_judge_that_never_gives_a_verdict_is_not_paid_to_the_end(tmp_path: Path, capsys: Captured) -> None:
    def answer(call: Call) -> Scripted:
        return completion("Let me think") if call.body["model"] == "referee" else expert(call)

    file = written(tmp_path, lines(50))
    with scripted(answer) as endpoint:
        assert main(arguments(file, endpoint.url, "--yes", "--concurrency", "1")) == 1
    assert Counter(call.body["model"] for call in endpoint.calls)["referee"] == 10
    assert (
        "'Let me think'; use another model, or let it write more with --verdict-tokens"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "judged.jsonl").exists()


def test_a_prompt_that_an_expert_refuses_has_a_score_for_those_that_answered(
    tmp_path: Path, capsys: Captured
) -> None:
    def answer(call: Call) -> Scripted:
        if call.body["model"] == "small" and prompt_of(call) == "Question 1?":
            return failure(400, "maximum context length is 8")
        return judge(call)

    file = written(tmp_path, lines(2))
    with scripted(answer) as endpoint:
        assert main(arguments(file, endpoint.url, "--yes")) == 0
    first, second = read(tmp_path / "judged.jsonl")
    assert first["scores"] == {"small": 0.0, "large": 1.0, "middle": 0.5}
    assert second["scores"] == {"large": 1.0, "middle": 0.0}
    shown = capsys.readouterr().out
    assert "2 pairs without both answers" in shown
    assert "answered 400 for 'small': maximum context length is 8" in shown


def test_a_model_that_refuses_everything_ends_the_run(tmp_path: Path, capsys: Captured) -> None:
    file = written(tmp_path, lines(50))
    with scripted(lambda call: failure(400, "no such field")) as endpoint:
        assert main(arguments(file, endpoint.url, "--yes", "--concurrency", "1")) == 1
    assert len(endpoint.calls) == 10
    assert capsys.readouterr().err.rstrip().endswith("no such field; so it was for each of 10 prompts")


def test_equal_answers_are_a_tie_without_a_call(tmp_path: Path, capsys: Captured) -> None:
    file = written(tmp_path, lines(1))
    with scripted(lambda call: completion("42")) as endpoint:
        assert main(arguments(file, endpoint.url, "--yes")) == 0
    assert len(endpoint.calls) == 3
    assert read(tmp_path / "judged.jsonl")[0]["scores"] == {"small": 0.5, "large": 0.5, "middle": 0.5}
    assert "3 of equal answers" in capsys.readouterr().out


def test_some_prompts_of_each_category_and_then_more(tmp_path: Path) -> None:
    data = [line | {"category": ("odd", "even")[index % 2]} for index, line in enumerate(lines(12))]
    file = written(tmp_path, data)
    judged: list[set[str]] = []
    with scripted(judge) as endpoint:
        for count in ("2", "3"):
            assert main(arguments(file, endpoint.url, "--yes", "--per-category", count)) == 0
            out = read(tmp_path / "judged.jsonl")
            assert [line["id"] for line in out] == [line["id"] for line in data]
            judged.append({line["id"] for line in out if "scores" in line})
    assert [len(ids) for ids in judged] == [4, 6]
    assert judged[0] < judged[1]
    assert len(endpoint.calls) == 6 * (3 + 6)


def test_compressed_in_compressed_out(tmp_path: Path) -> None:
    file, out = tmp_path / "prompts.jsonl.gz", tmp_path / "judged.jsonl.gz"
    file.write_bytes(gzip.compress(json.dumps(lines(1)[0]).encode()))
    with scripted(judge) as endpoint:
        assert main([*arguments(file, endpoint.url, "--yes"), "--out", str(out)]) == 0
    assert json.loads(gzip.decompress(out.read_bytes()))["scores"]["large"] == 1.0


def test_a_run_that_an_endpoint_ends_goes_on_where_it_stopped(tmp_path: Path, capsys: Captured) -> None:
    file = written(tmp_path, lines(4))
    wanted = 4 * (3 + 6)

    expired = failure(401, "the key has expired")

    def until(limit: int) -> Callable[[Call], Scripted]:
        return lambda call: judge(call) if len(endpoint.calls) <= limit else expired

    with scripted(judge) as endpoint:
        for limit, variable in ((5, "COE_ANSWERS_KEY"), (20, "COE_JUDGE_KEY")):
            endpoint.answer = until(limit)
            assert main(arguments(file, endpoint.url, "--yes", "--concurrency", "1")) == 1
            assert not (tmp_path / "judged.jsonl").exists()
            kept, error = capsys.readouterr().err.splitlines()[-2:]
            assert kept.startswith(f"{limit} replies are kept in {tmp_path / 'judged.jsonl.replies'}")
            assert error.endswith(f"wants a key; set {variable} (the key has expired)")
            assert len(endpoint.calls) == limit + 1
            endpoint.calls.pop()  # the one that was turned away
        endpoint.answer = judge
        assert main(arguments(file, endpoint.url, "--yes")) == 0
        assert len(endpoint.calls) == wanted == len({json.dumps(call.body) for call in endpoint.calls})
        whole = (tmp_path / "judged.jsonl").read_bytes()
        assert main(arguments(file, endpoint.url)) == 0  # nothing is missing, so nobody is asked
    assert len(endpoint.calls) == wanted
    assert (tmp_path / "judged.jsonl").read_bytes() == whole


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_what_was_answered_outlives_ctrl_c_and_kill(tmp_path: Path, ending: signal.Signals) -> None:
    file = written(tmp_path, lines(3))
    tenth, go_on = threading.Event(), threading.Event()

    def answer(call: Call) -> Scripted:
        if len(endpoint.calls) == 10:
            tenth.set()
            go_on.wait(60)
        return judge(call)

    with scripted(answer) as endpoint:
        options = arguments(file, endpoint.url, "--yes", "--concurrency", "1")
        command = [sys.executable, "-c", INTERRUPTIBLE, *options]
        running = subprocess.Popen(command, cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True)
        assert tenth.wait(60)
        running.send_signal(ending)
        _, told = running.communicate(timeout=60)
        go_on.set()
        if ending == signal.SIGINT:
            kept, interrupted = told.splitlines()[-2:]
            assert kept.startswith("9 replies are kept in ")
            assert (interrupted, running.returncode) == ("coe: interrupted", 130)
        assert not (tmp_path / "judged.jsonl").exists()
        endpoint.calls.pop()
        endpoint.answer = judge
        assert main(options) == 0
    assert len(endpoint.calls) == 3 * (3 + 6)


def test_the_calls_and_their_cost_are_shown_before_anybody_is_asked(tmp_path: Path, capsys: Captured) -> None:
    file = written(tmp_path, lines(2))
    prices = ("--price-in", "2.5", "--price-out", "10", "--verdict-tokens", "100", "--answer-tokens", "50")
    with scripted(judge) as endpoint:
        assert main(arguments(file, endpoint.url, *prices)) == 1
    shown = capsys.readouterr()
    assert endpoint.calls == []
    assert shown.err == "coe: nobody can be asked whether to start: add --yes\n"
    rows = [re.split(r"\s{2,}", row) for row in map(str.strip, shown.out.splitlines())]
    rows = [row for row in rows if row[0].startswith(("answers of", "verdicts of"))]
    assert rows[0][:5] == ["answers of 3 experts", "6", "0", "6", "16"]
    assert rows[0][5] == "300"
    assert rows[1][:4] == ["verdicts of referee", "12", "0", "12"]
    tokens_in, tokens_out = (int(cell.replace(",", "")) for cell in rows[1][4:])
    assert tokens_out == 1200
    assert 12 * 2 * 50 < tokens_in < 12 * 500
    assert f"cost about {(2.5 * tokens_in + 10 * tokens_out) / 1e6:.2f}" in shown.out


@pytest.mark.parametrize(("says", "status"), [(b"y\n", 0), (b"\n", 1), (b"no\n", 1), (b"\x04", 1)])
def test_a_person_is_asked_for_a_yes(tmp_path: Path, says: bytes, status: int) -> None:
    file = written(tmp_path, lines(1))
    with scripted(judge) as endpoint:
        above, below = pty.openpty()
        command = [sys.executable, "-m", "server.cli", *arguments(file, endpoint.url)]
        running = subprocess.Popen(
            command, cwd=ROOT, stdin=below, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        os.close(below)
        os.write(above, says)
        told, _ = running.communicate(timeout=60)
        os.close(above)
    assert running.returncode == status
    assert b"Start? [y/N]" in told
    assert bool(endpoint.calls) == (status == 0)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"--experts": "small"}, "name two or more, each once"),
        ({"--experts": "small,small"}, "name two or more, each once"),
        ({"--reference": "huge"}, "--reference huge is not among --experts"),
        ({"--price-in": "1"}, "give --price-in and --price-out together"),
        ({"--concurrency": "0"}, "--concurrency 0: it must be over 0"),
        ({"--requests-per-minute": "nan"}, "--requests-per-minute nan: it must be over 0"),
        ({"--per-category": "-1"}, "--per-category -1: it must be over 0"),
        ({"--judge-url": "somewhere"}, "'somewhere' is no address"),
        ({"--out": "/nowhere/at/all"}, "there is no folder /nowhere/at"),
        ({"--data": "/nowhere"}, "/nowhere cannot be read"),
    ],
)
def test_a_wrong_option_is_one_line_before_anything_is_asked(
    tmp_path: Path, capsys: Captured, changed: Mapping[str, str], complaint: str
) -> None:
    file = written(tmp_path, lines(1))
    more = [part for pair in changed.items() for part in pair]
    with scripted(judge) as endpoint:
        assert main(arguments(file, endpoint.url, "--yes", *more)) == 1
    assert endpoint.calls == []
    told = capsys.readouterr().err
    assert told.startswith("coe: ")
    assert complaint in told
    assert told.count("\n") == 1


def test_keys_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COE_ANSWERS_KEY", "for answers")
    monkeypatch.setenv("COE_JUDGE_KEY", "for verdicts")
    file = written(tmp_path, lines(1))
    with scripted(judge) as endpoint:
        assert main(arguments(file, endpoint.url, "--yes")) == 0
    keys = {(call.body["model"] == "referee", call.authorization) for call in endpoint.calls}
    assert keys == {(False, "Bearer for answers"), (True, "Bearer for verdicts")}


async def test_a_gateway_over_the_simulated_engine_answers_for_the_experts(
    serving: Serving, settings: Settings, tmp_path: Path, capsys: Captured
) -> None:
    """The judge prefers whoever says ``law:``, and calls the rest a tie."""

    def prefers_law(call: Call) -> Scripted:
        return completion(next((place for place in "AB" if " law:" in answer_in(call, place)), "TIE"))

    file = written(tmp_path, lines(4))
    async with serving(settings) as gateway:
        with scripted(prefers_law) as referee:
            options = arguments(file, gateway.url, "--yes", experts="law,math,coding")
            assert await asyncio.to_thread(main, [*options, "--judge-url", referee.url]) == 0
    expected = {"law": 1.0, "math": 0.25, "coding": 0.25}
    assert [line["scores"] for line in read(tmp_path / "judged.jsonl")] == [expected] * 4
    assert all("Simulated answer of" in answer_in(call, "A") for call in referee.calls)


async def test_an_expert_that_the_gateway_does_not_serve_is_one_line(
    serving: Serving, settings: Settings, tmp_path: Path, capsys: Captured
) -> None:
    file = written(tmp_path, lines(2))
    async with serving(settings) as gateway:
        options = arguments(file, gateway.url, "--yes", experts="law,maths")
        assert await asyncio.to_thread(main, options) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    said = "The model 'maths' does not exist. Did you mean 'math'?"
    assert told == f"coe: {gateway.url}/v1 has no model 'maths': {said}"
