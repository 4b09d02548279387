"""Output of ``coe tiers simulate`` in a terminal: the node, the figures of each policy, and bars."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from memory_tiers.simulator.comparison import Comparison
from memory_tiers.simulator.figures import Figures
from memory_tiers.simulator.profiles import BUILT_IN, Profile
from server.cli.tables import table

WIDTH = 150
BAR = 40
"""Characters of the longest bar."""


def show(comparison: Comparison, console: Console | None = None) -> None:
    """Prints the comparison, in lines of full length also where they go to a file."""
    console = console or Console(width=max(WIDTH, Console().width))
    for line in _node(comparison):
        console.print(line, highlight=False)
    console.print(figures(comparison))
    console.print(_bars(comparison))


def _node(comparison: Comparison) -> Iterator[str]:
    scenario = comparison.scenario
    profile, size = scenario.profile, scenario.expert_bytes
    of = f" ({scenario.replicas} engines)" if scenario.replicas > 1 else ""
    yield (
        f"{profile.name}{of}: {scenario.device_fits} of {len(scenario.experts):,} experts of "
        f"{size / 1e9:g} GB fit on the device, {scenario.host_fits} on the host; an answer alone takes "
        f"{scenario.node.answer_s:.3f} s"
    )
    for field, source in profile.sources.items():
        yield f"  {field} = {getattr(profile, field):,}: {source}"
    switch = scenario.switch_seconds
    links = scenario.links or profile.published_links or profile.links
    links = scenario.engine_links if scenario.replicas > 1 else links
    yield f"one expert from host to device: {switch * 1e3:,.1f} ms over {links} of {profile.links} links"
    if profile.name != "sn40l":
        yield from _beside(BUILT_IN["sn40l"], profile, size)
    yield f"Belady's bound: at least {comparison.fewest_moves:,} moves for whoever serves in order of arrival"


def _beside(sn40l: Profile, profile: Profile, size: int) -> Iterator[str]:
    published = profile.switch_seconds(size) / sn40l.switch_seconds(size)
    all_links = profile.switch_seconds(size, profile.links) / sn40l.switch_seconds(size)
    over_all = f", {all_links:.1f} times over all {profile.links} links" if profile.links > 1 else ""
    yield f"beside sn40l: a switch takes {published:.1f} times as long as published{over_all}"
    device, both = sn40l.host / profile.device, sn40l.host / (profile.device + profile.host)
    yield f"its DDR holds {device:.1f} times what this device holds, {both:.1f} times device and host"


def figures(comparison: Comparison, title: str | None = None) -> Table:
    """Returns the table of figures, one row for each policy."""
    counts = ("requests", "hits", "answers/s", "moves", "staged", "switches", "TB moved")
    numbers = (*counts, "latency p50 s", "p99", "max", "wait p99 s", "max")
    shown = table("policy", *numbers, numbers=numbers, title=title)
    for rival, found in comparison.figures.items():
        shown.add_row(rival, *_row(found))
    return shown


def _row(found: Figures) -> Iterator[str]:
    yield f"{found.requests:,}"
    yield f"{found.hit_rate:.1%}"
    yield f"{found.goodput_per_s:.2f}"
    yield f"{found.moves:,}"
    yield f"{found.staged:,}"
    yield f"{found.switches:,}"
    yield f"{found.bytes_moved / 1e12:.3f}"
    for seconds in (found.latency_s.p50, found.latency_s.p99, found.latency_s.max):
        yield f"{seconds:.3f}"
    for seconds in (found.wait_s.p99, found.wait_s.max):
        yield f"{seconds:.3f}"


def _bars(comparison: Comparison) -> Table:
    bars = Table(box=None, show_header=False)
    for what, unit in (("latency p99", "s"), ("hit rate", "%"), ("moves", ""), ("switches", "")):
        values = {rival: _value(found, what) for rival, found in comparison.figures.items()}
        longest = max(values.values(), default=0.0) or 1.0
        for rival, value in values.items():
            label = what if rival == next(iter(values)) else ""
            bars.add_row(label, rival, "█" * round(BAR * value / longest), f"{value:,.6g} {unit}")
    return bars


def _value(found: Figures, what: str) -> float:
    match what:
        case "latency p99":
            return round(found.latency_s.p99, 3)
        case "hit rate":
            return round(100 * found.hit_rate, 1)
        case "moves":
            return found.moves
        case _:
            return found.switches
