"""``coe plan`` on the configurations that ship, and on a file."""

import json
from pathlib import Path

import pytest
import yaml

from memory_tiers.members import Family, Member
from memory_tiers.planning.gpus import parse_gpus
from memory_tiers.replicas import replica_name
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import TiersConfig
from server.cli.main import main
from server.config.settings import load
from server.planning.planned import on_gpus

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
NODES = {
    "five_experts": "8x80GB",
    "one_card_twelve_8b": "1x80GB",
    "one_card_four_7b": "1x24GB",
    "two_cards_70b_and_8b": "2x80GB",
    "embedded": "1x24GB",
    "lora": "1x24GB",
}


@pytest.mark.parametrize(("name", "gpus"), NODES.items())
def test_a_configuration_that_ships_leaves_a_tenth_of_every_gpu(
    name: str, gpus: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["plan", "--config", str(CONFIGS / f"{name}.yaml"), "--gpus", gpus, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (status, found["fits"], found["change"]) == (0, True, [])
    assert all(gpu["free"] >= 0.1 * gpu["bytes"] for gpu in found["gpus"])
    assert found["measured"] is False


def test_the_table_has_every_gpu_and_says_that_nothing_was_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", "--config", str(CONFIGS / "five_experts.yaml"), "--gpus", "8x80GB"]) == 0
    said = capsys.readouterr().out
    assert said.count("% of 80 GB)") == 8
    assert "Planned, not measured: no GPU has run this." in said
    assert said.endswith("\nfits\n")


def test_what_does_not_fit_ends_with_what_to_change(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--config", str(CONFIGS / "one_card_four_7b.yaml"), "--gpus", "16GB"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "mistral-7b-fp8: kv_cache 8 GiB -> 5.5 GiB"


def test_a_solution_is_a_configuration_that_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, solved = tmp_path / "given.yaml", tmp_path / "solved.yaml"
    given.write_text((CONFIGS / "five_experts.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    asked = ["plan", "--config", str(given), "--gpus", "8x80GB", "--solve", str(solved)]
    assert main(asked) == 0
    assert main(["plan", "--config", str(solved), "--gpus", "8x80GB"]) == 0
    assert "\nfits\n" in capsys.readouterr().out
    assert load(solved).families["qwen2-72b"].tensor_parallel_size >= 4
    assert set(load(solved).tiers.devices) == set(range(8))


def test_a_solution_with_replicas_fits_and_is_what_the_gateway_accepts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, solved = tmp_path / "given.yaml", tmp_path / "solved.yaml"
    tree = yaml.safe_load((CONFIGS / "two_cards_70b_and_8b.yaml").read_text(encoding="utf-8"))
    small = next(name for name, family in tree["families"].items() if "8b" in name)
    tree["families"][small] |= {"replicas": "auto", "kv_cache": "200GiB", "devices": [0]}
    del tree["families"][small]["devices"]
    given.write_text(yaml.safe_dump(tree), encoding="utf-8")
    asked = ["plan", "--config", str(given), "--gpus", "4x80GB"]
    assert main(asked) == 1
    assert main([*asked, "--solve", str(solved)]) == 0
    assert main(["plan", "--config", str(solved), "--gpus", "4x80GB"]) == 0
    assert capsys.readouterr().out.endswith("\nfits\n")
    found = load(solved)
    assert found.families[small].engines > 1
    served = on_gpus(found, parse_gpus("4x80GB"))
    assert served.node is not None
    assert served.node.fits
    engines = [
        Family(replica_name(name, k), None, 0, devices, name if k else "")
        for name, family in served.settings.families.items()
        for k, devices in enumerate(_groups(family.devices, family.tensor_parallel_size))
    ]
    size = {family.name: family.charged(1) * len(family.devices) for family in served.node.families}
    members = [Member(name, expert.family, size[expert.family]) for name, expert in found.experts.items()]
    TierState(TiersConfig.model_validate({**dict(found.tiers), "host": 0}), members, engines)


def _groups(devices: tuple[int, ...], ranks: int) -> list[tuple[int, ...]]:
    return [devices[first : first + ranks] for first in range(0, len(devices), ranks)]


def test_a_solution_is_written_beside_its_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["plan", "--config", str(CONFIGS / "embedded.yaml"), "--gpus", "24GB"]
    assert main([*asked, "--solve", str(tmp_path / "solved.yaml")]) == 1
    assert "so that its relative paths hold" in capsys.readouterr().err


def test_a_checkpoint_that_nobody_knows_is_asked_for_by_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "tiers: {device: auto}\nfamilies: {f: {}}\n"
        "experts: {e: {family: f, checkpoint: {folder: nowhere}}}\n",
        encoding="utf-8",
    )
    assert main(["plan", "--config", str(file), "--gpus", "24GB"]) == 1
    said = capsys.readouterr().err
    assert f"family f: a plan needs {tmp_path / 'nowhere' / 'config.json'}" in said
