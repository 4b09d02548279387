"""``coe init`` writes configurations that ``coe serve`` takes, whatever is in the folders it is given."""

import asyncio
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from experts.checkpoints.prepare import prepare
from experts.engines.engine import Engine
from experts.simulated.engine import SimulatedEngine
from experts.spec import Expert
from router.artifacts.artifact import Artifact
from router.settings import EMBEDDED
from server.cli.main import main
from server.compose import running
from server.config.settings import Settings, load
from tests.experts.checkpoints.s3_server import an_s3_server
from tests.experts.survey.tiny import HERMES, a_llama, an_adapter
from tests.server.proposal import odd

Init = Callable[..., str]


@pytest.fixture
def init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Init:
    """Runs ``coe init --yes`` in an empty folder; returns what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(*given: str, status: int = 0) -> str:
        assert main(["init", *given, "--out", "my.yaml", "--yes"]) == status
        return "".join(capsys.readouterr())

    return run


def simulated(family: str, settings: Settings, experts: Iterable[Expert]) -> Engine:
    config = settings.families[family]
    return SimulatedEngine(family, config.simulation, task=config.task)


def serves() -> Settings:
    """Does all that ``coe serve --prepare`` does of a configuration, but for vLLM itself."""
    settings = load(Path("my.yaml"))
    for name, expert in settings.experts.items():
        prepare(name, expert, settings.store, base=settings.base_of(name), task=settings.task_of(name))
    asyncio.run(_answers(settings))
    return settings


async def _answers(settings: Settings) -> None:
    async with running(settings, engine_of=simulated) as gateway:
        await gateway.services.tiers.ready()
        assert gateway.services.experts.keys() == settings.experts.keys()


def tree() -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load(Path("my.yaml").read_text(encoding="utf-8"))
    return made


def test_fine_tunes_share_an_engine_and_what_cannot_is_told_why(init: Init) -> None:
    a_llama(Path("general"), 1)
    a_llama(Path("law"), 2, template=HERMES)
    a_llama(Path("wide"), 3, intermediate_size=256)
    an_adapter(Path("medicine"), "/data/of/somebody/wide")
    said = init("general", "law", "wide", "medicine")
    made = tree()
    families = {name: expert["family"] for name, expert in made["experts"].items()}
    assert families["general"] == families["law"] != families["wide"] == families["medicine"]
    assert made["families"][families["law"]] == {"mode": "interleaved", "tool_parser": "hermes"}
    assert made["families"][families["wide"]] == {"mode": "lora", "base": {"folder": "wide"}}
    assert made["experts"]["law"]["capabilities"] == ["tools"]
    assert made["experts"]["general"]["capabilities"] == []
    assert made["compositions"]["coe"]["mapping"]["law"] == "law"
    assert made["compositions"]["coe"]["mapping"]["health"] == "medicine"
    assert (
        "general does not share an engine with wide: config.json: intermediate_size is 128, not 256" in said
    )
    serves()


@pytest.mark.parametrize("make", odd.SERVED.values(), ids=odd.SERVED.keys())
def test_what_is_odd_and_can_be_served_is_served(init: Init, make: Callable[[Path], object]) -> None:
    make(Path("odd"))
    said = init("odd")
    assert "left out" not in said
    serves()


@pytest.mark.parametrize(
    ("make", "reason"), odd.LEFT_OUT.items(), ids=[each.__name__ for each in odd.LEFT_OUT]
)
def test_what_cannot_be_served_is_refused_with_the_reason(
    init: Init, make: Callable[[Path], object], reason: str
) -> None:
    make(Path("odd"))
    said = init("odd", status=1).splitlines()[-1]
    assert reason in said
    assert said.startswith("coe: ")
    assert not Path("my.yaml").exists()
    assert not [*Path().glob(".my*")]


def test_what_cannot_be_served_is_left_out_beside_what_can(init: Init) -> None:
    nothing = (odd.empty, odd.link_to_nowhere)
    left_out = {make: reason for make, reason in odd.LEFT_OUT.items() if make not in nothing}
    for make in (*left_out, *odd.SERVED.values()):
        make(Path("all") / make.__name__)
    said = init("all")
    assert sum(line.startswith("left out ") for line in said.splitlines()) == len(left_out)
    assert all(reason in said for reason in left_out.values())
    assert len(tree()["experts"]) == len(odd.SERVED) + 1, "one is a folder of two"
    serves()


def test_names_of_any_folder_become_names_that_can_be_asked_for(init: Init) -> None:
    folders = [
        "Мой модель",
        "law & order: v2.1",
        "größe",
        "coe",
        "a/checkpoint-500",
        "b/checkpoint-500",
        "-x",
        "true",
    ]
    for seed, folder in enumerate(folders):
        a_llama(Path(folder), seed)
    init(*(f"./{folder}" for folder in folders))
    assert set(tree()["experts"]) >= {
        "law-order-v2.1",
        "groe",
        "a-checkpoint-500",
        "b-checkpoint-500",
        "x",
        "true",
    }
    settings = serves()
    assert "coe" not in settings.experts
    assert len(settings.experts) == len(folders)


def test_one_more_is_added_and_nothing_else_is_touched(init: Init) -> None:
    a_llama(Path("general"), 1)
    a_llama(Path("law"), 2)
    init("general")
    mine = (
        Path("my.yaml")
        .read_text(encoding="utf-8")
        .replace("general:\n    family", "mine:  # renamed\n    family")
    )
    mine = mine.replace("general: general", "general: mine") + "server: {port: 9000}  # at home\n"
    Path("my.yaml").write_text(mine, encoding="utf-8")
    said = init("law", "general")
    text = Path("my.yaml").read_text(encoding="utf-8")
    rest = iter(text.splitlines())
    assert all(line in rest for line in mine.splitlines()), "every line of mine, in my order"
    assert "general: is there already" in said
    assert {name: expert["family"] for name, expert in tree()["experts"].items()}.keys() == {"mine", "law"}
    assert len(tree()["families"]) == 1, "law shares the engine that is there"
    assert "stays as it is" in init("law")
    assert Path("my.yaml").read_text(encoding="utf-8") == text
    serves()


def test_an_adapter_is_added_to_what_is_there_in_flow_style(init: Init) -> None:
    a_llama(Path("base"), 1)
    an_adapter(Path("law"), "base")
    Path("my.yaml").write_text(
        "tiers: {device: auto}\nfamilies: {f: {mode: interleaved}}  # one\n"
        "experts: {base: {family: f, checkpoint: {folder: base}},}\n"
    )
    init("law")
    assert set(tree()["experts"]) == {"base", "law"}
    assert "# one" in Path("my.yaml").read_text()
    serves()


def test_a_file_that_is_no_configuration_is_left_alone(init: Init) -> None:
    a_llama(Path("general"), 1)
    Path("my.yaml").write_text("shopping: [milk]\n")
    assert "my.yaml: shopping: unknown field" in init("general", status=1)
    assert Path("my.yaml").read_text() == "shopping: [milk]\n"


def test_checkpoints_in_an_object_store_are_looked_at_without_their_weights(
    init: Init, monkeypatch: pytest.MonkeyPatch
) -> None:
    with an_s3_server(monkeypatch) as s3:
        for seed, name in enumerate(("general", "law")):
            folder = a_llama(Path("here") / name, seed)
            s3.put({file.name: file.read_bytes() for file in folder.iterdir()}, f"models/{name}")
        cut = (Path("here") / "law" / "model.safetensors").read_bytes()[:-4]
        s3.put({"config.json": b"{}", "model.safetensors": cut}, "models/cut")
        an_adapter(Path("here") / "medicine", "models/general")
        adapter = {file.name: file.read_bytes() for file in Path("here/medicine").iterdir()}
        s3.put(adapter, "adapters/medicine")
        said = init("s3://house/models")
        read = sum(int(span.partition("-")[2]) for name, span in s3.asked if name == "model.safetensors")
        assert read < len(cut), "headers alone"
        assert "left out s3://house/models/cut: " in said
        assert tree()["experts"]["law"]["checkpoint"] == {"url": "s3://house/models/law"}
        assert len(tree()["families"]) == 1
        serves()
        Path("my.yaml").unlink()
        init("s3://house/models/general", "s3://house/adapters")
        assert tree()["families"]["llama-1m-lora"]["base"] == {"url": "s3://house/models/general"}
        serves()
        assert "there is nothing" in init("s3://house/modles", status=1)
        assert "does not begin with" in init("s4://house/models", status=1)


def test_a_name_of_nothing_is_an_error_that_names_the_nearest(init: Init) -> None:
    a_llama(Path("general"), 1)
    assert "generl: no such file or folder; did you mean general?" in init("generl", status=1)
    assert "house/none" in init("house/none", status=1)


def test_what_is_wrong_with_the_command_is_said_once_and_not_of_each_checkpoint(init: Init) -> None:
    for seed, name in enumerate(("general", "law")):
        a_llama(Path(name), seed)
    Path("taken").mkdir()
    assert main(["init", "general", "law", "--out", "nowhere/my.yaml", "--yes"]) == 1
    assert main(["init", "general", "law", "--out", "taken", "--yes"]) == 1
    assert main(["init", "general", "law", "--out", "/dev/zero", "--yes"]) == 1
    assert main(["init", "general", "law", "--out", "general/config.json/my.yaml", "--yes"]) == 1
    said = init("general", "law", "--artifact", "non", status=1).splitlines()
    refused = [line for line in said if line.startswith("coe: ")]
    assert refused == [
        f"coe: --out {Path('nowhere').resolve()}/my.yaml: cannot be written: No such file or directory",
        f"coe: --out {Path('taken').resolve()}: is a folder; name a file",
        "coe: --out /dev/zero: is a device; name a file",
        f"coe: --out {Path('general').resolve()}/config.json/my.yaml: cannot be written: Not a directory",
        "coe: non holds no router: manifest.json cannot be read (No such file or directory); make one with: "
        "coe router train",
    ]
    assert not any(line.startswith("looking at") for line in said)


def test_an_empty_name_is_not_the_folder_where_one_stands(init: Init) -> None:
    a_llama(Path("general"), 1)
    assert "coe: '' names no checkpoint" in init("", status=1)
    assert not Path("my.yaml").exists()


def test_a_note_on_a_checkpoint_names_its_own_file(init: Init, caplog: pytest.LogCaptureFixture) -> None:
    odd.no_context(Path("odd"))
    init("odd")
    assert f"{Path('odd').resolve()}/config.json: what memory the model takes cannot be told" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_left_out(init: Init) -> None:
    folder = a_llama(Path("secret"))
    folder.chmod(0)
    try:
        assert "cannot be read" in init("secret", status=1)
    finally:
        folder.chmod(0o700)


def test_a_model_that_this_machine_has_no_memory_for_is_left_out(init: Init) -> None:
    a_llama(Path("small"), 1)
    huge = a_llama(Path("huge"), 2, vocab_size=400)
    with (huge / "model.safetensors").open("r+b") as file:
        _widen(file)
    said = init("small", "huge")
    [reason] = [line for line in said.splitlines() if line.startswith("left out huge: expert huge needs")]
    assert "; what is auto is too little: " in reason
    assert "bytes are free (MemAvailable of /proc/meminfo), of which engines take" in reason
    assert set(tree()["experts"]) == {"small"}
    shutil.rmtree(huge)


def _widen(file: Any) -> None:
    """Gives a file a tensor of 4 TB, of which nothing is on the disk."""
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    header["more.weight"] = {"dtype": "F32", "shape": [2**40], "data_offsets": [end, end + 2**42]}
    data = file.read()
    made = json.dumps(header).encode()
    file.seek(0)
    file.write(len(made).to_bytes(8, "little") + made + data)
    file.truncate(8 + len(made) + end + 2**42)


def test_the_map_is_left_to_a_scored_artifact_of_the_users_own_alone(init: Init) -> None:
    for seed, name in enumerate(("general", "law")):
        a_llama(Path(name), seed)
    shutil.copytree(EMBEDDED, "mine")
    scored = Artifact.read(EMBEDDED).scores is not None
    init("general", "law", "--artifact", "mine")
    assert ("total_params" in tree()["compositions"]["coe"]) == scored
    assert tree()["compositions"]["coe"]["artifact"] == "mine"
    serves()
    Path("my.yaml").unlink()
    init("general", "law")
    assert tree()["compositions"]["coe"]["mapping"] == {"general": "general", "law": "law"}
