"""What machines can do: the published ratios follow from the published bandwidths."""

import json
from pathlib import Path

import pytest

from memory_tiers.errors import SimulationImpossible
from memory_tiers.simulator.profile_lookup import profile_of
from memory_tiers.simulator.profiles import BUILT_IN, Profile
from memory_tiers.simulator.this_machine import measured

LLAMA_2_7B = 13_500_000_000
"""Bytes in bfloat16."""


def times_sn40l(name: str, links: int | None = None) -> float:
    """How many times as long as an SN40L's a switch takes."""
    there = BUILT_IN[name].switch_seconds(LLAMA_2_7B, links)
    return there / BUILT_IN["sn40l"].switch_seconds(LLAMA_2_7B)


def test_the_published_switch_ratios_come_out() -> None:
    assert BUILT_IN["sn40l"].switch_seconds(LLAMA_2_7B) == 0.0135
    assert round(times_sn40l("dgx-h100"), 1) == 15.6
    assert round(times_sn40l("dgx-a100")) == 31


def test_the_published_footprint_comes_out() -> None:
    assert round(BUILT_IN["sn40l"].host / BUILT_IN["dgx-a100"].device) == 19
    assert round(BUILT_IN["sn40l"].host / BUILT_IN["dgx-h100"].device) == 19


def test_over_all_its_links_a_gpu_node_is_eight_times_closer() -> None:
    assert round(times_sn40l("dgx-h100", 8), 2) == 1.95
    assert round(times_sn40l("dgx-a100", 8), 2) == 3.91


FIGURES = {
    *("device", "host", "link_bytes_per_s", "links", "published_links"),
    *("disk_bytes_per_s", "memory_bytes_per_s", "start_s"),
}


@pytest.mark.parametrize("profile", [*BUILT_IN.values(), measured(2**20)], ids=lambda profile: profile.name)
def test_every_figure_that_is_given_has_a_source(profile: Profile) -> None:
    given = profile.model_fields_set - {"name", "sources"}
    assert given <= FIGURES
    assert set(profile.sources) == given


def test_this_machine_can_copy_and_read() -> None:
    profile = measured(2**20)
    assert profile.link_bytes_per_s > 0
    assert profile.disk_bytes_per_s > 0


def test_a_profile_can_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(
        "{device: 80GB, host: 1TB, link_bytes_per_s: 50GB, disk_bytes_per_s: 5GB, memory_bytes_per_s: 3TB}"
    )
    profile = profile_of(str(path))
    assert (profile.name, profile.device, profile.links) == (str(path), 80 * 10**9, 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("device: [", "not YAML"),
        ("nonsense", "valid dictionary"),
        (json.dumps({"device": "80GB"}), "host: Field required"),
        ("{device: 80GB, wheels: 4}", "wheels: Extra inputs"),
    ],
)
def test_what_is_no_profile_is_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(text)
    with pytest.raises(SimulationImpossible, match=says) as caught:
        profile_of(str(path))
    assert "\n" not in str(caught.value)


def test_an_unknown_profile_names_those_there_are() -> None:
    with pytest.raises(SimulationImpossible, match=r"built in are sn40l, .*, rtx-4090, this-machine"):
        profile_of("tpu")
