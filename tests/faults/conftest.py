"""Fixtures of the gateway's tests, for tests of what comes between it and its engines."""

from tests.server.conftest import checkpoint, prepared, serving, settings

__all__ = ["checkpoint", "prepared", "serving", "settings"]
