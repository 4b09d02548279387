"""The built wheel, installed where there is no checkout, does what a clone does."""

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from experts.errors import EngineStartFailed
from server.engine_factory import check_installed
from tests.experts.survey.tiny import a_llama
from tests.server.conftest import EXPERTS, ROOT

pytestmark = pytest.mark.system

PACKAGES = ("server", "router", "cluster", "memory_tiers", "experts")


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment with the wheel in it, and an empty folder with a home in which its command runs."""

    python: Path
    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def environment(self) -> Mapping[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), "OMP_NUM_THREADS": "1"}

    def command(self, *arguments: str) -> list[str]:
        return [str(self.python.with_name("coe")), *arguments]

    def coe(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    @contextmanager
    def serving(self, *arguments: str) -> Iterator[str]:
        """The address of ``coe serve``, once it is ready. It ends with status 0."""
        log = self.folder / "stderr.log"
        with (
            log.open("wb") as stderr,
            subprocess.Popen(
                self.command("serve", "--port", "0", *arguments),
                cwd=self.folder,
                env=self.environment(),
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            ) as process,
        ):
            try:
                assert process.stdout is not None
                ready = (line for line in process.stdout if line.startswith("Ready on "))
                line = next(ready, None)
                assert line is not None, log.read_text()
                yield line.split()[-1]
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0
            finally:
                process.kill()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    building = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(building, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its Python. What the wheel depends on is the project's own environment's, which has no checkout in it:
    of folders that a .pth file names, the .pth files are not read."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    below = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site / "below.pth").write_text("".join(f"{path}\n" for path in below))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    return python


@pytest.fixture
def installed(environment: Path, tmp_path: Path) -> Installed:
    (tmp_path / "home").mkdir()
    return Installed(environment, tmp_path)


def test_the_wheel_has_all_files_of_the_packages_and_the_configurations(wheel: Path) -> None:
    there = [file for package in PACKAGES for file in (ROOT / package).rglob("*") if file.is_file()]
    expected = {file.relative_to(ROOT).as_posix() for file in there if "__pycache__" not in file.parts}
    expected |= {f"server/configs/{file.name}" for file in (ROOT / "configs").iterdir()}
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == expected


def test_the_embedded_composition_is_the_default_from_any_folder(installed: Installed) -> None:
    where = subprocess.run(
        [installed.python, "-c", "import server, sys; print(server.__file__)"],
        cwd=installed.folder,
        env=installed.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert not where.stdout.startswith(str(ROOT))

    listed = installed.coe("experts", "list")
    assert listed.returncode == 0, listed.stderr
    assert set(EXPERTS) <= set(re.findall(r"\w+", listed.stdout))

    routed = installed.coe("route", "--json", "What is the integral of x^2?")
    assert routed.returncode == 0, routed.stderr
    assert '"expert": "math"' in routed.stdout

    shown = installed.coe("state", "show")
    assert str(installed.home / ".local" / "state" / "coe") in shown.stdout.replace("\n", "")
    unprepared = installed.coe("serve", "--port", "0")
    assert unprepared.returncode == 1
    assert unprepared.stderr.endswith(
        f"is not prepared in {installed.home}/.local/state/coe/models; run: coe experts prepare\n"
    )
    assert [entry.name for entry in installed.folder.iterdir()] == ["home"]


def test_a_configuration_of_ones_own_is_served_and_keeps_all_in_the_state_folder(
    installed: Installed, checkpoint: Path
) -> None:
    tree: dict[str, Any] = {
        "tiers": {"device": "2500B", "host": "2500B"},
        "families": {"small": {"mode": "simulated", "max_model_len": 2048}},
        "experts": {name: {"family": "small", "checkpoint": {"folder": str(checkpoint)}} for name in EXPERTS},
        "compositions": {"coe": {"artifact": "embedded"}},
    }
    (installed.folder / "mine.yaml").write_text(yaml.safe_dump(tree))
    prepared = installed.coe("experts", "prepare", "--config", "mine.yaml")
    assert prepared.returncode == 0, prepared.stderr
    with installed.serving("--config", "mine.yaml") as url:
        body = {"model": "coe", "messages": [{"role": "user", "content": "What is the integral of x^2?"}]}
        answer = httpx.post(f"{url}/chat/completions", json=body)
        assert (answer.status_code, answer.headers["x-coe-expert"]) == (200, "math")
    state = installed.home / ".local" / "state" / "coe"
    assert {entry.name for entry in state.iterdir()} == {"accounts.sqlite", "models"}
    assert {entry.name for entry in installed.folder.iterdir()} == {"home", "mine.yaml", "stderr.log"}


def test_a_configuration_is_made_and_examined_from_any_folder(installed: Installed) -> None:
    a_llama(installed.folder / "mine" / "general", 1)
    a_llama(installed.folder / "mine" / "law", 2)
    made = installed.coe("init", "mine", "--out", "my.yaml", "--yes")
    assert made.returncode == 0, made.stderr
    assert set(yaml.safe_load((installed.folder / "my.yaml").read_text())["experts"]) == {"general", "law"}
    examined = installed.coe("doctor", "--config", "my.yaml", "--json")
    found = json.loads(examined.stdout)
    assert {each["level"] for each in found} <= {"ok", "warning", "error"}
    assert {entry.name for entry in installed.folder.iterdir()} == {"home", "mine", "my.yaml"}


@pytest.mark.engine
def test_the_embedded_composition_is_served(installed: Installed, store: Path) -> None:
    state = installed.home / ".local" / "state" / "coe"
    state.mkdir(parents=True)
    (state / "models").symlink_to(store)
    with installed.serving() as url:
        body = {"model": "coe", "messages": [{"role": "user", "content": "What is 2 + 2?"}], "max_tokens": 8}
        answer = httpx.post(f"{url}/chat/completions", json=body, timeout=300)
        assert (answer.status_code, answer.headers["x-coe-expert"]) == (200, "math")
        assert answer.json()["usage"]["completion_tokens"] > 0
    assert {entry.name for entry in state.iterdir()} == {"accounts.sqlite", "logs", "models"}


def test_what_is_to_be_installed_is_said_where_an_engine_is_missing() -> None:
    with pytest.raises(EngineStartFailed) as caught:
        check_installed("small", None)
    assert str(caught.value) == (
        "families.small: vLLM is not installed: pip install 'composition-of-experts[cpu]', or [cuda] on a "
        "machine with GPUs (docs/start/install.md); mode: simulated needs none"
    )
