"""Messages of the README's commands when they cannot do their work."""

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def test_the_tests_end_with_a_line_that_names_the_step_that_failed() -> None:
    wrong = {**os.environ, "COE_BUILD": "gpu"}
    done = subprocess.run([ROOT / "scripts" / "test"], env=wrong, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = done.stderr.splitlines()
    assert said[0] == "install: COE_BUILD must be cpu or cuda, not 'gpu'"
    assert said[-1].startswith("test: no test ran: 'env COE_EXTRAS=dev scripts/install' failed")


def test_the_image_runs_as_a_user_without_rights() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["10001:10001", "10001:10001"], "one in each stage"
    assert lines.index(f"USER {users[-1]}") < lines.index('ENTRYPOINT ["scripts/serve", "--host", "0.0.0.0"]')


def test_programs_that_the_image_needs_are_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "dirname").symlink_to(shutil.which("dirname") or "")
    done = subprocess.run(
        ["/bin/bash", ROOT / "scripts" / "check_image"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "check_image: no buildah debootstrap ip unshare here; "
        "on Debian and Ubuntu: apt-get install buildah debootstrap iproute2 util-linux\n"
    )


def test_the_image_is_built_of_every_package_that_ships() -> None:
    taken = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(wheel["only-include"]) <= taken


@pytest.mark.parametrize("build", ["cpu", "cuda"])
def test_the_lock_has_exact_versions_of_all_that_is_asked_for_and_no_host(build: str) -> None:
    lines = (ROOT / "scripts" / f"lock.{build}.txt").read_text().splitlines()
    locked = [Requirement(line) for line in lines if not line.startswith("#")]
    assert all(len(each.specifier) == 1 and str(each.specifier).startswith("==") for each in locked)
    assert not any("://" in line or line.startswith("-") for line in lines)
    versions: dict[str, list[str]] = {}
    for each in locked:
        name, (pinned,) = canonicalize_name(each.name), tuple(each.specifier)
        versions.setdefault(name, []).append(pinned.version)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [Requirement(text) for text in (*project["dependencies"], *extras[build], *extras["nightly"])]
    wanted += map(Requirement, extras["dev"])
    missing = [
        str(each)
        for each in wanted
        if each.name != project["name"]
        and not any(each.specifier.contains(v) for v in versions.get(canonicalize_name(each.name), []))
    ]
    assert missing == [], "scripts/lock writes them anew"
