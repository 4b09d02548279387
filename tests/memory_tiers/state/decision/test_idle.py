"""Checks what idle rules do as time passes without use, while other things go on."""

from memory_tiers.actions import Move, StopEngine
from memory_tiers.events import Opened, TimePassed
from memory_tiers.members import Family
from memory_tiers.state.state_machine import TierState
from memory_tiers.tiers import TiersConfig
from tests.memory_tiers.state.script import Script, a_config, an_expert, engines


def test_an_expert_that_leaves_after_its_time_to_live_shows_where_it_goes() -> None:
    script = Script(TierState(a_config(20), [an_expert("a", ttl_s=5), an_expert("b")], engines(f=None)))
    script.settle(script.feed(Opened(script.now())))
    script.at += 5
    (leaves,) = script.feed(TimePassed(script.at))
    assert leaves == Move("a", "device", "disk", "idle")
    assert script.state.status.experts()[0].ordered == "host"
    script.done(leaves)
    assert script.state.status.experts()[0].ordered is None


def test_an_engine_does_not_stop_before_its_move_has_ended() -> None:
    config = a_config(20, engine_idle_s=60.0)
    script = Script(TierState(config, [an_expert("a", ttl_s=50), an_expert("b")], engines(f=None)))
    script.settle(script.feed(Opened(script.now())))
    script.at += 50
    (leaves,) = script.feed(TimePassed(script.at))
    script.at += 20
    assert script.feed(TimePassed(script.at)) == []
    assert script.done(leaves) == [StopEngine("f", "idle")]


def test_only_the_defaults_come_back_when_all_is_quiet() -> None:
    members = [an_expert("a", default=True), an_expert("b"), an_expert("c"), an_expert("d")]
    script = Script(TierState(a_config(20, return_to_default_s=60.0), members, engines(f=None)))
    script.settle(script.feed(Opened(script.now())))
    for ticket, expert in enumerate("bc", 1):
        script.settle(script.ask(expert))
        script.settle(script.release(ticket))
    assert [script.where(name) for name in "abcd"] == ["disk", "device", "device", "disk"]
    script.wait(100)
    assert [script.where(name) for name in "abcd"] == ["device", "disk", "device", "disk"]


def test_an_engine_that_starts_again_takes_its_memory_of_its_own_gpu() -> None:
    families = [Family("zero", None, 0, (0,)), Family("one", None, 5, (1,))]
    members = [an_expert("a", family="zero", pinned=True), an_expert("b", family="one")]
    tree = {"devices": {0: 20, 1: 20}, "min_residency_s": 0, "policy": "lru", "engine_idle_s": 60.0}
    script = Script(TierState(TiersConfig.model_validate(tree), members, families))
    script.settle(script.feed(Opened(script.now())))
    assert [gpu.used_bytes for gpu in script.state.status.gpus()] == [10, 15]
    assert script.wait(100) == [StopEngine("one", "idle")]
    assert [gpu.used_bytes for gpu in script.state.status.gpus()] == [10, 0]
    script.settle(script.ask("b"))
    assert [gpu.used_bytes for gpu in script.state.status.gpus()] == [10, 15]
