"""Several engines of one family over one host: where requests go, and what an engine takes along."""

import pytest

from memory_tiers.actions import Action, Grant, Move, Reject, StartEngine
from memory_tiers.events import EngineDied, LeaseReleased, Opened, TicketAsked
from memory_tiers.members import Family, Member
from memory_tiers.replicas import replica_name
from memory_tiers.state.decision.dispatch import CONVERSATIONS
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import TiersConfig
from tests.memory_tiers.state.script import Script, an_expert


def two_engines(*names: str, room: int = 20, host: int = 100, pinned: bool = False) -> Script:
    """Experts of 10 bytes in a family with an engine on each of two GPUs, which start with the first two.
    ``pinned``: the first of them."""
    members = [an_expert(name, pinned=pinned and name == names[0]) for name in names]
    return opened(members, room, host)


def opened(
    members: list[Member],
    room: int,
    host: int,
    sleep_after_s: float | None = None,
    policy: str = "lru",
    engines: int = 2,
) -> Script:
    families = [
        Family(replica_name("f", number), None, 0, (number,), "f" if number else "", sleep_after_s)
        for number in range(engines)
    ]
    tree = {
        "devices": dict.fromkeys(range(engines), room),
        "host": host,
        "min_residency_s": 0,
        "policy": policy,
    }
    script = Script(TierState(TiersConfig.model_validate(tree), members, families))
    script.settle(script.feed(Opened(script.now())))
    return script


def engine_of(actions: list[Action]) -> str:
    (grant,) = (action for action in actions if isinstance(action, Grant))
    return grant.engine


def where(script: Script, expert: str) -> tuple[str, ...]:
    return next(each.engines for each in script.state.status.experts() if each.expert == expert)


def ask(script: Script, expert: str, conversation: str = "") -> list[Action]:
    script.tickets += 1
    asked = TicketAsked(script.tickets, expert, script.now(), conversation=conversation)
    return script.settle(script.feed(asked))


def on_both(script: Script, expert: str) -> None:
    """Brings an expert to the other engine too, by the requests of one that has much to do."""
    for _ in range(9):
        ask(script, expert)
    for ticket in range(1, 10):
        script.release(ticket)
    assert where(script, expert) == ("f", "f#2")


def test_engines_of_one_family_start_with_different_experts() -> None:
    script = two_engines("a", "b", "c")
    assert (where(script, "a"), where(script, "b"), where(script, "c")) == (("f",), ("f#2",), ())
    assert [script.where(name) for name in "abc"] == ["device", "device", "disk"]
    assert engine_of(ask(script, "a")) == "f"
    assert engine_of(ask(script, "b")) == "f#2"


def test_an_expert_is_loaded_where_there_is_room_and_the_host_has_it_once() -> None:
    script = two_engines("a", "b", "c", "d", room=20)
    assert engine_of(ask(script, "c")) == "f", "both have room: the first"
    assert engine_of(ask(script, "d")) == "f#2", "the first is full"
    assert all(script.on_host(name) in (0, 10) for name in "abcd")
    assert script.state.status.tiers()[1].used_bytes == sum(script.on_host(name) for name in "abcd")


def test_an_engine_sleeps_on_while_one_that_is_awake_can_load_as_soon() -> None:
    script = opened([an_expert(name) for name in "abcd"], room=20, host=100, sleep_after_s=5.0)
    ask(script, "b")
    script.wait(10)
    assert [engine.state for engine in script.state.status.engines()] == ["asleep", "ready"]
    script.settle(script.release(1))
    assert engine_of(ask(script, "c")) == "f#2"
    assert engine_of(ask(script, "d")) == "f", "the other has no room"


