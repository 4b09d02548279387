"""``coe eval`` over real sockets: contestants and judge are scripted, or a gateway has the contestants."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router.clients.chat_client import Ask, Reply
from router.judging.reply_cache import ReplyFile
from server.cli.main import main
from server.config.settings import Settings
from tests.router.embedders.scripted_endpoint import Call, Scripted, completion, failure, prompt_of, scripted
from tests.server.conftest import Serving

Captured = pytest.CaptureFixture[str]
STRENGTH = {"small": 1, "large": 3, "middle": 2}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COE_ANSWERS_KEY", "COE_JUDGE_KEY"):
        monkeypatch.delenv(name, raising=False)


def written(file: Path, lines: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


def conversations(folder: Path, count: int = 4) -> Path:
    """In MT-Bench's format."""
    lines = [
        {
            "question_id": 81 + number,
            "category": ("writing", "math")[number % 2],
            "turns": [f"Question {number}?", f"And {number} again?"],
        }
        for number in range(count)
    ]
    lines[1]["reference"] = ["Eleven.", "Twelve."]
    return written(folder / "question.jsonl", lines)


def requests(folder: Path, count: int = 4) -> Path:
    """In Arena-Hard's format, whose second version is otherwise."""
    first = [
        {"question_id": f"a{n}", "category": "arena", "turns": [{"content": f"Do {n}."}]} for n in (0, 1)
    ]
    second = [{"uid": f"b{n}", "category": "hard_prompt", "prompt": f"Do {n}."} for n in range(2, count)]
    return written(folder / "question.jsonl", [*first, *second])


def contestant(call: Call) -> Scripted:
    """As many plus signs as it is strong, one fewer in a second turn."""
    strength = STRENGTH[call.body["model"]] - (len(call.body["messages"]) > 1)
    said = completion("+" * strength)
    return Scripted(said.status, said.body, {"x-coe-expert": f"expert-{call.body['model']}"})


def part(text: str, start: str, end: str) -> str:
    return text.split(start)[1].split(end)[0]


def grading(call: Call) -> Scripted:
    """Two for each plus sign of the last answer."""
    shown = prompt_of(call).rpartition(": the assistant]\n")[2]
    return completion(f"It has signs.\n[[{2 * shown.partition('[End')[0].count('+') + 1}]]")


def comparing(call: Call) -> Scripted:
    text = prompt_of(call)
    a, b = (part(text, f"[Start of answer {x}]\n", f"\n[End of answer {x}]").count("+") for x in "AB")
    verdict = (
        "A=B" if a == b else ("A>>B" if a > b + 1 else "A>B" if a > b else "B>>A" if b > a + 1 else "B>A")
    )
    return completion(f"Signs were counted.\n[[{verdict}]]")


def both(judge: Callable[[Call], Scripted]) -> Callable[[Call], Scripted]:
    return lambda call: judge(call) if call.body["model"] == "referee" else contestant(call)


def arguments(verb: str, questions: Path, url: str, *more: str, models: str = "small,large") -> list[str]:
    return [
        *("eval", verb, "--questions", str(questions), "--models", models, "--answers-url", url),
        *("--judge-url", url, "--judge-model", "referee", "--out", str(questions.with_name("report.json"))),
        *("--params", "expert-small=7B,expert-large=70B,expert-middle=27B", *more),
    ]


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return found


