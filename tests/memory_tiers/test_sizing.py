"""Budgets that are auto, on machines of every size."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ByteSize

from experts.memory.machine_memory import Room
from experts.spec import Expert, FamilyConfig
from memory_tiers.errors import BudgetTooSmall
from memory_tiers.feasibility import check_members
from memory_tiers.members import Family, Member
from memory_tiers.sizing import (
    WORKER_BYTES,
    FamilyNeeds,
    Lowered,
    Machine,
    sized,
    within_shared_memory,
)
from memory_tiers.tiers import TiersConfig, TiersSettings

GB = 10**9
MB = 10**6
KV = 10**9
PLENTY = 10**15


def expert(name: str, size: int = 1000 * MB, pinned: bool = False) -> Expert:
    """In bfloat16, and on CPU in bfloat16 too, so that its largest form is a quarter more."""
    return Expert(name, "f", Path("/nowhere"), size, size // 2, "f", "", pinned=pinned)


def family(
    count: int, resident_limit: int | None = None, held: int = 0, size: int = 1000 * MB, **config: object
) -> FamilyNeeds:
    given = {"dtype": "bfloat16", "kv_cache": KV, **config}
    members = [expert(f"e{number}", size) for number in range(count)]
    return FamilyNeeds(FamilyConfig.model_validate(given), members, resident_limit, held)


def cpu(free: int, shared: int = PLENTY) -> Machine:
    return Machine("cpu", Room(free, "meminfo"), Room(shared, "/dev/shm"))


def cuda(free: int, gpus: int, shared: int = PLENTY) -> Machine:
    return Machine(
        "cuda", Room(free, "meminfo"), Room(shared, "/dev/shm"), {0: gpus // 2, 1: gpus - gpus // 2}
    )


def budgets(
    *families: FamilyNeeds, on: Machine, device: int | str = "auto", host: int | str = "auto"
) -> tuple[int, int]:
    found = sized(TiersSettings(device=device, host=host), families, on).config  # type: ignore[arg-type]
    assert type(found) is TiersConfig
    assert isinstance(found.device, int)
    assert isinstance(found.host, int)
    return int(found.device), int(found.host)


def free_for_weights(weights: int, workers: int = 1) -> int:
    """Main memory of which so much is left for weights: a tenth is reserve."""
    return round((weights + workers * (WORKER_BYTES + KV)) / 0.9)


def test_where_all_fit_on_the_device_they_do_and_the_host_has_what_is_left() -> None:
    assert budgets(family(4), on=cpu(free_for_weights(8 * GB))) == (5 * GB, 3 * GB)


def test_where_they_do_not_each_tier_has_half() -> None:
    assert budgets(family(10), on=cpu(free_for_weights(8 * GB))) == (4 * GB, 4 * GB)


def test_the_device_has_at_least_room_for_one_expert_beside_what_never_leaves() -> None:
    pinned = FamilyNeeds(
        family(0).config, [expert("a", pinned=True), *(expert(name) for name in "bcd")], None
    )
    device, host = budgets(pinned, on=cpu(free_for_weights(4 * GB)))
    assert (device, host) == (2500 * MB, 1500 * MB)


def test_a_host_without_room_for_an_expert_has_nothing() -> None:
    assert budgets(family(10), on=cpu(free_for_weights(2 * GB))) == (2 * GB, 0)


def test_the_host_has_no_more_than_all_experts_fill_and_the_device_the_rest() -> None:
    device, host = budgets(family(2), on=cpu(free_for_weights(100 * GB)))
    assert host == 3 * 1250 * MB, "one of them is there twice while its image is made"
    assert device == 100 * GB - host


def test_the_host_has_no_more_than_shared_memory_and_the_device_the_rest() -> None:
    assert budgets(family(10), on=cpu(free_for_weights(8 * GB), shared=2 * GB)) == (6 * GB, 2 * GB)
    assert budgets(family(10), on=cpu(free_for_weights(8 * GB), shared=64 * MB)) == (8 * GB, 0)


def test_what_is_given_in_bytes_stays_and_the_other_tier_has_what_it_leaves() -> None:
    machine = cpu(free_for_weights(8 * GB))
    assert budgets(family(10), on=machine, device=3 * GB) == (3 * GB, 5 * GB)
    assert budgets(family(10), on=machine, host=3 * GB) == (5 * GB, 3 * GB)
    assert budgets(family(10), on=machine, device=9 * GB) == (9 * GB, 0)
    assert budgets(family(10), on=machine, host=9 * GB) == (0, 9 * GB)
    assert budgets(family(10), on=machine, device=1, host=2) == (1, 2)


def test_each_worker_takes_a_kv_pool_and_its_own_memory() -> None:
    three = family(10, tensor_parallel_size=3)
    assert budgets(three, on=cpu(free_for_weights(8 * GB, workers=3))) == (4 * GB, 4 * GB)


def test_simulated_engines_take_nothing_beside_weights() -> None:
    simulated = family(10, mode="simulated")
    assert budgets(simulated, on=cpu(free_for_weights(8 * GB, workers=0))) == (4 * GB, 4 * GB)


def test_where_the_type_is_not_settled_on_cpu_weights_may_need_float32() -> None:
    _, host = budgets(family(2, dtype="auto"), on=cpu(free_for_weights(100 * GB)))
    assert host == 3 * 2500 * MB


def test_a_plain_engine_holds_one_at_a_time_and_the_host_the_others() -> None:
    assert budgets(family(10, resident_limit=1, mode="plain"), on=cpu(free_for_weights(8 * GB))) == (
        1250 * MB,
        6750 * MB,
    )


def test_lora_experts_need_their_base_once_and_little_on_the_host() -> None:
    base = {"embedded": "base"}
    adapters = family(5, resident_limit=8, held=700 * MB, size=5 * MB, mode="lora", base=base)
    device, host = budgets(adapters, on=cpu(free_for_weights(8 * GB)))
    assert host == 6 * 5 * MB
    assert device == 8 * GB - host


def test_on_cuda_the_device_has_what_the_plan_gives_to_experts() -> None:
    device, host = budgets(family(4), on=cuda(free_for_weights(100 * GB), gpus=48 * GB))
    assert device == 48 * GB
    assert host == 5 * 1000 * MB


def test_each_gpu_has_a_budget_where_every_family_says_its_gpus() -> None:
    settings, machine = TiersSettings(device="auto", host="auto"), cuda(50 * GB, gpus=80 * GB)
    placed = family(2, devices=(0, 1), tensor_parallel_size=2)
    assert sized(settings, [placed], machine).config.device_parts == {0: 40 * GB, 1: 40 * GB}
    assert sized(settings, [placed, family(2)], machine).config.device_parts == {0: 80 * GB}


def test_on_cuda_the_host_is_bounded_by_main_memory_and_shared_memory() -> None:
    forty = family(40)
    assert budgets(forty, on=cuda(round(12 * GB / 0.9), gpus=80 * GB))[1] == 10 * GB
    assert budgets(forty, on=cuda(PLENTY, gpus=80 * GB, shared=6 * GB))[1] == 6 * GB


def test_where_nobody_asks_the_gpus_only_the_host_is_sized() -> None:
    machine = Machine("cuda", Room(PLENTY, "meminfo"), Room(PLENTY, "/dev/shm"))
    assert budgets(family(4), on=machine, device=7 * GB) == (7 * GB, 5 * GB)


def test_a_machine_too_small_is_refused_with_the_numbers_and_no_other_way() -> None:
    small = family(2)
    found = sized(TiersSettings(device="auto", host="auto"), [small], cpu(3 * GB))
    assert (found.config.device, found.config.host) == (0, 0)
    with pytest.raises(BudgetTooSmall, match=r"needs 1,000,000,000 bytes, over tiers\.device of 0 bytes"):
        check_members(found.config, [Member.of(expert) for expert in small.experts], [Family("f", None)])


def test_the_reason_names_every_source_and_number() -> None:
    settings = TiersSettings(device="auto", host="auto")
    why = sized(settings, [family(2)], cuda(50 * GB, gpus=80 * GB)).why
    for part in (
        "50,000,000,000",
        "meminfo",
        "/dev/shm",
        "planned, not measured",
        "40,000,000,000 on GPU 1",
        f"{WORKER_BYTES:,}",
    ):
        assert part in why
    assert "planned" not in sized(settings, [family(2)], cpu(50 * GB)).why


def test_what_else_is_configured_stays(tmp_path: Path) -> None:
    settings = TiersSettings(device="auto", max_queue=7, policy="lru", event_log=tmp_path / "log")
    config = sized(settings, [family(1)], cpu(50 * GB)).config
    assert dict(config) == {**dict(settings), "device": config.device}


@given(
    free=st.integers(0, 10**12),
    shared=st.integers(0, 10**12),
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    limit=st.sampled_from([None, 1, 4]),
)
def test_device_host_pools_and_workers_never_exceed_what_is_free(
    free: int, shared: int, counts: list[int], limit: int | None
) -> None:
    families = [family(count, resident_limit=limit) for count in counts]
    device, host = budgets(*families, on=cpu(free, shared))
    assert host <= shared
    if device or host:
        assert device + host + len(families) * (WORKER_BYTES + KV) <= free


def test_a_host_budget_over_what_shared_memory_holds_is_lowered_to_that() -> None:
    settings = TiersSettings(device=ByteSize(GB), host=ByteSize(60 * GB))
    lowered = within_shared_memory(settings, Room(24 * GB, "/dev/shm"))
    assert lowered.settings.host == 24 * GB
    assert lowered.settings.device == GB
    assert lowered.warning == (
        "tiers.host is 60,000,000,000 bytes, but /dev/shm can hold 24,000,000,000: the host tier does with "
        "those; lower tiers.host or make the shared memory larger"
    )


@pytest.mark.parametrize("host", ["auto", 0, 24 * GB])
def test_a_host_budget_that_shared_memory_can_hold_stays(host: int | str) -> None:
    settings = TiersSettings(device=ByteSize(GB), host=host)  # type: ignore[arg-type]
    assert within_shared_memory(settings, Room(24 * GB, "/dev/shm")) == Lowered(settings, None)
