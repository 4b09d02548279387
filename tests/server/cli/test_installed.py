"""Shells complete the command, ``coe help`` says what a verb takes, and systemd takes the unit."""

import shutil
import subprocess
from pathlib import Path

import pytest

from server.cli.main import main

CHECKS = {"bash": ["-n"], "zsh": ["-n"], "fish": ["--no-execute"]}


@pytest.mark.parametrize(("shell", "check"), CHECKS.items())
def test_a_shell_takes_what_it_is_to_complete(
    shell: str, check: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    script = tmp_path / "completion"
    script.write_text(capsys.readouterr().out)
    assert "doctor" in script.read_text()
    if program := shutil.which(shell):
        subprocess.run([program, *check, str(script)], check=True)


def test_bash_completes_verbs_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "bash"])
    script = capsys.readouterr().out
    for words, wanted in (
        (["coe", "do"], "doctor"),
        (["coe", "tiers", "lo"], "load"),
        (["coe", "init", "--ar"], "--artifact"),
    ):
        typed = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}"
        ask = f'{script}\n{typed}\n_shtab_coe; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
        assert wanted in done.stdout.split()


def test_help_is_of_the_verb_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "tiers", "load"]) == 0
    assert "bring an expert to the device" in capsys.readouterr().out
    assert main(["help"]) == 0
    assert "Many expert LLMs" in capsys.readouterr().out
    assert main(["help", "tiers", "lod"]) == 1
    assert "coe tiers: no verb 'lod'; there are status" in capsys.readouterr().err


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