def test_an_engine_that_wakes_slowly_sleeps_on_beside_one_with_little_to_load() -> None:
    """Loads take 1 s here; the second engine woke once, in 20 s more."""
    script = opened([an_expert(name) for name in "abcdef"], room=30, host=100, sleep_after_s=5.0)
    ask(script, "a")
    ask(script, "c")
    script.settle(script.release(2))
    script.wait(10)
    assert [engine.state for engine in script.state.status.engines()] == ["ready", "asleep"]
    script.release(1)
    engine = script.state._records.engines["f#2"]
    engine.took(1.0, 10)
    engine.woke(21.0, 10)
    assert (engine.wake_s, engine.seconds_per_byte) == (20.0, 0.1)
    first = script.feed(TicketAsked(10, "d", script.now()))
    actions = script.settle([*first, *script.feed(TicketAsked(11, "e", script.now()))])
    assert [action.engine for action in actions if isinstance(action, Grant)] == ["f", "f"]


@pytest.mark.parametrize(("seconds_per_byte", "wake_s"), [(None, 2.5), (0.3, 7.0)])
def test_an_engine_wakes_once_the_loads_that_wait_for_the_other_take_longer(
    seconds_per_byte: float | None, wake_s: float
) -> None:
    """A load takes 1 s as long as none was measured, and 3 s then."""
    script = opened([an_expert(name) for name in "abcdef"], room=100, host=100, sleep_after_s=5.0)
    ask(script, "a")
    script.wait(10)
    assert [engine.state for engine in script.state.status.engines()] == ["ready", "asleep"]
    for engine in script.state._records.engines.values():
        engine.seconds_per_byte, engine.wake_s = seconds_per_byte, wake_s  # the first one woke earlier
    actions = [action for expert in "cdef" for action in script.ask(expert)]
    granted = [action for action in script.settle(actions) if isinstance(action, Grant)]
    assert [grant.engine for grant in sorted(granted, key=lambda each: each.ticket)] == ["f", "f", "f", "f#2"]


def test_an_expert_in_demand_comes_to_another_engine_where_that_costs_nothing() -> None:
    script = two_engines("a", "b", room=20)
    for _ in range(8):
        assert engine_of(ask(script, "a")) == "f"
    moves = [action for action in ask(script, "a") if isinstance(action, Move)]
    assert [(move.expert, move.source, move.target) for move in moves][-1] == ("a#2", "host", "device")
    assert where(script, "a") == ("f", "f#2")
    assert engine_of(ask(script, "a")) == "f#2", "the least busy"


def test_an_expert_in_demand_takes_the_place_of_one_that_is_not_and_of_no_other() -> None:
    script = two_engines("a", "b", room=10)
    for _ in range(9):
        ask(script, "a")
    assert (where(script, "a"), where(script, "b")) == (("f", "f#2"), ()), "nobody asked for b"
    script = two_engines("a", "b", room=10)
    ask(script, "b")
    for _ in range(9):
        ask(script, "a")
    assert where(script, "b") == ("f#2",), "it is in use"
    script.settle(script.release(1))
    assert where(script, "b") == ("f#2",), "it was in use just now"


@pytest.mark.parametrize(("others", "comes"), [(4, True), (5, False)])
def test_an_expert_in_demand_comes_to_an_engine_with_at_most_half_as_many_requests(
    others: int, comes: bool
) -> None:
    script = two_engines("a", "b", room=20)
    for expert in "b" * others + "a" * 9:
        ask(script, expert)
    assert where(script, "a") == (("f", "f#2") if comes else ("f",))


def test_an_expert_in_demand_does_not_wait_for_an_engine_that_loads_another() -> None:
    script = two_engines("a", "b", "c", room=20)
    for _ in range(8):
        ask(script, "a")
    (read,) = script.ask("c")
    (load,) = script.done(read)
    assert isinstance(load, Move)
    assert load.expert == "c#2"
    assert script.ask("a") == [Grant(10, "f")]
    script.settle([load])
    assert (where(script, "a"), where(script, "c")) == (("f",), ("f#2",))


def test_whoever_asks_for_an_expert_that_is_on_its_way_waits_for_it_there() -> None:
    script = two_engines("a", "b", "c", room=20)
    (read,) = script.ask("c")
    assert script.ask("c") == []
    (load,) = script.done(read)
    script.cancel(1)
    script.cancel(2)
    assert script.ask("c") == [], "the load goes on"
    assert [action.engine for action in script.done(load) if isinstance(action, Grant)] == ["f"]
    assert where(script, "c") == ("f",)


