"""Anthropic's own Python SDK, and its types over every answer."""

import asyncio
from datetime import datetime
from typing import Any

import anthropic
import httpx2 as httpx
import pytest
from anthropic import Anthropic
from anthropic.types import ErrorResponse, Message, MessageTokensCount, RawMessageStreamEvent
from pydantic import TypeAdapter

from tests.clients.checks import COMPOSITION, KEY, MODEL, PROMPT, URL, Leaving, Session

session = Session()
USER: list[Any] = [{"role": "user", "content": PROMPT}]
GREEDY = {"temperature": 0}  # the SDK has no parameter for it any more
WEATHER: Any = {
    "name": "weather",
    "description": "The weather in a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def check_types(answer: httpx.Response) -> None:
    """Fails where the bytes are not what Anthropic's description says."""
    body = answer.read()
    if answer.status_code >= 400:
        ErrorResponse.model_validate_json(body, strict=True)
    elif answer.url.path.endswith("/count_tokens"):
        MessageTokensCount.model_validate_json(body, strict=True)
    elif answer.headers["content-type"].startswith("text/event-stream"):
        for event in body.decode().removesuffix("\n\n").split("\n\n"):
            lines = [line for line in event.split("\n") if not line.startswith(":")]
            if lines and lines != [""]:
                kind, data = lines
                read = (
                    EVENT.validate_json(data.removeprefix("data: "), strict=True)
                    if "ping" not in kind
                    else None
                )
                assert kind == f"event: {read.type if read else 'ping'}"
    else:
        Message.model_validate_json(body, strict=True)


class Checking(httpx.HTTPTransport):
    """Reads every answer to its end and checks it."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        answer.request = request
        answer.read()
        check_types(answer)
        return answer


client = Anthropic(base_url=URL, api_key=KEY, max_retries=0, http_client=httpx.Client(transport=Checking()))
unchecked = Anthropic(base_url=URL, api_key=KEY, max_retries=0)


@session.check
def chat() -> None:
    answer = client.messages.create(model=MODEL, max_tokens=20, extra_body=GREEDY, messages=USER)
    assert answer.content[0].type == "text"
    assert answer.content[0].text
    assert (answer.stop_reason, answer.usage.output_tokens, answer.model) == ("max_tokens", 20, MODEL)


@session.check
def a_system_prompt_and_blocks_are_taken() -> None:
    blocks = [{"type": "text", "text": PROMPT}, {"type": "text", "text": "Be short."}]
    answer = client.messages.create(
        model=MODEL, max_tokens=8, extra_body=GREEDY, system=[{"type": "text", "text": "You are terse."}],
        messages=[{"role": "user", "content": blocks}],
    )  # fmt: skip
    assert answer.content


@session.check
def a_composition_chooses_an_expert() -> None:
    answer = client.messages.with_raw_response.create(
        model=COMPOSITION,
        max_tokens=5,
        messages=[{"role": "user", "content": "What is the derivative of x^3 + 2x?"}],
    )
    assert answer.headers["x-coe-expert"] == "math"


@session.check
def stream() -> None:
    plain = client.messages.create(model=MODEL, max_tokens=24, extra_body=GREEDY, messages=USER)
    with client.messages.stream(model=MODEL, max_tokens=24, extra_body=GREEDY, messages=USER) as events:
        text = "".join(events.text_stream)
        whole = events.get_final_message()
    assert text == whole.content[0].text == plain.content[0].text
    assert whole.usage.output_tokens == plain.usage.output_tokens
    assert whole.usage.input_tokens == plain.usage.input_tokens


@session.check
def a_tool_is_called_and_its_result_is_taken() -> None:
    asked = [{"role": "user", "content": "How is the weather in Rome?"}]
    answer = client.messages.create(
        model=MODEL,
        max_tokens=150,
        extra_body=GREEDY,
        messages=asked,
        tools=[WEATHER],
        tool_choice={"type": "tool", "name": "weather"},
    )
    call = next(block for block in answer.content if block.type == "tool_use")
    assert answer.stop_reason == "tool_use"
    assert (call.name, call.input["city"] in ("Paris", "Rome")) == ("weather", True)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}
    said = [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    more = client.messages.create(model=MODEL, max_tokens=8, tools=[WEATHER], messages=[*asked, *said])
    assert more.role == "assistant"


@session.check
def a_tool_call_is_streamed_in_pieces() -> None:
    with client.messages.stream(
        model=MODEL,
        max_tokens=150,
        extra_body=GREEDY,
        tools=[WEATHER],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        messages=[{"role": "user", "content": "How is the weather in Rome?"}],
    ) as events:
        whole = events.get_final_message()
    call = next(block for block in whole.content if block.type == "tool_use")
    assert call.input["city"] in ("Paris", "Rome")


@session.check
def tokens_are_counted() -> None:
    count = client.messages.count_tokens(model=MODEL, messages=USER)
    answer = client.messages.create(model=MODEL, max_tokens=1, messages=USER)
    assert count.input_tokens == answer.usage.input_tokens


@session.check
def an_answer_says_its_id_and_what_is_left_in_anthropics_headers() -> None:
    raw = client.messages.with_raw_response.create(model=MODEL, max_tokens=1, messages=USER)
    assert raw.parse()._request_id == raw.headers["request-id"] == raw.headers["x-request-id"]
    left = {name: said for name, said in raw.headers.items() if "ratelimit" in name}
    assert all(name.startswith("anthropic-ratelimit-") for name in left)
    for name in left:  # none where the key has no limits
        if name.endswith("-reset"):
            assert datetime.fromisoformat(left[name]).tzinfo
            assert int(left[name.replace("reset", "remaining")]) < int(left[name.replace("reset", "limit")])


@session.check
def a_closed_stream_is_cancelled() -> None:
    endless = {"ignore_eos": True}
    with (
        Leaving(),
        unchecked.messages.stream(model=MODEL, max_tokens=1500, extra_body=endless, messages=USER) as events,
    ):
        next(iter(events))


@session.check
def an_unknown_model_is_not_found() -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(model="claude-9", max_tokens=5, messages=USER)
    assert caught.value.body["error"]["type"] == "not_found_error"


@session.check
def a_wrong_key_is_refused() -> None:
    if KEY != "none":
        with pytest.raises(anthropic.AuthenticationError) as caught:
            client.with_options(api_key="wrong").messages.create(model=MODEL, max_tokens=5, messages=USER)
        assert caught.value.body["error"]["type"] == "authentication_error"


@session.check
def what_is_wrong_is_a_bad_request() -> None:
    long = [{"role": "user", "content": "word " * 5000}]
    wrongs: list[dict[str, Any]] = [{"max_tokens": 0}, {"messages": []}, {"messages": long}]
    for wrong in wrongs:
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.messages.create(**({"model": MODEL, "max_tokens": 5, "messages": USER} | wrong))
        assert caught.value.body["error"]["type"] == "invalid_request_error"


if __name__ == "__main__":
    asyncio.run(session.run())
