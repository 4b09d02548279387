"""Prefixes that an engine cached for one key answer no other key."""

from typing import Any

import pytest
from pydantic import SecretStr

from server.config.api_keys import KeyConfig
from server.config.settings import Settings
from server.exchange.engine.own_prefixes import own_salt
from tests.server.access.test_keys import bearer
from tests.server.conftest import Gateway, Serving, changed, chat, simulated, until

ENDPOINTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": chat(model="general"),
    "/v1/completions": {"model": "general", "prompt": "hello"},
    "/v1/messages": chat(model="general", max_tokens=64),
    "/v1/responses": {"model": "general", "input": "hello"},
}


def two_keys(settings: Settings, **server: Any) -> Settings:
    keys = tuple(KeyConfig(key=SecretStr(f"of-{name}"), name=name) for name in ("a", "b"))
    return changed(simulated(settings, tokens_per_s=20), api_keys=keys, **server)


async def salt(gateway: Gateway, path: str, key: str, **fields: Any) -> str | None:
    """That the engine was sent."""
    body = ENDPOINTS[path] | {"stream": True} | fields
    async with gateway.http.stream("POST", path, json=body, headers=bearer(f"of-{key}")) as answer:
        await anext(answer.aiter_bytes())
        (asked,) = gateway.engine._running
        found: str | None = asked._body.get("cache_salt")
    await until(lambda: gateway.engine.running == 0)
    return found


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_each_key_has_prefixes_of_its_own(serving: Serving, settings: Settings, path: str) -> None:
    async with serving(two_keys(settings)) as gateway:
        first, again, other = [await salt(gateway, path, key) for key in "aab"]
        assert first
        assert first == again
        assert first != other


async def test_a_key_cannot_choose_another_ones_and_has_several_of_its_own(
    serving: Serving, settings: Settings
) -> None:
    path = "/v1/chat/completions"
    async with serving(two_keys(settings)) as gateway:
        others = await salt(gateway, path, "b")
        chosen = [
            await salt(gateway, path, "a", cache_salt=own) for own in (others, "", "tenant-1", "tenant-2")
        ]
        assert len({*chosen, others}) == 5


async def test_keys_share_where_the_configuration_says_so(serving: Serving, settings: Settings) -> None:
    path = "/v1/chat/completions"
    async with serving(two_keys(settings, share_prefix_cache=True)) as gateway:
        assert [await salt(gateway, path, key) for key in "ab"] == [None, None]
        assert await salt(gateway, path, "a", cache_salt="mine") == "mine"


def test_no_pair_of_a_key_and_a_salt_is_another_pair() -> None:
    pairs = (("a", "b"), ("ab", ""), ("a", ""), ("", "a"), ("", "ab"))
    assert len({own_salt(key, {"cache_salt": own}) for key, own in pairs}) == 5
