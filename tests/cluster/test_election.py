"""One node decides, and where two did one is followed."""

import random
from dataclasses import dataclass, field
from itertools import combinations

from cluster.election import Election, Seniority, Standing


@dataclass
class Nodes:
    """Nodes that hear each other unless a link is cut, or one is gone."""

    count: int
    elections: dict[int, Election] = field(default_factory=dict)
    cut: set[tuple[int, int]] = field(default_factory=set)
    runs: int = 0

    def __post_init__(self) -> None:
        for number in range(self.count):
            self.start(number)

    def start(self, number: int) -> None:
        self.runs += 1
        self.elections[number] = Election(Seniority(self.runs, f"n{number}-{self.runs}"))

    def heard(self, here: int) -> list[int]:
        return [each for each in self.elections if each != here and (*sorted((here, each)),) not in self.cut]

    def standing(self, number: int) -> Standing:
        election = self.elections[number]
        hears = min((self.elections[each].own for each in self.heard(number)), default=None)
        return Standing(election.own, False, hears, election.term, election.placer)

    def look(self, number: int) -> bool:
        heard = [self.standing(each) for each in self.heard(number)]
        return self.elections[number].look(heard, leaving=False)

    def settle(self) -> None:
        begun = True
        while begun:
            looks = [self.look(number) for number in [*self.elections]]
            begun = any(looks)
        for number in self.elections:
            assert not self.look(number), "nobody begins for ever"

    def deciding(self) -> list[int]:
        return [number for number, election in self.elections.items() if election.deciding]


def test_the_senior_node_decides_and_after_its_loss_the_next_under_a_higher_term() -> None:
    nodes = Nodes(3)
    nodes.settle()
    assert nodes.deciding() == [0]
    term = nodes.elections[1].term
    del nodes.elections[0]
    nodes.settle()
    assert nodes.deciding() == [1]
    assert nodes.elections[2].term == nodes.elections[1].term > term
    nodes.start(0)
    nodes.settle()
    assert nodes.deciding() == [1], "a node that is started again takes nothing over"


def test_two_that_decided_on_both_sides_of_a_cut_are_one_again_and_its_term_is_higher_than_either() -> None:
    nodes = Nodes(4)
    nodes.cut = {(0, 2), (0, 3), (1, 2), (1, 3)}
    nodes.settle()
    assert nodes.deciding() == [0, 2]
    before = {election.term for election in nodes.elections.values()}
    nodes.cut = set()
    nodes.settle()
    assert nodes.deciding() == [0]
    assert {election.placer for election in nodes.elections.values()} == {nodes.elections[0].own.id}
    assert min(election.term for election in nodes.elections.values()) > max(before)


def test_where_one_link_is_cut_two_nodes_do_not_take_turns() -> None:
    nodes = Nodes(3)
    nodes.cut = {(0, 1)}
    nodes.settle()
    assert nodes.deciding() == [0]


def test_of_two_with_one_term_the_first_that_was_heard_of_is_followed() -> None:
    election = Election(Seniority(9, "c"))
    assert election.follows(2, "a")
    assert not election.follows(2, "b")
    assert not election.follows(1, "a")
    assert election.follows(3, "b")


def test_whatever_is_cut_and_lost_all_that_hear_each_other_follow_one_in_the_end() -> None:
    for seed in range(200):
        chance = random.Random(seed)
        nodes = Nodes(5)
        for _ in range(30):
            match chance.randrange(4):
                case 0:
                    nodes.cut = {pair for pair in combinations(range(5), 2) if chance.random() < 0.4}
                case 1:
                    number = chance.randrange(5)
                    nodes.elections.pop(number, None)
                case 2:
                    number = chance.randrange(5)
                    if number not in nodes.elections:
                        nodes.start(number)
                case _:
                    if nodes.elections:
                        nodes.look(chance.choice([*nodes.elections]))
        nodes.cut = set()
        for number in set(range(5)) - nodes.elections.keys():
            nodes.start(number)
        nodes.settle()
        assert len(nodes.deciding()) == 1, f"seed {seed}"
        assert len({(each.term, each.placer) for each in nodes.elections.values()}) == 1, f"seed {seed}"
