"""The placement decides as it should in situations with a name."""

import pytest

from cluster.placement.actions import Action, Copy, Drained, Entry, Epoch, Publish, Unwant, Want
from cluster.placement.events import (
    DemandSeen,
    DrainBegun,
    NodeFacts,
    NodeLost,
    OrderFailed,
    PlacedExpert,
    RebalanceBegun,
    SnapshotTaken,
    TimePassed,
)
from cluster.placement.placement_state import PlacementState
from cluster.placement.rules import PlacementRules
from cluster.table import Table
from memory_tiers.tiers import Tier

GB = 10**9
FACTS = NodeFacts(2 * GB, 10 * GB, host_bytes_per_s=10e9, peer_bytes_per_s=2e9, disk_bytes_per_s=1e9)
LAW = (PlacedExpert("law", GB),)


class Script:
    """A placement and the numbers of its nodes' snapshots."""

    def __init__(self, rules: PlacementRules | None = None, experts: tuple[PlacedExpert, ...] = LAW) -> None:
        self.state = PlacementState(rules or PlacementRules(), experts, term=1)
        self.numbers: dict[str, int] = {}
        self.now = 0.0

    def says(self, node: str, run: int = 1, facts: NodeFacts = FACTS, **copies: Tier) -> list[Action]:
        self.numbers[node] = self.numbers.get(node, 0) + 1
        return self.feed(SnapshotTaken(node, run, self.numbers[node], facts, copies, self.now))

    def feed(self, event: object) -> list[Action]:
        actions = self.state.handle(event)  # type: ignore[arg-type]
        self.state.check()
        return [action for action in actions if not isinstance(action, Publish)]


def test_an_expert_is_copied_to_a_second_node_from_the_first_ones_memory() -> None:
    script = Script()
    assert script.says("a", law="host") == []
    assert script.says("b") == [Want("b", "law", "host", "a")]
    assert script.says("b", law="host") == []


def test_an_expert_that_no_memory_holds_comes_from_disk_to_the_node_with_the_most_room() -> None:
    script = Script(PlacementRules(copies=1))
    small = NodeFacts(GB, 2 * GB, 1e9, 1e9, 1e9)
    assert script.says("a", facts=small) == [Want("a", "law", "host", None)]
    script.feed(NodeLost("a", 0.0))
    assert script.says("b") == [Want("b", "law", "host", None)]


def test_copies_are_as_many_as_memory_suffices_for() -> None:
    script = Script(experts=tuple(PlacedExpert(f"e{n}", 4 * GB) for n in range(4)))
    wanted = [*script.says("a"), *script.says("b")]
    assert all(isinstance(action, Want) for action in wanted)
    assert {action.expert for action in wanted if isinstance(action, Want)} == {"e0", "e1", "e2", "e3"}
    assert len(wanted) == 4, "20 GB hold 16 GB once"


def test_after_a_loss_the_placement_waits_for_the_node_to_come_back_and_then_copies() -> None:
    script = Script(PlacementRules(lost_grace_s=10))
    for node in "ab":
        script.says(node, law="host")
    script.says("c")
    script.now = 100.0
    assert script.feed(NodeLost("b", 100.0)) == []
    assert script.state.deadline == 110.0
    assert script.feed(TimePassed(109.9)) == []
    assert script.feed(TimePassed(110.0)) == [Want("c", "law", "host", "a")]


def test_a_node_that_flaps_moves_nothing() -> None:
    script = Script(PlacementRules(lost_grace_s=10))
    for node in "ab":
        script.says(node, law="host")
    script.says("c")
    for second in range(100):
        script.now = float(second)
        assert script.feed(NodeLost("b", script.now)) == []
        assert script.says("b", law="host") == []


def test_a_snapshot_that_was_sent_before_the_loss_does_not_bring_the_node_back() -> None:
    script = Script()
    script.says("a", law="host")
    late = SnapshotTaken("a", 1, 1, FACTS, {"law": "host"}, 1.0)
    script.feed(NodeLost("a", 0.5))
    script.feed(late)
    assert script.state.table == (Entry("law", ()),)
    script.says("a", law="host")
    assert script.state.table == (Entry("law", (Copy("a", "host"),)),)


def test_a_second_device_gets_an_expert_whose_requests_wait_longer_than_bringing_it_takes() -> None:
    script = Script()
    script.says("a", law="device")
    script.says("b", law="host")
    assert script.feed(DemandSeen("law", 9.0, 0.09, 1.0)) == [], "from host memory it takes 0.1 s"
    assert script.feed(DemandSeen("law", 9.0, 0.11, 1.0)) == [Want("b", "law", "device", None)]
    assert script.feed(DemandSeen("law", 9.0, 0.11, 1.1)) == [], "one at a time"


def test_a_replica_goes_when_it_was_needless_for_a_while_and_the_first_stays() -> None:
    script = Script(PlacementRules(calm_s=60))
    script.says("a", law="device")
    script.says("b", law="host")
    script.feed(DemandSeen("law", 9.0, 5.0, 1.0))
    script.says("b", law="device")
    assert script.feed(DemandSeen("law", 1.0, 0.0, 30.0)) == []
    assert script.feed(TimePassed(60.9)) == []
    assert script.feed(TimePassed(61.0)) == [Unwant("b", "law", "device")]
    script.now = 62.0
    script.says("b", law="host")
    assert script.feed(TimePassed(1000.0)) == []


