"""Settings with all sizes chosen, for GPUs and for main memory, and compared again on a reload."""

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from experts.errors import CheckpointUnreadable
from experts.spec import CheckpointSource
from memory_tiers.errors import PlanImpossible
from memory_tiers.planning.gpus import parse_gpus
from server.config.settings import Settings
from server.planning.planned import as_before, in_main_memory, on_gpus, planned, visible_first
from server.reload.plan import check_reloadable

LLAMA = {"huggingface": "meta-llama/Llama-3.1-8B-Instruct"}


def settings(families: Mapping[str, Mapping[str, object]], **experts: str) -> Settings:
    """``experts``: name to family."""
    return Settings.model_validate(
        {
            "store": "/nowhere",
            "tiers": {"device": "auto"},
            "families": families,
            "experts": {name: {"family": family, "checkpoint": LLAMA} for name, family in experts.items()},
        }
    )


def test_on_gpus_every_size_is_a_number_and_engines_share_a_gpu() -> None:
    found = on_gpus(settings({"f": {}, "g": {}}, a="f", b="g"), parse_gpus("80GB"))
    assert found.node is not None
    assert found.node.fits
    shares = []
    for family in found.settings.families.values():
        assert family.kv_cache is not None
        assert family.max_model_len is not None
        assert family.max_num_seqs is not None
        name, share = family.extra_args
        assert name == "--gpu-memory-utilization"
        shares.append(float(share))
    assert 0.5 < sum(shares) <= 0.9


def test_what_is_given_stays_and_so_does_a_share_that_an_operator_wrote() -> None:
    given = {
        "max_model_len": 4096,
        "kv_cache": "2GiB",
        "max_num_seqs": 7,
        "extra_args": ["--gpu-memory-utilization=0.3"],
    }
    before = settings({"f": given}, a="f")
    planned_on = on_gpus(before, parse_gpus("80GB"), place=False)
    assert planned_on.settings == before


def test_what_cannot_fit_is_refused_with_what_to_change() -> None:
    with pytest.raises(PlanImpossible, match=r"^f: kv_cache 70 GiB -> 50.5 GiB "):
        on_gpus(settings({"f": {"kv_cache": "70GiB", "max_model_len": 8192}}, a="f"), parse_gpus("80GB"))


def test_what_eats_into_the_reserve_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    tight = settings({"f": {"kv_cache": "54GiB", "max_model_len": 8192}}, a="f")
    with caplog.at_level(logging.WARNING):
        assert on_gpus(tight, parse_gpus("80GB")).node is not None
    assert "less than a tenth of a GPU stays free: f: kv_cache" in caplog.text


def test_a_context_that_was_lowered_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        on_gpus(settings({"f": {}}, a="f"), parse_gpus("24GB"))
    assert "family f: chosen max_model_len" in caplog.text
    assert "the checkpoint's 131,072 does not fit" in caplog.text


def test_in_main_memory_pools_are_small_and_nothing_else_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = settings(
        {"f": {}, "g": {"max_model_len": 512, "kv_cache": "1GiB", "max_num_seqs": 3}}, a="f", b="g"
    )
    found = in_main_memory(before)
    family = found.families["f"]
    assert family.kv_cache is not None
    assert 2**28 <= family.kv_cache <= 2**32
    assert family.max_model_len is not None
    assert family.max_model_len * 262_144 <= family.kv_cache, "one sequence fits, in float32"
    assert family.max_num_seqs is not None
    assert 8 <= family.max_num_seqs <= 32
    assert family.extra_args == ()
    assert found.families["g"] == before.families["g"]


def test_where_all_is_given_or_simulated_no_checkpoint_is_looked_for() -> None:
    tree = settings({"f": {"mode": "simulated"}}, a="f")
    unknown = tree.experts["a"].model_copy(
        update={"checkpoint": tree.experts["a"].checkpoint.model_copy(update={"huggingface": "no/body"})}
    )
    simulated = tree.model_copy(update={"experts": {"a": unknown}})
    assert planned(simulated).settings == simulated


