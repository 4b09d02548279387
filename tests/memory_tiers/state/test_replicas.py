"""Several engines of one family over one host: where requests go, and what an engine takes along."""

from memory_tiers.actions import Action, Grant, Move, Reject, StartEngine
from memory_tiers.events import EngineDied, Opened, TicketAsked
from memory_tiers.members import Family, Member
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import TiersConfig
from tests.memory_tiers.state.script import Script, an_expert


def two_engines(*names: str, room: int = 20, host: int = 100, pinned: bool = False) -> Script:
    """Experts of 10 bytes in a family with an engine on each of two GPUs, which start with the first two.
    ``pinned``: the first of them."""
    members = [an_expert(name, pinned=pinned and name == names[0]) for name in names]
    return opened(members, room, host)


def opened(members: list[Member], room: int, host: int, sleep_after_s: float | None = None) -> Script:
    families = [
        Family("f", None, 0, (0,), sleep_after_s=sleep_after_s),
        Family("f#2", None, 0, (1,), "f", sleep_after_s),
    ]
    tree = {"devices": {0: room, 1: room}, "host": host, "min_residency_s": 0, "policy": "lru"}
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
    assert where(script, "b") == (), "nobody asked for it"
    script = two_engines("a", "b", room=10)
    ask(script, "b")
    for _ in range(9):
        ask(script, "a")
    assert where(script, "b") == ("f#2",), "it is in use"


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


def test_what_an_operator_sends_down_leaves_every_engine() -> None:
    script = two_engines("a", "b")
    on_both(script, "a")
    script.state.orders.may_order("a", "disk")
    script.state.orders.order(script.state._records.experts["a"], "disk")
    ask(script, "b")
    assert where(script, "a") == ()
    assert script.on_host("a") == 0