def test_mt_bench_grades_two_turns_of_each_contestant(tmp_path: Path, capsys: Captured) -> None:
    file = conversations(tmp_path)
    with scripted(both(grading)) as endpoint:
        assert main(arguments("mt-bench", file, endpoint.url, "--yes")) == 0
    large, small = (report(tmp_path)["contestants"][name] for name in ("large", "small"))
    assert (large["overall"]["value"], small["overall"]["value"]) == (6.0, 2.0)
    assert (large["first_turn"]["value"], large["later_turns"]["value"]) == (7.0, 5.0)
    assert large["over_first"] == {"value": 4.0, "low": 4.0, "high": 4.0}
    assert (large["active_parameters_b"], small["active_parameters_b"]) == (70.0, 7.0)
    assert (large["questions"], large["categories"]) == (4, {"writing": 6.0, "math": 6.0})
    asked = [call.body for call in endpoint.calls if call.body["model"] == "large"]
    second = next(body for body in asked if body["messages"][-1]["content"] == "And 0 again?")
    assert [turn["role"] for turn in second["messages"]] == ["user", "assistant", "user"]
    assert second["messages"][1]["content"] == "+++"
    assert {body["temperature"] for body in asked} == {0.7, 0.0}
    judged = [prompt_of(call) for call in endpoint.calls if call.body["model"] == "referee"]
    assert sum("[Turn 1: a right answer]\nEleven." in text for text in judged) == 2 * 2
    assert sum("Twelve." in text for text in judged) == 2
    out = capsys.readouterr().out
    assert "4 questions: 16 answers and 16 verdicts" in out
    assert "6.00 to 6.00" in out


def test_arena_hard_compares_in_both_orders_with_a_model_that_answers_too(tmp_path: Path) -> None:
    file = requests(tmp_path)
    with scripted(both(comparing)) as endpoint:
        command = arguments("arena-hard", file, endpoint.url, "--yes", "--baseline", "middle")
        assert main(command) == 0
    found = report(tmp_path)["contestants"]
    rates = {name: round(each["over_baseline"]["value"], 3) for name, each in found.items()}
    assert rates == {"small": 0.0, "large": 100.0}
    assert len(endpoint.calls) == 4 * 3 + 4 * 2 * 2


def test_a_baseline_of_published_answers_and_degrees_of_better(tmp_path: Path, capsys: Captured) -> None:
    """The small one is much better once, which counts for three games, and worse in the three others."""
    file = requests(tmp_path)
    answers: list[dict[str, Any]] = [
        {"question_id": "a0", "choices": [{"turns": [{"content": "-"}]}]},
        {"question_id": "a1", "choices": [{"turns": ["++"]}]},
        {"uid": "b2", "messages": [{"role": "user"}, {"role": "assistant", "content": {"answer": "++"}}]},
        {"uid": "b3", "messages": [{"role": "assistant", "content": "++"}]},
    ]
    published = written(tmp_path / "gpt.jsonl", answers)

    def judge(call: Call) -> Scripted:
        swap = prompt_of(call).index("-") > prompt_of(call).index("+") if "\n-\n" in prompt_of(call) else None
        return comparing(call) if swap is None else completion(f"[[{'A>>B' if swap else 'B>>A'}]]")

    with scripted(both(judge)) as endpoint:
        command = arguments("arena-hard", file, endpoint.url, "--yes", "--baseline-answers", str(published))
        assert main([*command, "--models", "small"]) == 0
        rate = report(tmp_path)["contestants"]["small"]["over_baseline"]
        assert rate["value"] == pytest.approx(50.0)
        assert rate["low"] < 50.0 < rate["high"]
        other = written(tmp_path / "other.jsonl", [{"question_id": "z", "choices": [{"turns": ["x"]}]}])
        assert main([*command, "--baseline-answers", str(other)]) == 1
    assert "answers none of the questions" in capsys.readouterr().err


def test_a_run_that_was_stopped_goes_on_and_asks_nothing_twice(tmp_path: Path, capsys: Captured) -> None:
    file = conversations(tmp_path)
    with scripted(both(grading)) as endpoint:
        answering = endpoint.answer
        endpoint.answer = lambda call: (
            answering(call) if len(endpoint.calls) <= 9 else failure(401, "expired")
        )
        command = arguments("mt-bench", file, endpoint.url, "--yes", "--concurrency", "1")
        assert main(command) == 1
        assert f"9 replies are kept in {tmp_path / 'report.json.replies'}" in capsys.readouterr().err
        assert not (tmp_path / "report.json").exists()
        endpoint.answer = answering
        del endpoint.calls[9:]
        assert main(command) == 0
        assert len(endpoint.calls) == 32
        first = report(tmp_path)
        assert main(command) == 0
    assert len(endpoint.calls) == 32
    assert report(tmp_path) == first
    assert first["contestants"]["large"]["active_parameters_b"] == 70.0


