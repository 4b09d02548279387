"""Pages in a browser: refused, unless their origin is configured."""

from server.config.settings import Settings
from tests.server.conftest import Serving, changed

PAGE = "https://chat.example.com"
ASKED = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization, content-type",
}


async def test_no_page_may_call_by_default(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        asked = await gateway.http.options("/v1/chat/completions", headers=ASKED)
        answer = await gateway.post(headers={"origin": PAGE})
        for headers in (asked.headers, answer.headers):
            assert [name for name in headers if name.startswith("access-control")] == []
        assert asked.status_code == 405


async def test_pages_of_a_configured_origin_may_call(serving: Serving, settings: Settings) -> None:
    async with serving(changed(settings, cors_origins=(PAGE,))) as gateway:
        asked = await gateway.http.options("/v1/chat/completions", headers=ASKED)
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == PAGE
        assert "access-control-allow-credentials" not in asked.headers
        answer = await gateway.post(headers={"origin": PAGE})
        assert answer.headers["access-control-allow-origin"] == PAGE
        other = await gateway.http.options(
            "/v1/models", headers=ASKED | {"origin": "https://evil.example.com"}
        )
        assert "access-control-allow-origin" not in other.headers
