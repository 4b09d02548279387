"""Every part that the doctor examines can be well and can be ill, and each illness says what to do."""

import errno
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from experts.errors import MemoryUnknown
from experts.memory.machine_memory import Room
from experts.vllm_version import InstalledVllm
from server.cli.main import main
from server.config.settings import Settings, load
from server.doctor import configured, engines, machine
from server.doctor.finding import Finding
from tests.experts.survey.tiny import a_llama

CPU, CUDA = InstalledVllm("cpu", "0.32.0"), InstalledVllm("cuda", "0.32.0")


def room(size: int) -> Callable[[], Room]:
    return lambda: Room(size, "here")


def unknown() -> Room:
    raise MemoryUnknown("nobody says")


def no_library(name: str) -> object:
    raise OSError(f"{name}: cannot open shared object file")


def no_tool() -> list[int]:
    raise MemoryUnknown("pip install nvidia-ml-py")


def taken(host: str, number: int) -> None:
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def free(host: str, number: int) -> None:
    """Takes any port."""


ILL = {
    "one core": (machine.processor(1), machine.processor(2), "warning"),
    "cores unknown": (machine.processor(None), machine.processor(8), "warning"),
    "memory": (machine.main_memory(room(10**9)), machine.main_memory(room(10**10)), "error"),
    "little memory": (machine.main_memory(room(3 * 10**9)), machine.main_memory(room(10**10)), "warning"),
    "memory unknown": (machine.main_memory(unknown), machine.main_memory(room(10**10)), "error"),
    "shared": (machine.shared_memory_room(room(2**26)), machine.shared_memory_room(room(2**30)), "warning"),
    "no shared": (machine.shared_memory_room(unknown), machine.shared_memory_room(room(2**30)), "error"),
    "files": (machine.open_files(256), machine.open_files(65536), "error"),
    "few files": (machine.open_files(4096), machine.open_files(None), "warning"),
    "clock": (machine.clock(0, 1e9), machine.clock(2e9, 1e9), "error"),
    "no vLLM": (engines.vllm(None), engines.vllm(CPU), "error"),
    "other vLLM": (engines.vllm(InstalledVllm("cpu", "0.99.0")), engines.vllm(CPU), "warning"),
    "seams": (engines.seams(CPU, "Scheduler in x.py"), engines.seams(CPU, None), "warning"),
    "no seams": (engines.seams(None, None), engines.seams(CPU, None), "warning"),
    "library": (engines.libraries(CPU, no_library), engines.libraries(CPU, str), "error"),
    "idle GPU": (
        engines.gpus(CPU, lambda: [80 * 10**9], "570"),
        engines.gpus(CUDA, lambda: [1], "570"),
        "warning",
    ),
    "nobody says": (engines.gpus(CUDA, no_tool, None), engines.gpus(CPU, no_tool, None), "error"),
    "driver alone": (engines.gpus(CPU, no_tool, "570"), engines.gpus(CPU, no_tool, None), "warning"),
    "no GPU": (engines.gpus(CUDA, list, None), engines.gpus(CPU, list, None), "error"),
    "compiler": (engines.compiler(CUDA, None), engines.compiler(CPU, None), "error"),
    "port": (
        configured.port("server.port", "127.0.0.1", 8000, taken, lambda: False),
        configured.port("server.port", "127.0.0.1", 8000, free, lambda: False),
        "error",
    ),
}


@pytest.mark.parametrize(("ill", "well", "level"), ILL.values(), ids=ILL.keys())
def test_a_part_that_is_ill_says_what_to_do(ill: Finding, well: Finding, level: str) -> None:
    assert (ill.level, well.level) == (level, "ok")
    assert ill.do
    assert ill.part == well.part


def test_a_port_that_a_gateway_has_is_well() -> None:
    assert configured.port("server.port", "127.0.0.1", 8000, taken, lambda: True).level == "ok"


def test_every_port_that_is_listened_on_is_examined(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (tmp_path / "my.yaml").open("r+") as file:
            text = file.read().replace("server: {port: 0}", f"server: {{port: 0, admin_port: {port}}}")
            file.seek(0)
            file.write(f"{text}cluster: {{secret: {'s' * 16}, port: {port}}}\n")
        assert main(["doctor", "--config", str(tmp_path / "my.yaml")]) == 1
    said = [line for line in capsys.readouterr().out.splitlines() if f"127.0.0.1:{port}" in line]
    assert len(said) == 2
    for line, setting in zip(said, ("server.admin_port", "cluster.port"), strict=True):
        assert line.startswith("error    port")
        assert line.endswith(f"choose another: {setting}")


def test_a_disk_is_examined_where_the_state_would_be(tmp_path: Path) -> None:
    assert machine.disk(tmp_path / "not" / "there").level in ("ok", "warning")
    file = tmp_path / "file"
    file.touch()
    assert machine.disk(file / "state").level == "error"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    a_llama(tmp_path / "general")
    file = tmp_path / "my.yaml"
    file.write_text(
        f"state: {tmp_path}/state\ntiers: {{device: auto}}\nfamilies: {{f: {{}}}}\n"
        "experts: {general: {family: f, checkpoint: {folder: general}}}\nserver: {port: 0}\n"
    )
    return load(file)


def test_checkpoints_routers_and_the_plan_are_examined(settings: Settings) -> None:
    assert [each.level for each in configured.checkpoints(settings)] == ["warning"]
    given = settings.experts["general"].checkpoint.folder
    assert given is not None
    moved = given.rename(given.with_name("general-1"))
    (gone,) = configured.checkpoints(settings)
    assert gone.level == "error"
    assert gone.said == f"experts.general.checkpoint.folder: {given}: no such folder; did you mean {moved}?"
    moved.rename(given)
    folder = settings.store / "general"
    folder.mkdir(parents=True)
    (folder / "coe.json").write_text("{}")
    (damaged,) = configured.checkpoints(settings)
    assert (damaged.level, damaged.part) == ("error", "checkpoints")
    assert configured.routers(settings).level == "ok"
    assert configured.plan(settings).level == "ok"
    (settings.experts["general"].checkpoint.folder or Path()).joinpath("config.json").unlink()
    assert configured.plan(settings).level == "error"


def test_errors_make_the_exit_status_and_json_is_for_programs(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--config", str(tmp_path / "my.yaml"), "--json"]) == 0
    found = {each["part"]: each for each in json.loads(capsys.readouterr().out)}
    assert found["configuration"]["level"] == "ok"
    assert found["checkpoints"]["do"].startswith("coe experts prepare")
    (tmp_path / "broken.yaml").write_text("tiers: {device: much}\n")
    assert main(["doctor", "--config", str(tmp_path / "broken.yaml")]) == 1
    said = capsys.readouterr().out
    assert "error    configuration" in said
    assert "tiers.device" in said


def test_a_map_of_experts_that_are_not_there_is_found(tmp_path: Path, settings: Settings) -> None:
    text = (tmp_path / "my.yaml").read_text() + "compositions: {coe: {artifact: embedded}}\n"
    (tmp_path / "my.yaml").write_text(text)
    assert configured.routers(load(tmp_path / "my.yaml")).level == "error"
