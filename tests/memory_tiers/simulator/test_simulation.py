"""The virtual-clock driver: known times come out, every request ends, and the invariants hold."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_tiers.actions import Action, Grant, Move
from memory_tiers.errors import SimulationImpossible
from memory_tiers.events import Event, LeaseReleased, MoveFinished, TicketAsked
from memory_tiers.members import Family, Member
from memory_tiers.simulator.belady import Belady
from memory_tiers.simulator.comparison import RIVALS, Comparison, Rival, compare
from memory_tiers.simulator.compute_model import ComputeModel
from memory_tiers.simulator.fifo_swapper import FifoSwapper
from memory_tiers.simulator.profiles import BUILT_IN, Profile
from memory_tiers.simulator.scenario import Scenario
from memory_tiers.simulator.simulation import FAMILY, Node, Simulation
from memory_tiers.simulator.trace import Request, generate, names
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import TiersConfig

NODE = Profile.model_validate(
    {
        "name": "node",
        "device": 20,
        "host": 40,
        "link_bytes_per_s": 10,
        "links": 2,
        "published_links": 1,
        "disk_bytes_per_s": 5,
        "memory_bytes_per_s": 100,
        "start_s": 60,
    }
)
"""An expert of 10 bytes takes 1 s to the device, 2 s from disk, 0.1 s for each token."""


def scenario(experts: str = "abc", **changed: Any) -> Scenario:
    given: dict[str, Any] = {"profile": NODE, "experts": tuple(experts), "expert_bytes": 10, "tokens": 1}
    return Scenario(**given | changed)


def asked(*requests: tuple[float, str]) -> list[Request]:
    return [Request(at, expert) for at, expert in requests]


def one(rival: Rival, requests: list[Request], of: Scenario) -> Comparison:
    return compare(of, requests, [rival])


# computing


def test_answers_of_one_expert_do_not_slow_each_other_and_those_of_two_share() -> None:
    compute = ComputeModel(streams=8)
    compute.begin(1, "a", 1.0, at=0.0)
    compute.begin(2, "a", 1.0, at=0.0)
    assert compute.next_end == 1.0
    compute.begin(3, "b", 1.0, at=0.5)
    assert compute.next_end == 1.5
    assert [compute.end(1.5), compute.end(1.5)] == [1, 2]
    assert compute.next_end == 2.0
    assert compute.end(2.0) == 3
    assert compute.next_end == float("inf")
    assert compute.switches == 2


def test_an_answer_over_the_streams_begins_when_another_ends() -> None:
    compute = ComputeModel(streams=1)
    compute.begin(1, "a", 1.0, at=0.0)
    compute.begin(2, "a", 1.0, at=0.0)
    assert compute.end(1.0) == 1
    assert compute.next_end == 2.0


def test_nothing_is_computed_while_it_is_halted() -> None:
    compute = ComputeModel(streams=1)
    compute.begin(1, "a", 1.0, at=0.0)
    compute.halt(at=0.25)
    assert compute.next_end == float("inf")
    compute.resume(at=5.25)
    assert compute.next_end == 6.0


# the swapper


def test_the_swapper_serves_in_the_order_of_arrival_only() -> None:
    swapper = FifoSwapper(device_fits=1, host_fits=0)
    load_a = Move("a", "disk", "device", "ticket")
    assert swapper.handle(TicketAsked(1, "a", 0.0)) == [load_a]
    assert swapper.handle(TicketAsked(2, "b", 0.0)) == []
    assert swapper.handle(TicketAsked(3, "a", 0.0)) == []
    assert swapper.handle(MoveFinished(load_a, 1, 1.0)) == [Grant(1)]
    load_b = Move("b", "disk", "device", "ticket")
    assert swapper.handle(LeaseReleased(1, 2.0)) == [load_b]
    assert swapper.handle(MoveFinished(load_b, 1, 3.0)) == [Grant(2)]
    assert swapper.handle(LeaseReleased(2, 4.0)) == [load_a]


def test_the_swapper_reads_from_disk_what_its_host_does_not_hold() -> None:
    swapper = FifoSwapper(device_fits=1, host_fits=1)
    read_a = Move("a", "disk", "host", "ticket")
    assert swapper.handle(TicketAsked(1, "a", 0.0)) == [read_a]
    assert swapper.handle(MoveFinished(read_a, 1, 1.0)) == [Move("a", "host", "device", "ticket")]
    assert repr(swapper) == "<FifoSwapper [residents: ; loading: a; waiting: 1, running: 0]>"


# known times


@pytest.mark.parametrize("rival", RIVALS)
def test_a_resident_expert_answers_at_once_and_another_after_one_load(rival: Rival) -> None:
    """The warm-up leaves a and b on the device and c on the host."""
    found = one(rival, asked((0, "a"), (10, "c")), scenario()).figures[rival]
    assert (found.requests, found.hit_rate, found.moves, found.staged) == (2, 0.5, 1, 0)
    assert found.latency_s.max == pytest.approx(1.1)
    assert found.wait_s.max == pytest.approx(1.0)
    assert (found.bytes_moved, found.switches, found.switch_seconds) == (10, 1, 1.0)


def test_an_expert_that_the_host_dropped_comes_from_disk() -> None:
    found = one("lru", asked((0, "e")), scenario("abcde")).figures["lru"]
    assert found.wait_s.max == pytest.approx(2.0 + 1.0)
    assert (found.staged, found.bytes_moved) == (1, 20)


def test_two_links_halve_a_load_and_a_process_start_comes_on_top() -> None:
    requests = asked((0, "c"))
    assert one("lru", requests, scenario(links=2)).figures["lru"].wait_s.max == pytest.approx(0.5)
    assert one("lru", requests, scenario(restart=True)).figures["lru"].wait_s.max == pytest.approx(61.0)


def test_without_overlap_a_load_stops_the_answers_under_way() -> None:
    requests = [Request(0.0, "a", 5.0), Request(1.0, "c", 0.1)]
    both = {overlap: one("lru", requests, scenario(overlap=overlap)) for overlap in (True, False)}
    longest = {overlap: found.figures["lru"].latency_s.max for overlap, found in both.items()}
    assert longest[False] - longest[True] == pytest.approx(1.0)


def test_requests_for_one_expert_share_its_load_in_the_tiers_but_not_in_the_swapper() -> None:
    alternating = asked(*((0.01 * number, "abc"[number % 3]) for number in range(30)))
    comparison = compare(scenario(), alternating, ["cost", "fifo"])
    assert comparison.figures["cost"].moves <= 2
    assert comparison.figures["fifo"].moves == 28
    assert comparison.figures["cost"].goodput_per_s > 3 * comparison.figures["fifo"].goodput_per_s


def test_knowing_the_future_saves_moves_but_never_below_the_bound_when_nobody_waits() -> None:
    experts = names(20)
    requests = [
        Request(100.0 * number, request.expert)
        for number, request in enumerate(generate("zipf", experts, 300, 1.0, seed=5, fits=4))
    ]
    of = Scenario(NODE.model_copy(update={"device": 40}), experts, 10, tokens=1)
    comparison = compare(of, requests, RIVALS)
    moves = {rival: found.moves for rival, found in comparison.figures.items()}
    assert comparison.fewest_moves <= moves["belady"] < moves["cost"] < moves["lru"] == moves["fifo"]


def test_the_same_trace_gives_the_same_figures() -> None:
    experts = names(30)
    of = Scenario(BUILT_IN["dgx-a100"], experts, 100 * 10**9)
    trace = generate("zipf", experts, 200, 3.0, seed=1, fits=of.device_fits)
    assert compare(of, trace, RIVALS) == compare(of, trace, RIVALS)


def test_what_cannot_be_simulated_is_refused() -> None:
    with pytest.raises(SimulationImpossible, match="does not fit on node's device"):
        scenario(expert_bytes=21).check()
    with pytest.raises(SimulationImpossible, match="node has 2 links, not 3"):
        scenario(links=3).check()


# random traces


class Checked(TierState):
    """Looks at its invariants after every event."""

    def handle(self, event: Event) -> list[Action]:
        actions = super().handle(event)
        self.check()
        return actions


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(
        st.tuples(st.floats(0, 20), st.sampled_from("abcdef"), st.floats(0, 3)), min_size=1, max_size=40
    ),
    policy=st.sampled_from(["lru", "cost", "belady"]),
    overlap=st.booleans(),
    sleep_after_s=st.sampled_from([None, 0.5, 20.0]),
)
def test_every_request_of_any_trace_is_served_and_the_invariants_hold(
    requests: list[tuple[float, str, float]], policy: str, overlap: bool, sleep_after_s: float | None
) -> None:
    trace = [Request(*request) for request in sorted(requests)]
    node = Node(10, 10.0, 5.0, 0.1, streams=3, overlap=overlap)
    members = [Member(name, FAMILY, 10) for name in "abcdef"]
    belady = Belady([request.expert for request in trace])
    known = policy == "belady"
    config = TiersConfig.model_validate(
        {"device": 20, "host": 30, "max_queue": 100, "policy": "lru" if known else policy}
    )
    state = Checked(
        config, members, [Family(FAMILY, None, sleep_after_s=sleep_after_s)], belady if known else None
    )
    simulation = Simulation(state, node, belady.arriving)
    simulation.warm_up([*"fedcba"])
    outcome = simulation.run(trace)
    assert (len(outcome.served), outcome.rejected) == (len(trace), 0)
    assert all(each.latency_s >= each.wait_s >= 0 for each in outcome.served)
    assert state.status.counts.waiting == state.status.counts.leases == state.status.counts.moves == 0


# several engines


def test_engines_have_a_part_of_the_node_each_and_one_expert_in_demand_is_on_both() -> None:
    """On its half of the memory's bandwidth an answer takes 0.2 s; one link leads to each engine."""
    two = scenario("ab", replicas=2)
    assert (two.device_fits, two.switch_seconds, two.node.answer_s) == (2, 1.0, 0.2)
    found = one("cost", asked((0, "a"), (0, "b")), two).figures["cost"]
    assert (found.hit_rate, found.moves) == (1.0, 0)
    assert found.latency_s.max == pytest.approx(0.2), "each computes on its own engine"
    alone = one("cost", asked((0, "a"), (0, "b")), scenario("ab")).figures["cost"]
    assert alone.latency_s.max == pytest.approx(0.2), "they share one that is twice as quick"
    crowd = asked(*((0, "a") for _ in range(12)), *((5, "a") for _ in range(12)))
    spread = one("cost", crowd, scenario("ab", replicas=2, tokens=20)).figures["cost"]
    assert spread.moves == 1, "it came to the other engine, too"


