"""What a machine has, read from folders that look like one."""

import os
from pathlib import Path

import pytest

from experts.errors import MemoryUnknown
from experts.memory.machine_memory import Room, check_free, memory
from experts.memory.shared_memory import room_in, shared_memory
from tests.experts.memory.fake_machine import GB, FakeMachine

V1_UNLIMITED = 0x7FFFFFFFFFFFF000


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path)


def test_without_cgroups_all_that_is_available_is_ours(machine: FakeMachine) -> None:
    assert memory(machine.root) == Room(64 * GB, "MemAvailable of /proc/meminfo")


def test_version_2_leaves_its_limit_less_what_is_in_use_without_idle_file_cache(machine: FakeMachine) -> None:
    machine.in_version_2("/a")
    machine.version_2("a", limit=8 * GB, used=3 * GB, inactive=1 * GB)
    assert memory(machine.root) == Room(6 * GB, "the limit of /sys/fs/cgroup/a")


def test_version_1_leaves_the_same(machine: FakeMachine) -> None:
    machine.in_version_1("/a")
    machine.version_1("a", limit=8 * GB, used=3 * GB, inactive=1 * GB)
    assert memory(machine.root) == Room(6 * GB, "the limit of /sys/fs/cgroup/memory/a")


def test_no_limit_is_none_in_both_versions(machine: FakeMachine) -> None:
    machine.in_version_2("/a")
    machine.version_2("a", limit="max", used=3 * GB)
    assert memory(machine.root).bytes == 64 * GB
    machine.in_version_1("/a")
    machine.version_1("a", limit=V1_UNLIMITED, used=3 * GB)
    assert memory(machine.root).bytes == 64 * GB


def test_what_is_throttled_is_not_free(machine: FakeMachine) -> None:
    machine.in_version_2("/a")
    machine.version_2("a", limit=8 * GB, used=0, high=5 * GB)
    assert memory(machine.root).bytes == 5 * GB
    machine.version_2("a", limit="max", used=0, high=4 * GB)
    assert memory(machine.root).bytes == 4 * GB


def test_the_tightest_of_nested_cgroups_counts_also_for_what_neighbours_use(machine: FakeMachine) -> None:
    machine.in_version_2("/a/b/c")
    machine.version_2("a", limit=9 * GB, used=8 * GB)
    machine.version_2("a/b", limit="max", used=2 * GB)
    machine.version_2("a/b/c", limit=4 * GB, used=1 * GB)
    assert memory(machine.root) == Room(1 * GB, "the limit of /sys/fs/cgroup/a")


def test_a_machine_that_has_less_than_the_limit_says_so(machine: FakeMachine) -> None:
    machine.in_version_2("/a")
    machine.version_2("a", limit=100 * GB, used=0)
    assert memory(machine.root).source == "MemAvailable of /proc/meminfo"


def test_in_a_container_the_mounted_folder_is_its_own_cgroup(machine: FakeMachine) -> None:
    machine.version_2("", limit=8 * GB, used=1 * GB)
    for cgroup, top in (("/", "/"), ("/docker/1", "/docker/1"), ("/../2", "/"), ("/", "/docker/1")):
        machine.in_version_2(cgroup, top)
        assert memory(machine.root) == Room(7 * GB, "the limit of /sys/fs/cgroup")


def test_a_cgroup_below_the_mounted_one_is_found_from_there(machine: FakeMachine) -> None:
    machine.in_version_1("/docker/1/inner", "/docker/1")
    machine.version_1("", limit=8 * GB, used=1 * GB)
    machine.version_1("inner", limit=3 * GB, used=1 * GB)
    assert memory(machine.root) == Room(2 * GB, "the limit of /sys/fs/cgroup/memory/inner")


def test_files_that_are_missing_or_odd_limit_nothing(machine: FakeMachine) -> None:
    machine.in_version_2("/a/b")
    assert memory(machine.root).bytes == 64 * GB
    machine.write("sys/fs/cgroup/a/memory.max", str(GB))
    assert memory(machine.root).bytes == 64 * GB, "nobody says what is in use"
    machine.write("sys/fs/cgroup/a/memory.current", "0")
    assert memory(machine.root).bytes == GB, "without statistics nothing can be reclaimed"
    machine.write("sys/fs/cgroup/a/memory.max", "a lot")
    assert memory(machine.root).bytes == 64 * GB


def test_what_is_over_its_limit_leaves_nothing_and_not_less(machine: FakeMachine) -> None:
    machine.in_version_2("/a")
    machine.version_2("a", limit=GB, used=2 * GB)
    assert memory(machine.root).bytes == 0


@pytest.mark.parametrize("text", [None, "MemTotal: 5 kB"])
def test_a_machine_that_does_not_tell_is_asked_for_bytes(machine: FakeMachine, text: str | None) -> None:
    (machine.root / "proc/meminfo").unlink()
    if text is not None:
        machine.write("proc/meminfo", text)
    with pytest.raises(MemoryUnknown, match=r"meminfo .*give tiers.device and tiers.host in bytes"):
        memory(machine.root)


def test_this_machine_tells() -> None:
    assert 0 < memory().bytes < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert shared_memory().source == "/dev/shm"


def test_no_shared_memory_is_said(tmp_path: Path) -> None:
    with pytest.raises(MemoryUnknown, match=r"give tiers\.host in bytes"):
        shared_memory(tmp_path / "nowhere")


def test_pressed_for_memory_all_file_cache_counts_as_free(machine: FakeMachine) -> None:
    machine.in_version_2("/a")
    machine.version_2("a", limit=8 * GB, used=7 * GB, inactive=1 * GB, active=2 * GB)
    assert memory(machine.root).bytes == 2 * GB
    assert memory(machine.root, pressed=True).bytes == 4 * GB
    machine.in_version_1("/b")
    machine.version_1("b", limit=8 * GB, used=7 * GB, inactive=1 * GB, active=2 * GB)
    assert memory(machine.root, pressed=True).bytes == 4 * GB


def test_shared_memory_has_no_more_room_than_there_is_memory(machine: FakeMachine, tmp_path: Path) -> None:
    machine.in_version_2("/a")
    machine.version_2("a", limit=8 * GB, used=8 * GB - 1000)
    assert room_in(tmp_path, machine.root) == 1000
    (machine.root / "proc/meminfo").unlink()
    assert room_in(tmp_path, machine.root) > 1000, "who does not tell limits nothing"


def test_what_cannot_be_had_is_no_memory_before_the_kernel_finds_out(machine: FakeMachine) -> None:
    machine.in_version_2("/a")
    machine.version_2("a", limit=2000, used=1000)
    check_free(1000, machine.root)
    with pytest.raises(
        MemoryError, match=r"needs 1,001 bytes, 1,000 are free \(the limit of /sys/fs/cgroup/a\)"
    ):
        check_free(1001, machine.root)
    (machine.root / "proc/meminfo").unlink()
    check_free(1001, machine.root)
