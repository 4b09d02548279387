"""``coe router add-expert`` with a judge: a new expert is compared with those that the map has now."""

import json
from pathlib import Path

import pytest

from router.artifacts.artifact import Artifact
from router.data.plain_prompts import plain_prompts
from router.router import Router
from router.settings import EMBEDDED
from server.cli.main import main
from tests.router.embedders.scripted_endpoint import Call, Scripted, completion, failure, prompt_of, scripted

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COE_ANSWERS_KEY", "COE_JUDGE_KEY"):
        monkeypatch.delenv(name, raising=False)


def written(folder: Path, router: Router) -> tuple[Path, dict[str, str]]:
    """Prompts, and the expert that the map has for each."""
    asked = [
        each.prompt for each in plain_prompts() if router.decide(each.prompt).category in ("law", "math")
    ]
    lines = [{"id": f"p{number}", "prompt": prompt} for number, prompt in enumerate(asked)]
    file = folder / "prompts.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file, {prompt: router.decide(prompt).expert for prompt in asked}


def test_an_expert_is_graded_against_who_serves_now(tmp_path: Path, capsys: Captured) -> None:
    router = Router.load(EMBEDDED)
    file, serving = written(tmp_path, router)
    at_law = {prompt for prompt in serving if router.decide(prompt).category == "law"}

    def answer(call: Call) -> Scripted:
        """The newcomer is better at law, and worse at the rest."""
        if call.body["model"] != "referee":
            mine = call.body["model"] == "newcomer"
            return completion("+" if mine == (prompt_of(call) in at_law) else "-")
        a, b = (prompt_of(call).split(f"[Start of answer {x}]\n")[1][0] == "+" for x in "AB")
        return completion("A" if a > b else "B" if b > a else "TIE")

    command = [
        *("router", "add-expert", "--artifact", str(EMBEDDED), "--name", "newcomer", "--params", "0.1B"),
        *("--data", str(file), "--per-category", "12", "--out", str(tmp_path / "out")),
    ]
    with scripted(answer) as endpoint:
        judge = ["--judge-url", endpoint.url, "--judge-model", "referee", "--answers-url", endpoint.url]
        going = endpoint.answer
        endpoint.answer = lambda call: going(call) if len(endpoint.calls) <= 20 else failure(401, "expired")
        assert main([*command, *judge, "--yes", "--concurrency", "1"]) == 1
        assert not (tmp_path / "out").exists()
        del endpoint.calls[20:]
        endpoint.answer = going
        assert main([*command, *judge, "--yes"]) == 0
        asked = [call.body for call in endpoint.calls if call.body["model"] not in ("referee", "newcomer")]
        assert len(asked) == 24
        assert {body["model"] for body in asked} == {*serving.values()}
        assert all(body["model"] == serving[body["messages"][-1]["content"]] for body in asked)
        assert len(endpoint.calls) == 4 * 24
    assert "48 answers and 48 verdicts" in capsys.readouterr().out
    made = Artifact.read(tmp_path / "out")
    assert made.mapping["law"] == "newcomer"
    assert made.mapping["math"] == router.artifact.mapping["math"]
    assert main([*command, *judge[:2]]) == 1
    assert "--judge-url, --judge-model and --answers-url together" in capsys.readouterr().err
