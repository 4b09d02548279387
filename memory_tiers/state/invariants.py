"""Checks what must hold after every event, numbered as in the design."""

from memory_tiers.state.records.expert_record import EngineRecord, ExpertRecord
from memory_tiers.state.records.ledger import Copy, Ledger, Part
from memory_tiers.state.records.records import Records
from memory_tiers.tiers import Presence


def check(records: Records) -> None:
    """Raises AssertionError naming the first invariant that is broken."""
    # 1. Bytes per tier are within the budget, apart from what measurements put above it.
    _check_ledger(records.device, [expert.device for expert in records.experts.values()])
    copies = {id(expert.host): expert.host for expert in records.experts.values()}
    _check_ledger(records.host, [*copies.values()])
    for expert in records.experts.values():
        _check_expert(records, expert)
    for engine in records.engines.values():
        _check_engine(engine)
    _check_held(records)
    # 3. Every open ticket is in exactly one place.
    open_tickets = [
        ticket for expert in records.experts.values() for ticket in (*expert.waiting, *expert.leases)
    ]
    assert sorted(open_tickets) == sorted(records.tickets), "a ticket is nowhere or twice"
    assert records.waiting == sum(len(expert.waiting) for expert in records.experts.values())
    # 4. One copy to the host at a time, and it is the one we think.
    firsts = [expert for expert in records.experts.values() if expert is expert.first]
    staging = [expert.name for expert in firsts if expert.host.presence == "arriving"]
    assert staging == ([records.staging.expert] if records.staging else []), staging
    assert records.staging is not None or not records.aborting, "nothing is there to be aborted"


def _check_held(records: Records) -> None:
    for number, part in records.device.parts.items():
        engines = [engine for engine in records.engines.values() if engine.holds and number in engine.parts]
        held = sum(engine.held // len(engine.parts) for engine in engines)
        assert part.held == held, f"engines hold {held}, not {part.held}, of part {number}"


def _check_ledger(ledger: Ledger, copies: list[Copy]) -> None:
    for number, part in ledger.parts.items():
        there = [copy for copy in copies if number in copy.parts]
        _check_part(ledger, part, [(copy.presence, copy.charged // len(copy.parts)) for copy in there])


def _check_part(ledger: Ledger, part: Part, shares: list[tuple[Presence, int]]) -> None:
    assert part.arriving == sum(share for presence, share in shares if presence == "arriving"), repr(ledger)
    assert part.leaving == sum(share for presence, share in shares if presence == "leaving"), repr(ledger)
    assert part.used == part.held + sum(share for _, share in shares), f"{ledger!r} does not add up"
    assert part.used <= part.capacity + part.excess, f"{ledger!r} is over its budget"
    assert part.excess == 0 or part.used > part.capacity, f"{ledger!r} keeps an old excess"


def _check_expert(records: Records, expert: ExpertRecord) -> None:
    device = expert.device.presence
    # 2. A lease of the running engine keeps the expert on the device.
    current = expert.engine.state == "ready" and expert.engine.starts in expert.leases.values()
    assert not current or device == "present", f"{expert!r} left under a lease"
    # 4. A copy that a load reads is not given back.
    assert not (device == "arriving" and expert.host.presence == "leaving"), f"{expert!r} is read and dropped"
    # 5. Victims are present and not pinned; an expert that was pinned on its way down comes back, unless the
    # gateway drains: then nothing comes back.
    returns = expert.wanted or records.closing
    assert returns or not (expert.pinned and device == "leaving"), f"{expert!r} is pinned and leaves"
    victim = expert.name in records.victims
    assert not victim or (device == "present" and not expert.pinned), f"{expert!r} cannot be a victim"
    # No ticket waits for an expert that could be granted.
    could_be_granted = expert.waiting and device == "present" and not victim
    assert not could_be_granted, f"{expert!r} could be granted"
    assert not expert.removed or expert.ordered == "disk", f"{expert!r} was removed and stays"
    queues = [index for index, queue in enumerate(expert.engine.queues) if expert.name in queue]
    assert queues == ([expert.priority] if expert.needed else []), f"{expert!r} is in queues {queues}"
    may_leave = device == "present" and not expert.pinned and not expert.stuck
    rankings = records.rankings
    ranked = (expert in rankings.idle, expert in rankings.used)
    wanted = (may_leave and not expert.leases, may_leave and bool(expert.leases))
    assert ranked == wanted, f"{expert!r} is ranked"
    for tier, copy in (("device", expert.device), ("host", expert.host)):
        assert copy.presence != "absent" or (expert.name, tier) not in records.prefetched, (
            f"{expert!r} is not"
        )
    on_host = expert is expert.first and expert.host.presence == "present"
    assert (expert in rankings.on_host) == on_host, f"{expert!r} is ranked"
    # 4. One engine at a time loads an expert, and all of them share its copy on the host.
    loading = device == "arriving" and expert.engine.state == "ready"
    assert not loading or not expert.arriving_elsewhere, f"{expert!r} is loaded twice"
    assert all(replica.host is expert.host for replica in expert.replicas), f"{expert!r} has another host"
    assert expert in expert.replicas, f"{expert!r} is none of its replicas"
    assert (expert.name in expert.engine.residents) == (device != "absent"), f"{expert!r} is resident or not"


def _check_engine(engine: EngineRecord) -> None:
    if engine.stopping:
        assert engine.busy is None, repr(engine)
        assert all(expert.device.presence == "leaving" for expert in engine.residents.values()), repr(engine)
        return
    assert engine.leases == sum(len(expert.leases) for expert in engine.members.values()), repr(engine)
    moving = [name for name, expert in engine.residents.items() if expert.device.presence != "present"]
    # 4. One move per engine: what arrives or leaves is what the engine is busy with, or what that replaces.
    assert (engine.busy in moving) if engine.busy else not moving, f"{engine!r} moves {moving}"
    assert len(moving) <= (1 if engine.resident_limit is None else 2), f"{engine!r} moves {moving}"
    staying = sum(expert.device.presence != "leaving" for expert in engine.residents.values())
    assert engine.resident_limit is None or staying <= engine.resident_limit, f"{engine!r} holds too many"
    # An engine that sleeps runs, and has given everything back.
    assert not engine.asleep or (engine.state == "ready" and not engine.residents), f"{engine!r} sleeps"
    # 7. Only an engine that runs holds experts.
    present = any(expert.device.presence == "present" for expert in engine.residents.values())
    assert engine.state == "ready" or not present, f"{engine!r} does not run"
