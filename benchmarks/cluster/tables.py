"""Prints what ``coe bench cluster`` has found."""

from benchmarks.cluster.measure import Report
from server.cli.output import console
from server.cli.tables import table


def show(report: Report) -> None:
    out = console()
    numbers = ("direct p50", "direct p99", "passed p50", "passed p99", "added to p50")
    hops = table("milliseconds", *numbers, numbers=numbers)
    for hop in report.hops:
        figures = (hop.direct_p50, hop.direct_p99, hop.passed_p50, hop.passed_p99)
        added = hop.passed_p50 - hop.direct_p50
        hops.add_row("TLS" if hop.tls else "plain", *(f"{each:.2f}" for each in (*figures, added)))
    if report.hops:
        out.print(hops)
    scales = table("nodes", "processor time of a request", "throughput beside one", numbers=("nodes",))
    for scale in report.scales:
        scales.add_row(str(scale.nodes), f"{scale.request_ms:.3f} ms", f"{scale.factor:.2f}")
    if report.scales:
        out.print(scales)
    bounds = table("nodes", "answers/s", "beside one", numbers=("nodes", "answers/s", "beside one"))
    for bound in report.bounds:
        bounds.add_row(str(bound.nodes), f"{bound.per_s:.1f}", f"{bound.factor:.2f}")
    if report.bounds:
        out.print(bounds)
    if report.memory is not None:
        memory = report.memory
        node, process = (f"{each / 1e6:.0f} MB" for each in (memory.node, memory.process))
        out.print(f"memory: a node {node}, a gateway process beside it {process}")
    if report.failover is not None:
        lost = report.failover
        out.print(
            f"a node killed: {lost.failed} of {lost.requests} requests failed; median before "
            f"{lost.median_ms:.0f} ms, at most {lost.usual_ms:.0f} ms; slowest after "
            f"{lost.slowest_ms:.0f} ms, as before in {lost.normal_s:.2f} s"
        )
    if report.replica is not None:
        made = report.replica
        out.print(
            f"second replica: {made.order_s:.2f} s, the transfer alone {made.transfer_s:.2f} s: "
            f"{made.order_s / made.transfer_s:.2f} times"
        )