def test_a_reload_of_the_same_file_changes_nothing() -> None:
    written = settings({"f": {}, "g": {"extra_args": ["--seed", "1"]}}, a="f", b="g")
    served = on_gpus(written, parse_gpus("80GB")).settings
    assert served != written
    assert as_before(written, served) == served
    check_reloadable(served, as_before(written, served))


def test_a_reload_does_not_hide_what_was_changed() -> None:
    served = on_gpus(settings({"f": {}}, a="f"), parse_gpus("80GB")).settings
    other = settings({"f": {"kv_cache": "3GiB", "extra_args": ["--seed", "1"]}}, a="f")
    with pytest.raises(Exception, match=r"families\.f\.kv_cache, families\.f\.extra_args cannot change"):
        check_reloadable(served, as_before(other, served))


def test_the_gpus_that_the_environment_names_come_first() -> None:
    gpus = parse_gpus("4x80GB")
    assert [gpu.number for gpu in visible_first(gpus, "2,1")] == [2, 1, 0, 3]
    assert visible_first(gpus, None) == visible_first(gpus, "GPU-1234") == gpus


def test_in_main_memory_a_model_that_does_not_tell_its_sizes_is_left_to_vllm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "strange"}', encoding="utf-8")
    written = settings({"f": {}}, a="f")
    folder = CheckpointSource(folder=tmp_path)
    strange = written.experts["a"].model_copy(update={"checkpoint": folder})
    written = written.model_copy(update={"experts": {"a": strange}})
    assert in_main_memory(written) == written
    assert "family f: what is left out is left to vLLM: " in caplog.text
    with pytest.raises(CheckpointUnreadable):
        on_gpus(written, parse_gpus("80GB"))


def test_replicas_are_on_a_group_of_gpus_each_and_auto_on_as_many_as_there_are() -> None:
    found = on_gpus(settings({"f": {"replicas": "auto"}}, a="f", b="f"), parse_gpus("4x80GB"))
    assert found.node is not None
    assert found.node.fits
    assert (found.settings.families["f"].engines, found.settings.families["f"].devices) == (4, (0, 1, 2, 3))
    assert found.node.device_parts.keys() == {0, 1, 2, 3}
    pairs = settings(
        {"f": {"replicas": "auto", "tensor_parallel_size": 2, "devices": [3, 1, 0]}}, a="f", b="f"
    )
    assert on_gpus(pairs, parse_gpus("4x80GB")).settings.families["f"].devices == (3, 1)


def test_more_replicas_than_there_are_gpus_for_are_refused() -> None:
    with pytest.raises(PlanImpossible, match="f: 3 replicas of tensor_parallel_size 2 need 6 devices, and"):
        on_gpus(settings({"f": {"replicas": 3, "tensor_parallel_size": 2}}, a="f"), parse_gpus("4x80GB"))


def test_replicas_without_devices_never_share_a_gpu_that_nobody_numbered() -> None:
    given = settings({"f": {"replicas": 2}}, a="f")
    with pytest.raises(PlanImpossible, match=r"f: CUDA_VISIBLE_DEVICES names GPUs by no numbers"):
        on_gpus(given, parse_gpus("2x80GB"), place=False)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"replicas": 0}, "0 is neither auto nor a whole number from 1"),
        ({"replicas": "many"}, "'many' is neither auto nor a whole number from 1"),
        ({"replicas": 2, "devices": [0]}, "need 2 devices, and 1 are named"),
    ],
)
def test_replicas_that_cannot_be_are_refused(given: Mapping[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings({"f": given}, a="f")


def test_a_reload_compares_replicas_as_they_were_written() -> None:
    before = settings({"f": {"replicas": "auto"}}, a="f", b="f")
    served = on_gpus(before, parse_gpus("2x80GB")).settings
    check_reloadable(served, as_before(before, served))