def test_an_engine_that_loads_halts_no_other() -> None:
    found = one("cost", asked((0, "a"), (0, "c")), scenario("abc", replicas=2, overlap=False, tokens=9))
    assert found.figures["cost"].latency_s.p50 < 4.0


def test_engines_without_a_link_or_room_and_rivals_of_one_engine_are_refused() -> None:
    with pytest.raises(SimulationImpossible, match="3 engines need a link each, and node has 2"):
        one("cost", asked((0, "a")), scenario(replicas=3))
    with pytest.raises(SimulationImpossible, match="each engine's part of 10 of node's device of 20"):
        one("cost", asked((0, "a")), scenario(replicas=2, expert_bytes=11))
    with pytest.raises(SimulationImpossible, match="fifo serves with one engine, and there are 2"):
        one("fifo", asked((0, "a")), scenario(replicas=2))


@given(st.integers(1, 2), st.lists(st.tuples(st.floats(0, 50), st.sampled_from("abcde")), max_size=40))
@settings(deadline=None, max_examples=50)
def test_every_request_ends_however_many_engines_there_are(
    replicas: int, requests: list[tuple[float, str]]
) -> None:
    ordered = asked(*sorted(requests))
    found = one("cost", ordered, scenario("abcde", replicas=replicas)).figures["cost"]
    assert (found.requests, found.rejected) == (len(ordered), 0)
