"""The installed vLLM has what we hold on to; of one that lacks something it is said what."""

import ast
import shutil
from pathlib import Path

import pytest

from experts.vllm_seams import SEAMS, installed_sources, missing_seam

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def vllm(tmp_path: Path) -> Path:
    """The files of the installed vLLM that are looked at, to be changed."""
    installed = installed_sources()
    assert installed is not None
    for file in {seam.file for seam in SEAMS}:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(installed / file, tmp_path / file)
    return tmp_path


def change(file: Path, before: str, after: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")


def test_the_installed_vllm_has_every_seam(vllm: Path) -> None:
    assert missing_seam() is None
    assert missing_seam(vllm) is None


def test_a_parameter_of_another_name_is_named(vllm: Path) -> None:
    change(vllm / "v1/worker/gpu_worker.py", 'self, scheduler_output: "SchedulerOutput"', "self, output: int")
    assert missing_seam(vllm) == "Worker.execute_model in v1/worker/gpu_worker.py with scheduler_output"


def test_a_queue_that_is_gone_is_named(vllm: Path) -> None:
    change(vllm / "v1/core/sched/scheduler.py", "self.kv_holding_waiting = ", "self.holding = ")
    assert str(missing_seam(vllm)).startswith("Scheduler in v1/core/sched/scheduler.py with running, waiting")


def test_a_file_that_is_gone_or_no_python_is_named(vllm: Path) -> None:
    (vllm / "v1/kv_cache_interface.py").write_text("def (", encoding="utf-8")
    expected = "KVCacheConfig.needs_kv_cache_zeroing in v1/kv_cache_interface.py"
    assert missing_seam(vllm) == expected
    assert missing_seam(vllm / "nowhere") is not None


def test_whatever_our_classes_import_of_the_files_is_a_seam() -> None:
    """A new hold on the reload machinery or the engine must be looked for too."""
    files = {seam.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for seam in SEAMS}
    inside = [
        *(ROOT / "experts/inside_vllm/scheduling").glob("*.py"),
        ROOT / "experts/inside_vllm/worker.py",
        ROOT / "experts/inside_vllm/weights/loading.py",
    ]
    held = {
        (node.module.removeprefix("vllm."), alias.name)
        for file in inside
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.removeprefix("vllm.") in files
        for alias in node.names
    }
    looked_for = {
        (seam.file.removesuffix(".py").removesuffix("/__init__").replace("/", "."), seam.name.split(".")[0])
        for seam in SEAMS
    }
    assert held <= looked_for
