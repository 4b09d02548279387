"""Nodes planned by hand-sized models, and every GPU's sum."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.footprint.architecture import Architecture
from experts.footprint.model import Model
from experts.footprint.published import LLAMA_3_1_8B, LLAMA_3_1_70B
from experts.spec import FamilyConfig
from memory_tiers.errors import PlanImpossible
from memory_tiers.planning.advice import GATHER, advice
from memory_tiers.planning.costs import FLIP_S, costs_of, profile_for
from memory_tiers.planning.demand import FamilyDemand
from memory_tiers.planning.gpus import Gpu, parse_gpus
from memory_tiers.planning.node_plan import NodePlan
from memory_tiers.planning.planner import plan
from memory_tiers.planning.solve import solve
from memory_tiers.planning.worst_case import most_on

GB = 10**9
GIB = 2**30
OPEN = {"kv_cache": None, "max_model_len": None, "max_num_seqs": None}


def family(
    name: str = "f",
    experts: int = 1,
    architecture: Architecture = LLAMA_3_1_8B,
    *,
    reason: str | None = None,
    pinned: int = 0,
    opened: bool = False,
    **config: object,
) -> FamilyDemand:
    sizes = {"max_model_len": 8192, "kv_cache": "4GiB", "max_num_seqs": 64, **config}
    made = FamilyConfig.model_validate(sizes)
    made = made.model_copy(update=OPEN) if opened else made
    return FamilyDemand(name, made, Model(architecture, "a test", plain_because=reason), experts, pinned)


def shares(planned: NodePlan, gpu: int = 0) -> dict[str, int]:
    """Bytes of each family on a GPU."""
    return {share.family: share.total for share in planned.gpus[gpu].shares}


def test_gpus_are_read_as_an_operator_writes_them() -> None:
    assert parse_gpus("8x80GB") == tuple(Gpu(number, 80 * GB) for number in range(8))
    assert [gpu.bytes for gpu in parse_gpus("2x80GB, 24GiB")] == [80 * GB, 80 * GB, 24 * GIB]


@pytest.mark.parametrize("text", ["", "8x", "0x80GB", "eight", "8x80GB,", "65x80GB", "1x0GB"])
def test_what_is_no_list_of_gpus_is_refused(text: str) -> None:
    with pytest.raises(PlanImpossible, match="write 8x80GB"):
        parse_gpus(text)


def test_where_graphs_are_shared_two_experts_need_a_working_copy_and_one_does_not() -> None:
    size = LLAMA_3_1_8B_BYTES
    demands = [family(experts=count, cuda_graphs="shared") for count in (1, 2)]
    one, two = (plan([demand], parse_gpus("80GB")).gpus[0].shares[0] for demand in demands)
    assert (one.weights, one.working_copy) == (size, 0)
    assert (two.weights, two.working_copy) == (2 * size, size)
    assert one.graphs == two.graphs > 0
    assert two.charged == two.weights


def test_where_each_expert_has_graphs_of_its_own_they_are_charged_with_it_and_nothing_is_copied() -> None:
    demands = [family(experts=count) for count in (1, 3)]
    one, three = (plan([demand], parse_gpus("80GB")).gpus[0].shares[0] for demand in demands)
    assert (three.weights, three.working_copy) == (3 * LLAMA_3_1_8B_BYTES, 0)
    assert three.graphs == 3 * one.graphs > 0
    assert three.charged == three.weights + three.graphs
    assert costs_of(plan([demands[1]], parse_gpus("80GB")).families[0], profile_for(80 * GB)).switch == FLIP_S


LLAMA_3_1_8B_BYTES = Model(LLAMA_3_1_8B, "a test").shard_bytes(1)


def test_plain_mode_holds_one_expert_and_no_copy() -> None:
    planned = plan([family(experts=4, mode="plain")], parse_gpus("24GB"))
    share = planned.gpus[0].shares[0]
    assert (share.weights, share.working_copy, planned.families[0].resident) == (LLAMA_3_1_8B_BYTES, 0, 1)


def test_a_model_whose_state_would_mix_is_planned_plain_and_says_why() -> None:
    found = plan([family(experts=3, reason="it mixes")], parse_gpus("80GB")).families[0]
    assert (found.resident, found.demand.mode, found.notes) == (1, "plain", ("mode plain: it mixes",))


def test_more_experts_become_resident_while_the_gpu_keeps_its_reserve() -> None:
    planned = plan([family(experts=12)], (Gpu(0, 141 * GB),))
    assert planned.families[0].resident == 7
    assert planned.fits
    one_more = planned.gpus[0].used + LLAMA_3_1_8B_BYTES
    assert one_more > 0.9 * 141 * GB


def test_a_budget_in_bytes_says_how_many_are_resident() -> None:
    three = 3 * family().charged
    assert plan([family(experts=12)], (Gpu(0, 141 * GB),), budget=three).families[0].resident == 3
    assert plan([family(experts=12)], (Gpu(0, 141 * GB),), budget=three - 1).families[0].resident == 2
    short = plan([family(experts=12)], (Gpu(0, 141 * GB),), budget=LLAMA_3_1_8B_BYTES)
    assert short.short == ("tiers.device 16.1 GB -> 32.3 GB, or auto",)


def test_one_budget_over_two_gpus_lets_experts_gather_on_one() -> None:
    """tiers.device is a sum: what one family leaves the other may take."""
    demands = [family("a", 12, devices=[0]), family("b", 12, devices=[1])]
    planned = plan(demands, parse_gpus("2x141GB"), together=True)
    counts = most_on(planned.families, planned.device)
    assert counts == {found.name: found.resident for found in planned.families}
    assert planned.fits
    assert planned.device < 2 * 6 * LLAMA_3_1_8B_BYTES


def test_what_is_left_out_follows_from_what_is_left() -> None:
    planned = plan([family(experts=2, opened=True)], parse_gpus("80GB"))
    found = planned.families[0]
    assert found.max_model_len == 131_072, "the checkpoint's"
    assert found.kv_tokens >= 131_072
    assert found.max_num_seqs == found.kv_tokens // 2048
    assert planned.fits
    assert planned.gpus[0].free < 0.12 * 80 * GB, "no more than the reserve is idle"


def test_a_context_that_does_not_fit_is_lowered_and_said() -> None:
    planned = plan([family(opened=True)], parse_gpus("24GB"))
    found = planned.families[0]
    assert found.max_model_len < 131_072
    assert found.longest_sequences >= 1
    assert f"max_model_len is {found.max_model_len:,}" in found.notes[0]
    assert planned.fits


def test_a_pool_too_small_for_one_sequence_is_said_with_what_would_do() -> None:
    planned = plan([family(kv_cache="256MiB")], parse_gpus("80GB"))
    assert planned.short == (
        "f: kv_cache 0.25 GiB -> 1 GiB, or max_model_len 8192 -> 2048: the pool does not hold one sequence",
    )
    assert not planned.fits


def test_where_a_pool_is_too_large_the_advice_is_a_smaller_one_or_other_gpus() -> None:
    demands = [
        family("large", architecture=LLAMA_3_1_70B, tensor_parallel_size=4, devices=[0, 1, 2, 3]),
        family("small", kv_cache="24GiB", devices=[0]),
    ]
    (line,) = advice(demands, parse_gpus("6x80GB"), None)
    assert line == "small: kv_cache 24 GiB -> 11.75 GiB, or devices [5]"


def test_following_the_advice_makes_it_fit() -> None:
    demands = [family("a", kv_cache="40GiB"), family("b", kv_cache="40GiB")]
    lines = advice(demands, parse_gpus("80GB"), None)
    assert lines[-1].startswith(("a: kv_cache 40 GiB -> ", "b: kv_cache 40 GiB -> "))
    sizes = {line[0]: line.split(" -> ")[1].split(",")[0].replace(" ", "") for line in lines}
    assert sizes.keys() == {"a", "b"}
    again = [family(name, kv_cache=sizes[name]) for name in "ab"]
    assert plan(again, parse_gpus("80GB")).fits


def test_where_one_family_could_take_what_another_leaves_the_advice_is_a_pin() -> None:
    demands = [
        family("large", architecture=LLAMA_3_1_70B, tensor_parallel_size=4, kv_cache="3GiB"),
        family("small", 12, devices=[3], kv_cache="1GiB", mode="interleaved"),
    ]
    gpus = parse_gpus("4x110GB")
    assert advice(demands, gpus, None) == [], "each GPU has a budget of its own"
    lines = advice(demands, gpus, plan(demands, gpus, together=True).device)
    assert len(lines) == 1
    assert lines[0].startswith(f"small: pin the expert of large, {GATHER}")


def test_each_gpu_has_what_the_plan_gives_it_where_the_budget_is_auto() -> None:
    demands = [family("a", 12, devices=[0]), family("b", 12, devices=[1])]
    planned = plan(demands, parse_gpus("2x141GB"))
    assert [found.resident for found in planned.families] == [7, 7]
    assert planned.fits
    assert planned.devices == planned.device_parts
    assert planned.device == sum(planned.devices.values())
    assert plan(demands, parse_gpus("2x141GB"), planned.devices).fits


def test_a_budget_of_each_gpu_says_how_many_are_resident_there() -> None:
    demands = [family("a", 12, devices=[0]), family("b", 12, devices=[1])]
    three = 3 * family().charged
    planned = plan(demands, parse_gpus("2x80GB"), {0: three, 1: three - 1})
    assert [found.resident for found in planned.families] == [3, 2]
    assert [gpu.spare for gpu in planned.gpus] == [0, family().charged - 1]
    assert planned.gpus[0].used == planned.gpus[1].used + 1, "what is left of a budget may be filled"
    assert (planned.device, planned.devices) == (2 * three - 1, {0: three, 1: three - 1})
    assert planned.fits


def test_a_budget_of_a_gpu_that_is_too_large_too_small_or_missing_is_said() -> None:
    demands = [family("a", 12, devices=[0]), family("b", 12, devices=[1])]
    gpus, one = parse_gpus("2x80GB"), family().charged
    assert advice(demands, gpus, {0: 2 * one}) == [
        "b: GPU 1 has no budget in tiers.devices: add one, or devices [0]"
    ]
    assert advice(demands, gpus, {0: 2 * one, 1: one}) == ["tiers.devices.1 16.1 GB -> 32.3 GB"]
    (line,) = advice([family("a", 12, kv_cache="1GiB")], parse_gpus("80GB"), {0: 80 * GB})
    assert line.startswith("tiers.devices.0: 80.0 GB -> ")
    lower = float(line.split(" -> ")[1].split()[0]) * GB
    assert plan([family("a", 12, kv_cache="1GiB")], parse_gpus("80GB"), {0: int(lower)}).fits


def test_what_is_left_out_follows_from_the_budget_of_each_gpu() -> None:
    budget = {0: 3 * family().charged}
    planned = plan([family(experts=12, opened=True)], parse_gpus("80GB"), budget)
    assert planned.fits
    assert planned.families[0].resident == 3
    assert planned.gpus[0].free < 0.12 * 80 * GB


def test_advice_for_engines_of_one_family_is_for_all_of_them() -> None:
    engines = [family(name, kv_cache="60GiB", devices=[k]) for k, name in enumerate(("f", "f#2"))]
    (line,) = advice(engines, parse_gpus("2x80GB"), None)
    assert line == "f: kv_cache 60 GiB -> 50.5 GiB", "one replica fewer would leave the other too full"
    uneven = [family(name, kv_cache="40GiB", devices=[k]) for k, name in enumerate(("f", "f#2"))]
    (line,) = advice(uneven, parse_gpus("80GB,40GB"), None)
    assert line == "f: kv_cache 40 GiB -> 17.5 GiB, or replicas 2 -> 1 with devices [0]"


def test_what_no_change_mends_says_how_much_it_is() -> None:
    lines = advice([family(architecture=LLAMA_3_1_70B)], parse_gpus("80GB"), None)
    assert lines[-1].startswith("GPU 0: f take ")
    assert advice([family()], parse_gpus("80GB"), None) == []


def test_gpus_that_are_not_there_and_heads_that_do_not_split_are_refused() -> None:
    with pytest.raises(PlanImpossible, match=r"f: devices \[3\] are not there; the node has 2"):
        plan([family(devices=[3])], parse_gpus("2x80GB"))
    with pytest.raises(PlanImpossible, match="needs as many devices, and there are 1"):
        plan([family(tensor_parallel_size=2, devices=[1])], parse_gpus("2x80GB"))
    with pytest.raises(PlanImpossible, match="32 attention heads cannot be split"):
        plan([family(tensor_parallel_size=3)], parse_gpus("8x80GB"))


def test_engines_on_a_gpu_ask_vllm_for_no_more_than_their_parts() -> None:
    planned = plan([family("a"), family("b")], parse_gpus("80GB"))
    for found in planned.families:
        share = planned.utilization(found)
        assert share * 80 * GB <= shares(planned)[found.name]
        assert share > 0.2
    assert sum(planned.utilization(found) for found in planned.families) <= 0.9


def test_vllms_own_arguments_are_counted() -> None:
    eager = plan([family(extra_args=["--enforce-eager"])], parse_gpus("80GB")).gpus[0].shares[0]
    assert eager.graphs == eager.working_copy == 0, "without graphs no address is captured"
    short = family(extra_args=["--max-num-batched-tokens=512"])
    usual = family()
    assert plan([short], parse_gpus("80GB")).gpus[0].used < plan([usual], parse_gpus("80GB")).gpus[0].used
    eight = family(extra_args=["--kv-cache-dtype", "fp8"])
    assert 2 * eight.kv_bytes_per_token == usual.kv_bytes_per_token


def test_costs_follow_the_bandwidths() -> None:
    found = plan([family(experts=3, cuda_graphs="shared")], parse_gpus("80GB")).families[0]
    costs = costs_of(found, profile_for(80 * GB))
    assert costs.switch == pytest.approx(2 * LLAMA_3_1_8B_BYTES / 2e12)
    assert costs.load_from_host == pytest.approx(LLAMA_3_1_8B_BYTES / 32e9)
    assert costs.load_from_disk == pytest.approx(costs.load_from_host + LLAMA_3_1_8B_BYTES / 24e9)
    alone = plan([family()], parse_gpus("80GB")).families[0]
    assert costs_of(alone, profile_for(24 * GB)).switch is None


@pytest.mark.parametrize(
    ("gib", "card", "profile"),
    [
        (79.2, "NVIDIA H100 80GB HBM3", "h100"),
        (79.3, "NVIDIA A100-SXM4-80GB", "a100"),
        (39.5, "NVIDIA A100-SXM4-40GB", "l40s"),
        (139.8, "NVIDIA H200", "h200"),
        (44.4, "NVIDIA L40S", "l40s"),
        (23.5, "NVIDIA GeForce RTX 4090", "rtx-4090"),
        (79.2, "", "dgx-a100"),
        (15.0, "Tesla T4", "rtx-4090"),
    ],
)
def test_limits_are_those_of_the_card_by_its_name_else_by_its_memory(
    gib: float, card: str, profile: str
) -> None:
    assert profile_for(int(gib * GIB), card).name == profile


def test_a_solution_fits_and_splits_what_one_gpu_cannot_hold() -> None:
    demands = [family("large", architecture=LLAMA_3_1_70B), family("small", 12)]
    solved = solve(demands, parse_gpus("4x80GB"))
    assert solved.fits
    assert {found.name: found.demand.ranks for found in solved.families} == {"large": 4, "small": 2}
    assert solved.devices.keys() == {0, 1, 2, 3}


def test_a_solution_has_the_replicas_that_were_asked_for_and_of_auto_as_many_as_fit() -> None:
    gpus = parse_gpus("8x80GB")
    solved = solve([family("a", 12, replicas=3), family("b", 2, replicas=2)], gpus)
    assert solved.fits
    assert [found.name for found in solved.families] == ["a", "a#2", "a#3", "b", "b#2"]
    for name in "ab":
        places = [found.devices for found in solved.families if found.name[0] == name]
        assert len(set(places)) == len(places), "no two engines of a family are on one GPU"
    auto = solve([family("a", 12, replicas="auto")], gpus)
    assert [found.devices for found in auto.families] == [(number,) for number in range(8)]
    beside = solve([family("large", architecture=LLAMA_3_1_70B), family("a", 12, replicas="auto")], gpus)
    assert beside.fits
    assert len(beside.families) > 2


def test_replicas_that_fit_nowhere_are_refused_with_their_number() -> None:
    with pytest.raises(PlanImpossible, match="3 replicas of f fit on no GPUs"):
        solve([family(architecture=LLAMA_3_1_70B, replicas=3)], parse_gpus("4x80GB"))


def test_where_there_is_no_solution_the_family_is_named() -> None:
    with pytest.raises(PlanImpossible, match="f fits on no GPUs"):
        solve([family(architecture=LLAMA_3_1_70B)], parse_gpus("80GB"))


@st.composite
def _demands(draw: st.DrawFn) -> list[FamilyDemand]:
    return [
        family(
            f"f{number}",
            draw(st.integers(1, 6)),
            opened=draw(st.booleans()),
            pinned=0,
            mode=draw(st.sampled_from(["interleaved", "plain"])),
            kv_cache=f"{draw(st.integers(1, 20))}GiB",
        )
        for number in range(draw(st.integers(1, 3)))
    ]


@given(_demands(), st.integers(16, 300), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_sums_are_sums_and_a_plan_that_fits_keeps_the_reserve(
    demands: list[FamilyDemand], size: int, count: int
) -> None:
    gpus = parse_gpus(f"{count}x{size}GB")
    planned = plan(demands, gpus)
    for gpu in planned.gpus:
        assert gpu.used + gpu.free == gpu.gpu.bytes
        assert all(share.total > 0 for share in gpu.shares)
    again = plan(demands, gpus, planned.devices)
    assert again.fits == planned.fits
    assert [found.resident for found in again.families] == [found.resident for found in planned.families]
    if planned.fits:
        assert all(gpu.free_share >= 0.0999 for gpu in planned.gpus)
        assert all(found.longest_sequences >= 1 for found in planned.families)
    assert (advice(demands, gpus, None) == []) == planned.fits