def test_a_drained_node_may_end_once_all_that_only_it_has_is_elsewhere() -> None:
    script = Script(PlacementRules(copies=1))
    script.says("a", law="device")
    script.says("b")
    assert script.feed(DrainBegun("a", 1.0)) == [Want("b", "law", "host", "a")]
    assert script.state.table == (Entry("law", ()),), "nothing new is sent there"
    assert script.says("b", law="host") == [Drained("a")]
    assert script.says("a", law="device") == [], "it is said once"


def test_a_node_that_failed_is_not_told_again_for_a_while() -> None:
    script = Script(PlacementRules(copies=1, avoid_s=30))
    assert script.says("a") == [Want("a", "law", "host", None)]
    assert script.feed(OrderFailed("a", "law", "no room", 1.0)) == []
    assert script.feed(TimePassed(31.0)) == [Want("a", "law", "host", None)]


def test_a_node_that_never_does_what_it_was_told_has_failed() -> None:
    script = Script(PlacementRules(copies=1, order_s=60))
    script.says("a")
    script.says("b")
    assert script.feed(TimePassed(61.0)) == []
    assert script.feed(TimePassed(61.2)) == [Want("b", "law", "host", None)]


def test_a_gateway_follows_the_highest_epoch_only() -> None:
    table = Table()
    here, there = Entry("law", (Copy("a", "host"),)), Entry("law", (Copy("b", "host"),))
    assert not table.follow(Publish(Epoch(1, 1), (here,))), "the whole is needed first"
    assert table.replace(Epoch(2, 0), (there,))
    assert not table.replace(Epoch(1, 90), (here,)), "the placement before goes on in a part that was cut off"
    assert table.follow(Publish(Epoch(1, 91), (here,)))
    assert table.copies("law") == there.copies
    assert not table.follow(Publish(Epoch(2, 2), (here,))), "one was missed"
    assert table.follow(Publish(Epoch(2, 1), (here,)))
    assert table.copies("law") == here.copies
    assert not table.follow(Publish(Epoch(3, 1), (there,))), "the whole of the new term is needed"


@pytest.mark.parametrize("nodes", [1, 3])
def test_the_last_copy_is_never_told_to_leave(nodes: int) -> None:
    script = Script(PlacementRules(copies=1, calm_s=0))
    told = [action for number in range(nodes) for action in script.says(f"n{number}", law="host")]
    for action in told:  # grows meanwhile
        if isinstance(action, Unwant):
            script.now += 1.0
            told += script.says(action.node)
    told += script.feed(TimePassed(1000.0))
    assert len([action for action in told if isinstance(action, Unwant)]) == nodes - 1


@pytest.mark.parametrize("how", ["lost", "evicted", "drained"])
def test_a_copy_that_was_told_to_leave_stays_when_the_other_is_gone_before_it_has_left(how: str) -> None:
    script = Script(PlacementRules(copies=1, calm_s=0))
    told = [*script.says("a", law="host"), *script.says("b", law="host"), *script.feed(TimePassed(1.0))]
    (leaves,) = [action for action in told if isinstance(action, Unwant)]
    stays = {"a": "b", "b": "a"}[leaves.node]
    again = Want(leaves.node, "law", "host", None)
    if how == "lost":
        assert script.feed(NodeLost(stays, 2.0)) == [again]
    elif how == "evicted":
        script.now = 2.0
        assert script.says(stays) == [again]
    else:
        actions = script.feed(DrainBegun(stays, 2.0))
        assert actions == [again, Drained(stays)], "the copy that stays after all is enough"


def test_a_rebalance_brings_copies_to_a_node_that_came_late_and_then_ends() -> None:
    experts = tuple(PlacedExpert(f"e{n}", GB) for n in range(6))
    script = Script(PlacementRules(copies=1, orders_per_node=8), experts)
    held: dict[str, dict[str, Tier]] = {"a": {expert.name: "host" for expert in experts}, "b": {}}
    for node in held:
        assert script.says(node, 1, FACTS, **held[node]) == []
    actions = script.feed(RebalanceBegun(1.0))
    script.now = 1.0
    for _ in range(40):
        for action in actions:
            match action:
                case Want(node, expert, tier):
                    held[node][expert] = tier
                case Unwant(node, expert, _):
                    del held[node][expert]
        actions = [action for node in held for action in script.says(node, 1, FACTS, **held[node])]
    assert sorted(len(each) for each in held.values()) == [3, 3]
    assert sorted([*held["a"], *held["b"]]) == [expert.name for expert in experts], "none twice, none lost"
    assert actions == []
    assert script.state.settled


def test_copies_for_several_nodes_come_in_a_chain_and_each_node_is_read_by_one() -> None:
    script = Script(PlacementRules(copies=5))
    script.says("a", law="host")
    assert script.says("b") == [Want("b", "law", "host", "a")]
    assert script.says("c") == [Want("c", "law", "host", "b")], "which is just getting it"
    assert script.says("d") == [Want("d", "law", "host", "c")]
    assert script.says("c", law="host") == [], "its own copy was the order"
    assert script.says("e") == [Want("e", "law", "host", "b")], "which nobody reads any more"


def test_copies_that_no_memory_holds_yet_come_from_disk_and_not_in_a_chain() -> None:
    script = Script(PlacementRules(copies=2))
    assert script.says("a") == [Want("a", "law", "host", None)]
    assert script.says("b") == [Want("b", "law", "host", None)]