def test_that_an_expert_leaves_for_one_in_demand_is_said_of_its_eviction() -> None:
    script = two_engines("a", "b", room=10)
    moves = [action for _ in range(9) for action in ask(script, "a") if isinstance(action, Move)]
    evicted = next(move for move in moves if move.source == "device")
    assert (evicted.expert, evicted.reason, evicted.beneficiary) == ("b#2", "eviction", "a#2")


def test_an_expert_in_demand_takes_a_place_from_whichever_engine_it_is_on() -> None:
    script = two_engines("a", "b", room=10)
    for _ in range(9):
        assert engine_of(ask(script, "b")) == "f#2"
    assert (where(script, "a"), where(script, "b")) == ((), ("f", "f#2"))


@pytest.mark.parametrize(("uses", "leaves"), [(4, True), (5, False)])
def test_an_expert_leaves_for_one_that_was_used_more_than_twice_as_much(uses: int, leaves: bool) -> None:
    script = opened([an_expert("a"), an_expert("b")], room=10, host=100, policy="cost")
    used(script, "b", uses)
    for _ in range(9):
        ask(script, "a")
    assert where(script, "b") == (() if leaves else ("f#2",))


def test_what_counts_is_the_use_since_the_device_was_filled_anew_however_little_the_host_was() -> None:
    script = opened([an_expert(name) for name in "abcd"], room=10, host=100, policy="cost")
    used(script, "b", 16)
    for _ in range(12):  # all have a copy on the host and take turns on the first engine
        for expert in "cda":
            ask(script, expert)
            script.settle(script.release(script.tickets))
    assert where(script, "b") == ("f#2",)
    for _ in range(9):
        ask(script, "a")
    assert where(script, "b") == ()


def used(script: Script, expert: str, times: int) -> None:
    for _ in range(times):
        ask(script, expert)
        script.settle(script.release(script.tickets))


def test_an_engine_that_computes_for_an_expert_anyway_may_have_two_more_requests() -> None:
    script = two_engines("a", "b", "c", room=30)
    on_both(script, "a")
    assert [engine_of(ask(script, expert)) for expert in "cb"] == ["f", "f#2"]
    assert [engine_of(ask(script, "a")) for _ in range(4)] == ["f", "f", "f", "f#2"]


def test_a_conversation_goes_back_to_the_engine_that_had_it() -> None:
    script = two_engines("a", "b")
    on_both(script, "a")
    first = script.tickets + 1
    assert [engine_of(ask(script, "a", "x" if last else "")) for last in (0, 0, 0, 1)] == [
        "f",
        "f",
        "f",
        "f#2",
    ]
    for ticket in range(first, script.tickets + 1):
        script.release(ticket)
    assert engine_of(ask(script, "a", "x")) == "f#2"


def test_the_conversations_that_went_on_latest_are_remembered() -> None:
    script = two_engines("a", "b")
    on_both(script, "a")
    held = range(script.tickets + 1, script.tickets + 4)
    assert [engine_of(ask(script, "a")) for _ in held] == ["f", "f", "f"]
    assert [converse(script, conversation) for conversation in "xy"] == ["f#2", "f#2"]
    for ticket in held:
        script.release(ticket)
    for number in range(CONVERSATIONS - 2):
        converse(script, f"another {number}")
    assert converse(script, "x") == "f#2", "the oldest of as many as are remembered"
    converse(script, "one more")
    assert converse(script, "x") == "f#2", "it went on meanwhile"
    assert converse(script, "y") == "f", "it is forgotten"


def converse(script: Script, conversation: str) -> str:
    """Asks and releases at once. Returns the engine."""
    script.tickets += 1
    asked = TicketAsked(script.tickets, "a", script.now(), conversation=conversation)
    engine = engine_of(script.state.handle(asked))
    script.state.handle(LeaseReleased(script.tickets, script.now()))
    return engine