def test_questions_that_a_contestant_or_the_judge_refused_count_for_nobody(tmp_path: Path) -> None:
    file = conversations(tmp_path)

    def refusing(call: Call) -> Scripted:
        if call.body["model"] == "small" and "Question 2?" in prompt_of(call):
            return failure(400, "too long")
        if call.body["model"] == "referee" and "Question 3?" in prompt_of(call):
            return completion("I would rather not say.")
        return both(grading)(call)

    with scripted(refusing) as endpoint:
        assert main(arguments("mt-bench", file, endpoint.url, "--yes")) == 0
    assert report(tmp_path)["contestants"]["large"]["questions"] == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1: not JSON"),
        ('{"turns": ["a"]}', "line 1: no 'question_id' and no 'uid'"),
        ('{"question_id": 1, "turns": [1]}', "line 1: no 'turns', a list of texts"),
        ('{"question_id": 1, "turns": ["a"]}\n{"question_id": 1, "turns": ["b"]}', "id of an earlier one"),
        ("", "has no questions"),
    ],
)
def test_a_wrong_file_is_refused_before_anybody_is_asked(
    line: str, said: str, tmp_path: Path, capsys: Captured
) -> None:
    file = tmp_path / "question.jsonl"
    file.write_text(line, encoding="utf-8")
    with scripted(both(grading)) as endpoint:
        assert main(arguments("mt-bench", file, endpoint.url, "--yes")) == 1
    assert said in capsys.readouterr().err
    assert not endpoint.calls


def test_a_contestant_does_not_meet_itself(tmp_path: Path, capsys: Captured) -> None:
    with scripted(both(comparing)) as endpoint:
        command = arguments("arena-hard", requests(tmp_path), endpoint.url, "--yes", "--baseline", "small")
        assert main(command) == 1
        assert main([*command[:-1], "middle", "--models", "small,small"]) == 1
    assert "cannot meet itself" in (said := capsys.readouterr().err)
    assert "name each once" in said


def test_replies_of_before_there_were_experts_are_kept(tmp_path: Path) -> None:
    import sqlite3

    file, ask = tmp_path / "old.replies", Ask("small", "Question?", 9)
    with sqlite3.connect(file) as old:
        old.execute(
            "CREATE TABLE replies "
            "(key BLOB PRIMARY KEY, text TEXT, cut INTEGER, tokens_in INTEGER, tokens_out INTEGER)"
        )
        old.execute("INSERT INTO replies VALUES (?, 'yes', 0, 7, 3)", (ask.key(),))
        old.execute(f"PRAGMA application_id = {0x436F4550}")
        old.execute("PRAGMA user_version = 1")
    old.close()
    for _ in range(2):
        with ReplyFile(file) as replies:
            assert replies.get(ask) == Reply("yes", False, 7, 3)
            replies.put(Ask("small", "Another?", 9), Reply("no", False, 1, 1, "law"))
            assert replies.get(Ask("small", "Another?", 9)) == Reply("no", False, 1, 1, "law")


async def test_a_composition_is_a_contestant_through_the_gateway(
    serving: Serving, settings: Settings, tmp_path: Path
) -> None:
    """Its experts' sizes are those that the gateway lists."""
    import asyncio

    file = conversations(tmp_path, 2)
    async with serving(settings) as gateway:
        with scripted(lambda _: completion("[[7]]")) as judge:
            url = str(gateway.http.base_url)
            command = arguments("mt-bench", file, url, "--yes", "--answer-tokens", "4", models="coe,law")
            command[command.index("--judge-url") + 1] = judge.url
            at = command.index("--params")
            assert await asyncio.to_thread(main, command[:at] + command[at + 2 :]) == 0
            listed = (await gateway.http.get("/v1/models")).json()["data"]
    sizes = {each["id"]: each["coe"].get("parameters") for each in listed}
    found = report(tmp_path)["contestants"]
    assert found["law"]["active_parameters_b"] == pytest.approx(sizes["law"] / 1e9)
    assert found["coe"]["active_parameters_b"] > 0
    assert found["coe"]["overall"]["value"] == 7.0
