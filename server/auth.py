"""Who may call: ``Authorization: Bearer KEY`` against the configured keys."""

import hmac
from collections.abc import Sequence

from pydantic import SecretStr

from server.errors import Unauthorized


class Keys:
    """The configured keys; with none, anybody may call."""

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        self._keys = [key.get_secret_value().encode() for key in keys]

    def check(self, authorization: str | None) -> None:
        """Raises Unauthorized. Compares with every key in constant time."""
        if not self._keys:
            return
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not given:
            raise Unauthorized("No API key. Send 'Authorization: Bearer KEY'.")
        matches = [hmac.compare_digest(given.strip().encode(), key) for key in self._keys]
        if not any(matches):
            raise Unauthorized("This API key is not known.")