def test_a_conversation_goes_on_where_it_was_until_that_engine_is_busier_by_nine() -> None:
    script = two_engines("a", "b")
    on_both(script, "a")
    assert [engine_of(ask(script, "a", "x")) for _ in range(10)] == ["f"] * 9 + ["f#2"]


def test_a_conversation_stays_where_its_prefix_is_unless_others_have_much_less_to_do() -> None:
    script = two_engines("a", "b")
    on_both(script, "a")
    first = engine_of(ask(script, "a", "x"))
    script.release(script.tickets)
    other = {"f": "f#2", "f#2": "f"}[first]
    assert engine_of(ask(script, "a")) == first
    assert engine_of(ask(script, "a", "x")) == first
    for _ in range(30):
        ask(script, "a")
    busier = max(("f", "f#2"), key=lambda name: script.state._records.engines[name].leases)
    assert busier in (first, other)
    assert engine_of(ask(script, "a", "x")) == first, "both have as much to do"


def test_a_pinned_expert_stays_on_one_engine() -> None:
    script = two_engines("a", "b", pinned=True)
    assert len(where(script, "a")) == 1
    assert sum(each.pinned for each in script.state._records.experts.values()) == 1


def test_an_engine_that_ends_takes_its_own_leases_along_and_nothing_else() -> None:
    script = two_engines("a", "b", "c", room=10)
    ask(script, "a")
    ask(script, "b")
    script.tickets += 1
    waits = script.feed(TicketAsked(script.tickets, "c", script.now()))
    read = next(action for action in waits if isinstance(action, Move))
    script.done(read)
    actions = script.feed(EngineDied("f", "its card failed", script.now()))
    assert not any(isinstance(action, Reject) for action in actions)
    assert where(script, "b") == ("f#2",), "the other card computes on"
    assert script.state._records.experts["c#2"].waiting, "c waits for the engine that runs"
    assert not script.state._records.experts["c"].waiting
    assert any(isinstance(action, StartEngine) and action.family == "f" for action in script.settle(actions))


def test_who_waits_for_an_engine_that_ends_goes_where_the_expert_is_though_another_has_less_to_do() -> None:
    script = opened([an_expert(name) for name in "abcd"], room=10, host=100, engines=3)
    for expert in "abc":
        ask(script, expert)
    (read,) = script.ask("d")
    assert script.done(read) == []
    assert script.ask("a") == [], "a is to leave the first engine for d, and waits for the second"
    script.cancel(4)
    script.release(3)
    assert Grant(5, "f") in script.die("f#2")
    script.release(5)
    assert script.state.status.counts.leases == 2, "of the requests for a and b before"


def test_who_waits_for_an_engine_that_ends_goes_to_the_one_with_least_to_do() -> None:
    script = opened([an_expert(name) for name in "abcd"], room=20, host=100, engines=3)
    ask(script, "b")
    (read,) = script.ask("d")
    (load,) = script.done(read)
    assert isinstance(load, Move)
    assert load.expert == "d"
    (other,) = script.die("f")
    assert isinstance(other, Move)
    assert other.expert == "d#3", "the second one has a lease"


def test_an_expert_in_demand_comes_to_the_engine_with_least_to_do() -> None:
    script = opened([an_expert(name) for name in "abc"], room=20, host=100, engines=3)
    ask(script, "b")
    for _ in range(9):
        ask(script, "a")
    assert where(script, "a") == ("f", "f#3")


def test_an_expert_stays_on_its_engine_while_it_was_in_use_within_the_last_second() -> None:
    script = two_engines("a", "b", room=10)
    for _ in range(8):
        ask(script, "a")
    used(script, "b", 1)
    ask(script, "a")
    assert where(script, "b") == ("f#2",)
    ask(script, "a")
    assert where(script, "b") == ()


def test_what_an_operator_sends_down_leaves_every_engine() -> None:
    script = two_engines("a", "b")
    on_both(script, "a")
    script.state.orders.may_order("a", "disk")
    script.state.orders.order(script.state._records.experts["a"], "disk")
    ask(script, "b")
    assert where(script, "a") == ()
    assert script.on_host("a") == 0
