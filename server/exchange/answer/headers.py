"""Headers of an answer that tell of the expert: why it was chosen, and how long the request waited for it."""

from memory_tiers.lease import Lease
from server.routing.routing import Route


def of_route(route: Route) -> dict[str, str]:
    headers = {"x-coe-expert": route.expert, "x-coe-routed-by": route.by}
    if route.decision is not None:
        headers["x-coe-category"] = route.decision.category
        headers["x-coe-confidence"] = f"{route.decision.confidence:.3f}"
        if route.decision.cluster != route.decision.category:
            headers["x-coe-cluster"] = route.decision.cluster
        if route.decision.uncertain:
            headers["x-coe-uncertain"] = "true"
    if route.in_place_of:
        headers["x-coe-fallback-from"] = route.in_place_of
    return headers


def of_lease(lease: Lease) -> dict[str, str]:
    return {
        "x-coe-tier": lease.tier,
        "x-coe-queue-ms": f"{lease.queue_seconds * 1e3:.1f}",
        "x-coe-swap-ms": f"{lease.swap_seconds * 1e3:.1f}",
    }
