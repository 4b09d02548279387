"""The two-step router: a prompt becomes a category, the category an expert (arXiv 2412.01868).

``from router import Router`` is the router as a library, without the server (docs/guides/python.md).

The modules here are of two kinds. Leaves (arrays, atomic_file, cache_file, decision, errors, parameters,
progress) import nothing of ours but each other. The rest (composition, router, settings, stickiness) is what
requests meet: it may import artifacts, conversations, embedders, mapping and classifiers, and is imported by
training.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from router.decision import Decision as Decision
    from router.router import Router as Router

__all__ = ["Decision", "Router"]


def __getattr__(name: str) -> Any:
    """Imports what is asked for: the gateway's command reads settings without the router's arrays."""
    if name == "Router":
        from router.router import Router

        return Router
    if name == "Decision":
        from router.decision import Decision

        return Decision
    raise AttributeError(f"module 'router' has no attribute {name!r}")
