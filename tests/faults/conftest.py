"""Fixtures of the gateway's tests, for tests of what comes between it and its engines."""

from tests.server.conftest import checkpoint, serving, settings

__all__ = ["checkpoint", "serving", "settings"]
