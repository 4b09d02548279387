"""Shells complete the command, ``coe help`` says what a verb takes, and systemd takes the unit."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from server.cli.main import main
from tests.terminal import a_terminal

COMPLETED = (
    (["coe", "do"], "doctor"),
    (["coe", "tiers", "lo"], "load"),
    (["coe", "init", "--ar"], "--artifact"),
)
"""Pairs what is typed with the word that it becomes."""


def completion(shell: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    assert main(["completion", shell]) == 0
    script = folder / f"completion.{shell}"
    script.write_text(capsys.readouterr().out)
    return script


def test_bash_completes_verbs_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = completion("bash", tmp_path, capsys).read_text()
    for words, wanted in COMPLETED:
        typed = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}"
        ask = f'{script}\n{typed}\n_shtab_coe; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
        assert wanted in done.stdout.split()


def test_fish_completes_verbs_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = completion("fish", tmp_path, capsys)
    for words, wanted in COMPLETED:
        ask = f"source {script}; complete --do-complete '{' '.join(words)}'"
        home = os.environ | {"HOME": str(tmp_path)}
        done = subprocess.run(["fish", "-c", ask], capture_output=True, text=True, check=True, env=home)
        assert wanted in [line.partition("\t")[0] for line in done.stdout.splitlines()]


def test_zsh_completes_verbs_and_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = completion("zsh", tmp_path, capsys)
    home = os.environ | {"HOME": str(tmp_path), "TERM": "dumb"}
    with a_terminal(["zsh", "-f", "-i"], tmp_path, home) as zsh:
        zsh.type(f'autoload -Uz compinit; compinit -u -D; eval "$(cat {script})"; echo sourced-$((40 + 2))\n')
        zsh.until("sourced-42")
        for words, wanted in COMPLETED:
            zsh.type(f"{' '.join(words)}\t")
            zsh.until(" ".join([*words[:-1], wanted])[len(" ".join(words)) :])
            zsh.type("\x15")  # takes the line back


def test_help_is_of_the_verb_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "tiers", "load"]) == 0
    assert "bring an expert to the device" in capsys.readouterr().out
    assert main(["help"]) == 0
    assert "Many expert LLMs" in capsys.readouterr().out
    assert main(["help", "tiers", "lod"]) == 1
    assert capsys.readouterr().err == "coe: coe tiers: no verb 'lod'; did you mean load?\n"
    assert main(["help", "serve", "now"]) == 1
    assert capsys.readouterr().err == "coe: coe serve: no verb 'now'; it has no verbs of its own\n"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["sreve"], "coe: VERB: there is no 'sreve'; did you mean serve? (coe --help)"),
        (["init", "x", "--out", "y", "--artefact", "z"],
         "coe: there is no '--artefact' here; did you mean --artifact? (coe --help)"),
        (["completion", "tcsh"],
         "coe completion: shell: there is no 'tcsh'; there are bash, fish, zsh (coe completion --help)"),
        (["init", "x"], "coe init: the following arguments are required: --out (coe init --help)"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_told_in_one_line_with_the_nearest(
    typed: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(typed)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"{said}\n"


def test_systemd_takes_the_unit_of_any_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "my models, 100 % mine"
    folder.mkdir()
    config = folder / "my.yaml"
    config.write_text(
        "tiers: {device: auto}\nfamilies: {f: {mode: simulated}}\n"
        "experts: {e: {family: f, checkpoint: {folder: e}}}\nserver: {drain_s: 60}\n"
    )
    assert main(["service", "install", "--config", str(config), "--print"]) == 0
    text = capsys.readouterr().out
    assert "TimeoutStopSec=90" in text
    assert "100 %% mine/my.yaml" in text
    unit = tmp_path / "coe.service"
    unit.write_text(text)
    if program := shutil.which("systemd-analyze"):
        done = subprocess.run(
            [program, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
        )
        assert str(unit) not in done.stderr
        assert "coe.service" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["../coe", "a b", ""])
def test_a_unit_has_a_name_that_systemd_takes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["service", "install", "--name", name]) == 1
    assert capsys.readouterr().err.startswith(f"coe: --name {name!r}: units are named in letters")
