"""Content that messages only name: fetched by nobody, unless its host is allowed."""

from typing import Any

import pytest

from experts.spec import FamilyConfig
from experts.vllm.command import NO_HOST, command
from experts.vllm.environment import environment
from server.config.settings import Settings
from server.errors import BadRequest
from server.transport.media_hosts import check_media
from tests.server.conftest import Serving, changed
from tests.server.routing.test_eligibility import able

ALLOWED = ("cdn.example.com",)
FETCHED = "https://cdn.example.com:8443/cat.png?size=1#top"
REFUSED = (
    "http://169.254.169.254/latest/meta-data",
    "https://example.com/cat.png",
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "ftp://cdn.example.com/cat.png",
    "//cdn.example.com/cat.png",
    "/etc/passwd",
    "",
    "https://cdn.example.com.evil.net/",
    "https://cdn.example.com@evil.net/",
    "https://evil.net#@cdn.example.com/",
    "https://evil.net\\@cdn.example.com/",
    "https://cdn.example.com\\@evil.net/",
    "https://evil.net/ https://cdn.example.com/",
    " https://cdn.example.com/",
    "https://cdn.example.com/\n",
    "https://cdn.exam\u200bple.com/",
    "https://ＣＤＮ.example.com/",
    "https://[::1]/",
    "https://127.1/",
)


def parts(url: str) -> list[tuple[str, dict[str, Any]]]:
    """Where each API's messages may name content, and the body that does."""

    def message(part: dict[str, Any]) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": [{"type": "text", "text": "see"}, part]}]}

    def item(part: dict[str, Any]) -> dict[str, Any]:
        return {"input": [{"type": "message", "content": [part]}]}

    source = {"type": "url", "url": url}
    result = {"type": "tool_result", "content": [{"type": "image", "source": source}]}
    nested = {
        "type": "document",
        "source": {"type": "content", "content": [{"type": "image", "source": source}]},
    }
    screenshot = {"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": url}}
    return [
        ("messages[0].content[1].image_url.url", message({"type": "image_url", "image_url": {"url": url}})),
        ("messages[0].content[1].image_url", message({"image_url": url})),
        ("messages[0].content[1].audio_url.url", message({"type": "audio_url", "audio_url": {"url": url}})),
        ("messages[0].content[1].video_url", message({"type": "x", "uuid": "1", "video_url": url})),
        ("messages[0].content[1].file.file_url", message({"type": "file", "file": {"file_url": url}})),
        ("messages[0].content[1].source.url", message({"type": "image", "source": source})),
        ("messages[0].content[1].content[0].source.url", message(result)),
        ("messages[0].content[1].source.content[0].source.url", message(nested)),
        ("input[0].content[0].image_url", item({"type": "input_image", "image_url": url})),
        ("input[0].content[0].file_url", item({"type": "input_file", "file_url": url})),
        ("input[0].output.image_url", {"input": [screenshot]}),
    ]


@pytest.mark.parametrize("url", REFUSED)
def test_an_address_that_is_not_allowed_is_refused_wherever_it_stands(url: str) -> None:
    for where, body in parts(url):
        with pytest.raises(BadRequest, match=r"server\.media_hosts") as refused:
            check_media(body, ALLOWED)
        assert refused.value.param == where


@pytest.mark.parametrize("url", ["data:image/png;base64,AAAA", "DATA:,x", FETCHED, "HTTPS://cdn.example.com"])
def test_content_that_is_sent_along_and_allowed_hosts_pass(url: str) -> None:
    for _, body in parts(url.replace("HTTPS", "https")):
        check_media(body, ALLOWED)


def test_what_nobody_fetches_is_not_looked_at() -> None:
    address = "http://127.0.0.1/"
    call = {
        "type": "tool_use",
        "id": "1",
        "name": "fetch",
        "input": {"url": address, "image_url": {"url": address}},
    }
    calls = [{"function": {"name": "fetch", "arguments": {"image_url": address}}}]
    cited = {"type": "text", "text": "x", "annotations": [{"type": "url_citation", "url": address}]}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": f"read {address}"},
        {"role": "assistant", "content": [call, cited], "tool_calls": calls},
    ]
    check_media({"messages": messages, "input": [[1, 2], [3]], "metadata": {"image_url": address}}, ())
    check_media({"messages": None, "input": "https://example.com/"}, ())


async def test_a_request_that_names_content_is_refused_before_anything_is_done(
    serving: Serving, settings: Settings
) -> None:
    seeing = able(settings, law=["images"])
    for hosts, url, status in (
        ((), "https://example.com/cat.png", 400),
        ((), "data:image/png;base64,AAAA", 200),
        (ALLOWED, FETCHED, 200),
    ):
        async with serving(changed(seeing, media_hosts=hosts)) as gateway:
            picture = {"type": "image_url", "image_url": {"url": url}}
            answer = await gateway.post(messages=[{"role": "user", "content": [picture]}])
            assert answer.status_code == status, answer.text
            if status == 400:
                error = answer.json()["error"]
                assert error["param"] == "messages[0].content[0].image_url.url"
                assert "server.media_hosts" in error["message"]
                assert url not in error["message"]


def test_an_engine_is_told_the_same_hosts(tmp_path: Any) -> None:
    for hosts, told in (((), [NO_HOST]), (("a.com", "b.com"), ["a.com", "b.com"])):
        arguments = command(FamilyConfig(), "plain", "cpu", "law", tmp_path, media_hosts=hosts)
        place = arguments.index("--allowed-media-domains") + 1
        assert arguments[place : place + len(told)] == told
        assert arguments[place + len(told)].startswith("--")
    assert environment(FamilyConfig(), "plain", "cpu")["VLLM_MEDIA_URL_ALLOW_REDIRECTS"] == "0"


@pytest.mark.parametrize("host", ["https://a.com", "A.com", "a.com/x", "*", ""])
def test_what_is_no_host_is_no_setting(settings: Settings, host: str) -> None:
    with pytest.raises(ValueError, match="is no host"):
        type(settings.server).model_validate({"media_hosts": [host]})
