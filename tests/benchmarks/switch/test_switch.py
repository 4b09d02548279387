"""``coe bench switch``: its ratios, what it cannot measure, and the verb on a simulated engine."""

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from safetensors.numpy import save_file

import benchmarks.switch.report as ways
from benchmarks.switch.machine import Copies, NotMeasured, direct_read
from benchmarks.switch.measure import measure
from benchmarks.switch.report import Compared, Report, Row, compare
from benchmarks.switch.tables import show
from experts.checkpoints.prepare import prepare
from experts.spec import FamilyConfig
from server.cli.main import main
from server.config.settings import Settings, SettingsError, load


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration with one prepared expert of a few bytes on a simulated engine."""
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    save_file({"weight": np.zeros(250, np.float32)}, checkpoint / "model.safetensors")
    (checkpoint / "config.json").write_text('{"model_type": "llama"}')
    (checkpoint / "tokenizer.json").write_text("{}")
    (checkpoint / "chat_template.jinja").write_text("{{ messages }}")
    tree = {
        "store": str(tmp_path / "store"),
        "logs": str(tmp_path / "logs"),
        "tiers": {"device": "2500B", "host": "2500B"},
        "families": {"small": {"mode": "simulated", "simulation": {"switch_s": 0.004, "tokens_per_s": 9999}}},
        "experts": {"law": {"family": "small", "checkpoint": {"folder": str(checkpoint)}}},
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(tree))
    prepare("law", load(file).experts["law"], tmp_path / "store")
    return file


@pytest.fixture
def settings(file: Path) -> Settings:
    return load(file)


def unheard(stage: str, done: int, total: int) -> None:
    pass


def rows(**seconds: float) -> list[Row]:
    """Ways that moved a gigabyte, by the names of ``switch_report``."""
    return [Row(getattr(ways, name), (value,), 10**9) for name, value in seconds.items()]


def found(compared: list[Compared]) -> dict[str, tuple[float, bool | None]]:
    return {each.what: (round(each.value, 3), each.met) for each in compared if each.value is not None}


def test_each_way_stands_beside_its_limit_and_aim() -> None:
    compared = compare(
        [
            Row(ways.SWITCH, (0.004, 0.001, 0.002)),
            *rows(CONVERTED=0.5, IMAGE=0.1, COLD=0.5, CACHED=0.4),
            *rows(WARM_COPY=0.05, FRESH_COPY=0.2, SHARED_COPY=0.3, DIRECT_READ=0.6),
        ]
    )
    assert found(compared) == {
        "a switch, in ms": (2.0, True),
        "host to device, converted / copy into warm memory": (0.1, None),
        "host to device, engine-format image / copy into warm memory": (0.5, False),
        "host to device, engine-format image / copy into fresh memory": (2.0, None),
        "disk to host, page cache dropped / dd with direct I/O": (1.2, True),
        "disk to host, page cache dropped / write into fresh shared memory": (0.6, None),
        "disk to host, from the page cache / write into fresh shared memory": (0.75, None),
    }


def test_on_a_gpu_an_image_stands_beside_the_bus_and_a_switch_sets_pointers() -> None:
    compared = compare(
        [Row(ways.SWITCH, (0.002,)), *rows(CONVERTED=0.5, IMAGE=0.1, WARM_COPY=0.05, PINNED_COPY=0.09)]
    )
    assert found(compared) == {
        "a switch, in ms": (2.0, False),
        "host to device, converted / copy into warm memory": (0.1, None),
        "host to device, engine-format image / copy from pinned memory to the GPU": (0.9, True),
        "host to device, engine-format image / copy into warm memory": (0.5, None),
    }


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_no_copy_goes_to_one() -> None:
    with pytest.raises(NotMeasured, match="torch finds no GPU"):
        Copies(1000).pinned()


def test_ratios_are_of_bandwidths_and_not_of_times() -> None:
    image = Row(ways.IMAGE, (0.2,), 2 * 10**9)
    assert found(compare([image, *rows(WARM_COPY=0.1)]))[
        "host to device, engine-format image / copy into warm memory"
    ] == (1.0, True)


def test_what_was_not_measured_neither_meets_nor_misses_its_aim() -> None:
    for each in compare([]):
        assert (each.value, each.met) == (None, None)


async def test_every_figure_is_measured_in_every_run(settings: Settings) -> None:
    heard: list[tuple[int, int]] = []
    report = await measure(settings, 3, lambda _, done, total: heard.append((done, total)))
    missing = {ways.IMAGE, ways.PINNED_COPY, *report.not_measured}
    assert {row.name for row in report.rows} == set(ways.ORDER) - missing
    assert missing <= {ways.IMAGE, ways.PINNED_COPY, ways.DIRECT_READ}, (
        "only the folder of the tests may refuse direct reads"
    )
    assert all(len(row.seconds) == 3 for row in report.rows)
    switch = next(row for row in report.rows if row.name == ways.SWITCH)
    assert np.allclose(switch.seconds, 0.004)
    assert next(each.met for each in report.compared) is False
    assert heard == sorted(heard)
    assert heard[-1][0] == heard[-1][1]
    assert not any(name.startswith(f"coe-host-{os.getpid()}-") for name in os.listdir("/dev/shm"))


async def test_a_configuration_without_interleaving_is_refused(settings: Settings) -> None:
    families = {"small": FamilyConfig(mode="plain")}
    with pytest.raises(SettingsError, match="coe bench switch needs a family with mode interleaved"):
        await measure(settings.model_copy(update={"families": families}), 1, unheard)


def test_the_tables_mark_what_misses_its_aim_and_say_what_is_missing() -> None:
    report = Report(
        "small", "interleaved", "no model", 1, 2, 0.5, 4096,
        (Row(ways.SWITCH, (0.004,)), *rows(COLD=0.5, DIRECT_READ=0.45)),
        {ways.IMAGE: "for a reason"},
    )  # fmt: skip
    printed = io.StringIO()
    show(report, Console(file=printed, width=200))
    lines = [" ".join(line.split()) for line in printed.getvalue().splitlines()]
    assert "a switch, in ms 4.00* at most 3" in lines
    assert "disk to host, page cache dropped / dd with direct I/O 0.90 at least 0.8" in lines
    assert "host to device, engine-format image / copy into warm memory not measured at least 0.6" in lines
    assert "not measured: host to device, engine-format image: for a reason" in lines
    assert "up to 4,096 bytes stayed in the page cache when it was dropped" in lines
    clean = io.StringIO()
    show(replace(report, still_cached=0, not_measured={}), Console(file=clean, width=200))
    assert "not measured:" not in clean.getvalue()
    assert "page cache when" not in clean.getvalue()


def test_the_verb_writes_json(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.json"
    assert main(["bench", "switch", "--config", str(file), "--runs", "1", "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["mode"] == "simulated"
    assert {row["name"] for row in report["rows"]} >= {ways.COLD, ways.CACHED, ways.CONVERTED}
    aims = {each["what"]: (each["aim"], each["met"]) for each in report["compared"]}
    assert aims["a switch, in ms"] == ({"direction": "at most", "value": 3}, False)
    assert "beside the machine's limits" in capsys.readouterr().out


def test_the_verb_refuses_no_runs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "switch", "--runs", "0"])
    assert "'0' is not a whole number from 1" in capsys.readouterr().err


def test_a_disk_that_dd_cannot_read_is_not_measured_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(NotMeasured, match="No such file"):
        direct_read([tmp_path / "nowhere"])


def test_copies_take_time_and_leave_no_file(tmp_path: Path) -> None:
    copies = Copies(100_000)
    assert min(copies.warm(), copies.fresh(), copies.shared(tmp_path)) > 0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotMeasured, match="No such file"):
        copies.shared(tmp_path / "nowhere")
