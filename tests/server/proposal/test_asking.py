"""In a terminal ``coe init`` asks what no file says, and takes names of a hub."""

import builtins
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from server.cli.setup.init import Terminal
from server.proposal.proposal import propose
from tests.experts.checkpoints.test_checkpoint_hub import a_hub
from tests.experts.survey.tiny import CHATML, a_llama
from tests.terminal import a_terminal

ROOT = Path(__file__).resolve().parents[3]


def test_the_user_says_what_each_expert_is_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, name in enumerate(("one", "two", "law")):
        a_llama(tmp_path / name, seed, template=None if name == "two" else CHATML)
    template = tmp_path / "mine.jinja"
    template.write_text(CHATML)
    answers = iter(["nowhere.jinja", str(template), "nobody", "two", "helth", "math, code", ""])
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        return next(answers)

    monkeypatch.setattr(builtins, "input", answer)
    named = [str(tmp_path / name) for name in ("one", "two", "law")]
    proposal = propose(named, tmp_path / "my.yaml", Terminal())
    made = yaml.safe_load(proposal.text)
    assert made["experts"]["two"]["chat_template"] == "mine.jinja"
    mapping = made["compositions"]["coe"]["mapping"]
    assert mapping == {"general": "two", "math": "one", "code": "one", "law": "law"}
    assert "two has no chat template" in asked[0]
    assert asked[-1] == "What is law for? Categories, with commas [law]: "
    assert proposal.composition is not None
    assert not proposal.composition.guessed, "the user said it"
    assert "uessed from the experts' names" not in proposal.text
    said = capsys.readouterr().out
    assert "nobody: no such expert" in said
    assert "helth: no such category; did you mean health?" in said


def test_it_asks_in_a_terminal_and_never_with_yes(tmp_path: Path) -> None:
    for seed, name in enumerate(("one", "law")):
        a_llama(tmp_path / name, seed)
    command = [sys.executable, "-m", "server.cli", "init", "one", "law", "--out", "my.yaml"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "TERM": "dumb", "COLUMNS": "120"}
    with a_terminal(command, tmp_path, environment) as terminal:
        terminal.until("Which expert answers what no other is for?")
        terminal.type("law\n")
        terminal.until("What is one for?")
        terminal.type("math, code\n")
        assert terminal.ended() == 0, terminal.shown
    made = yaml.safe_load((tmp_path / "my.yaml").read_text())
    assert made["compositions"]["coe"]["mapping"] == {"general": "law", "math": "one", "code": "one"}
    (tmp_path / "my.yaml").unlink()
    with a_terminal([*command, "--yes"], tmp_path, environment) as terminal:
        assert terminal.ended() == 0, terminal.shown
        assert "?" not in terminal.shown
    assert (tmp_path / "my.yaml").is_file()


def test_a_repository_is_looked_at_without_its_weights(tmp_path: Path) -> None:
    folder = a_llama(tmp_path / "tiny")
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    command = [sys.executable, "-m", "server.cli", "init", "house/tiny", "--out", "my.yaml", "--yes"]
    with a_hub(files) as (endpoint, served):
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={
                "PYTHONPATH": str(ROOT),
                "HF_ENDPOINT": endpoint,
                "HF_HOME": str(tmp_path / "hf"),
                "PATH": "",
            },
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    made = yaml.safe_load((tmp_path / "my.yaml").read_text())
    assert made["experts"] == {"tiny": {"family": "llama-1m", "checkpoint": {"huggingface": "house/tiny"}}}
    assert not [*(tmp_path / "hf").rglob("model.safetensors")]
    assert "config.json" in served


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COE_STATE", str(tmp_path / "state"))
