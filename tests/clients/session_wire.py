"""Plain HTTP: every answer's bytes are validated, and what OpenAI promises of it is checked."""

import asyncio
import json
from typing import Any

import httpx

from tests.clients import wire
from tests.clients.checks import COMPOSITION, EMBEDDER, KEY, MODEL, PROMPT, URL, Session

session = Session()
http = httpx.Client(base_url=URL, headers={"authorization": f"Bearer {KEY}"}, timeout=120)
USER = [{"role": "user", "content": PROMPT}]
INTERNAL = b"coe-engine"
"""What the engine calls its model; nobody outside has to know."""
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": CITY}}]


def post(path: str, headers: Any = None, **fields: Any) -> httpx.Response:
    answer = http.post(path, json={"model": MODEL} | fields, headers=headers)
    assert INTERNAL not in answer.content, answer.text
    assert answer.headers["x-request-id"]
    return answer


def ask(**fields: Any) -> httpx.Response:
    given: dict[str, Any] = {"messages": USER, "max_tokens": 16} | fields
    return post("/v1/chat/completions", **given)


def continue_(**fields: Any) -> httpx.Response:
    given: dict[str, Any] = {"prompt": "The sky is", "max_tokens": 16} | fields
    return post("/v1/completions", **given)


@session.check
def a_chat_completion_is_whole() -> None:
    answer = wire.chat(ask(temperature=0))
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == MODEL
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert wire.chat(ask(temperature=0)).id != answer.id


@session.check
def a_stream_says_what_the_plain_answer_says() -> None:
    fields: dict[str, Any] = {"temperature": 0, "logprobs": True, "top_logprobs": 2}
    plain = wire.chat(ask(**fields))
    chunks = wire.chat_chunks(ask(**fields, stream=True, stream_options={"include_usage": True}))
    pieces = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(piece.delta.content or "" for piece in pieces) == plain.choices[0].message.content
    assert pieces[-1].finish_reason == plain.choices[0].finish_reason
    assert chunks[-1].usage is not None
    assert plain.usage is not None
    assert chunks[-1].usage.completion_tokens == plain.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens == plain.usage.prompt_tokens
    streamed = [token.token for piece in pieces if piece.logprobs for token in piece.logprobs.content or ()]
    assert plain.choices[0].logprobs is not None
    assert streamed == [token.token for token in plain.choices[0].logprobs.content or ()]
    assert chunks[0].id.startswith("chatcmpl-")
    assert {chunk.model for chunk in chunks} == {MODEL}
    uncounted = wire.chat_chunks(ask(**fields, stream=True))
    assert plain.system_fingerprint
    assert chunks[-1].system_fingerprint == uncounted[-1].system_fingerprint == plain.system_fingerprint
    assert uncounted[-1].usage is None


@session.check
def usage_is_streamed_to_who_asks_for_it_only() -> None:
    assert all(chunk.choices for chunk in wire.chat_chunks(ask(stream=True)))
    assert all(chunk.choices for chunk in wire.chat_chunks(ask(stream=True, stream_options={})))
    each = wire.chat_chunks(
        ask(stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True})
    )
    assert all(chunk.usage is not None for chunk in each)


@session.check
def several_choices_are_numbered_and_counted_together() -> None:
    answer = wire.chat(ask(n=3, seed=1, temperature=1, max_tokens=6))
    assert sorted(choice.index for choice in answer.choices) == [0, 1, 2]
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 18
    chunks = wire.chat_chunks(ask(n=2, max_tokens=6, stream=True))
    assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1}


@session.check
def a_seed_gives_the_same_answer_again() -> None:
    texts = {wire.chat(ask(seed=seed, temperature=1)).choices[0].message.content for seed in (7, 7, 7)}
    assert len(texts) == 1
    assert wire.chat(ask(seed=8, temperature=1)).choices[0].message.content not in texts


@session.check
def an_answer_ends_before_a_stop_sequence() -> None:
    plain = wire.chat(ask(temperature=0)).choices[0].message.content or ""
    word = plain.split()[2]
    answer = wire.chat(ask(temperature=0, stop=[word, "another"]))
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content == plain[: plain.index(word)]
    assert wire.chat(ask(temperature=0, stop=word)).choices[0].message.content == plain[: plain.index(word)]


@session.check
def a_logit_bias_forces_a_token() -> None:
    (token,) = post("/tokenize", prompt=" blue", add_special_tokens=False).json()["tokens"]
    answer = wire.chat(ask(logit_bias={str(token): 100}, temperature=0, max_tokens=3))
    assert answer.choices[0].message.content == " blue blue blue"


@session.check
def tool_calls_are_whole_plain_and_streamed() -> None:
    fields: dict[str, Any] = {
        "tools": TOOLS,
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_tokens": 150,
        "temperature": 0,
    }
    (choice,) = wire.chat(ask(**fields)).choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
    chunks = wire.chat_chunks(ask(**fields, stream=True))
    deltas = [
        delta for chunk in chunks for choice in chunk.choices for delta in choice.delta.tool_calls or ()
    ]
    assert [delta.function.name for delta in deltas if delta.function and delta.function.name] == ["weather"]
    arguments = "".join(delta.function.arguments or "" for delta in deltas if delta.function)
    assert json.loads(arguments)["city"] in ("Paris", "Rome")
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@session.check
def a_json_schema_is_kept_plain_and_streamed() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": CITY, "strict": True}}
    plain = wire.chat(ask(response_format=form, max_tokens=100, temperature=0))
    assert json.loads(plain.choices[0].message.content or "")["city"] in ("Paris", "Rome")
    chunks = wire.chat_chunks(ask(response_format=form, max_tokens=100, temperature=0, stream=True))
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert json.loads(text)["city"] in ("Paris", "Rome")


@session.check
def what_only_vllm_knows_passes_both_ways() -> None:
    answer = wire.chat(ask(top_k=1, min_p=0.1, return_token_ids=True, unheard_of={"a": [1]}))
    assert answer.model_extra is not None
    assert answer.model_extra["prompt_token_ids"]
    said = wire.chat(ask(structured_outputs={"choice": ["yes", "no"]}))
    assert said.choices[0].message.content in ("yes", "no")


@session.check
def a_conversation_with_every_role_is_taken() -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
    }
    messages = [
        {"role": "developer", "content": "You are terse."},
        {"role": "user", "name": "ann", "content": [{"type": "text", "text": "How is the weather in Rome?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        {"role": "assistant", "content": [{"type": "text", "text": "Sunny."}]},
        {"role": "user", "content": "And in Paris?"},
    ]
    assert wire.chat(ask(messages=messages, tools=TOOLS)).choices[0].message.role == "assistant"


@session.check
def completions_are_whole_plain_and_streamed() -> None:
    plain = wire.completion(continue_(temperature=0, logprobs=2))
    assert plain.id.startswith("cmpl-")
    assert plain.model == MODEL
    assert plain.choices[0].logprobs is not None
    assert len(plain.choices[0].logprobs.tokens or ()) == 16
    chunks = wire.completion_chunks(continue_(temperature=0, logprobs=2, stream=True))
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == plain.choices[0].text


@session.check
def several_prompts_have_several_completions() -> None:
    answer = wire.completion(continue_(prompt=["The sky", "A dog"], n=2, max_tokens=4))
    assert sorted(choice.index for choice in answer.choices) == [0, 1, 2, 3]
    tokens = post("/tokenize", prompt="The sky").json()["tokens"]
    assert wire.completion(continue_(prompt=tokens, max_tokens=4, temperature=0)).choices[0].text
    assert len(wire.completion(continue_(prompt=[tokens, tokens], max_tokens=4)).choices) == 2


@session.check
def an_echo_comes_before_the_completion() -> None:
    answer = wire.completion(continue_(echo=True, max_tokens=4, temperature=0))
    assert answer.choices[0].text.startswith("The sky is")
    only = wire.completion(continue_(echo=True, max_tokens=0))
    assert only.choices[0].text == "The sky is"


@session.check
def embeddings_are_whole() -> None:
    answer = wire.embeddings(post("/v1/embeddings", model=EMBEDDER, input=["blue", "a dog"]))
    assert [each.index for each in answer.data] == [0, 1]
    assert answer.model == EMBEDDER


@session.check
def models_are_openais_and_say_more_under_a_key_of_ours() -> None:
    listed = {each.id: each for each in wire.models(http.get("/v1/models"))}
    for name in (MODEL, COMPOSITION):
        assert (wire.model(http.get(f"/v1/models/{name}")).model_extra or {})["coe"].keys()
        assert "coe" in (listed[name].model_extra or {})
    assert wire.error(http.get("/v1/models/gpt-9"), 404).code == "model_not_found"


@session.check
def a_request_id_of_the_clients_is_kept() -> None:
    for fields in ({}, {"model": "gpt-9"}, {"temperature": -1}, {"stream": True}):
        answer = ask(headers={"x-request-id": "mine-7"}, **fields)
        assert answer.headers["x-request-id"] == "mine-7"
    assert ask().headers["x-request-id"] != ask().headers["x-request-id"]
    for path in ("/v1/models", "/v1/models/none", "/v1/files", "/v1/batches", "/health", "/nothing"):
        answer = http.get(path, headers={"x-request-id": "mine-8"})
        assert answer.headers.get_list("x-request-id") == ["mine-8"]


@session.check
def what_is_wrong_is_named_with_openais_type() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "nothing"}}}
    no_tool = {"type": "function", "function": {"name": "other"}}
    for param, fields in (
        ("temperature", {"temperature": "warm"}),
        ("temperature", {"temperature": -1}),
        ("top_p", {"top_p": 1.5}),
        ("n", {"n": "many"}),
        ("max_tokens", {"max_tokens": "many"}),
        ("max_tokens", {"max_tokens": -1}),
        ("logprobs", {"logprobs": True, "top_logprobs": 1000}),  # as vLLM calls it
        ("top_logprobs", {"top_logprobs": 2}),
        ("stream", {"stream": "yes"}),
        ("stream_options", {"stream_options": {"include_usage": True}}),
        ("messages", {"messages": []}),
        ("messages[0]", {"messages": [{"content": "hi"}]}),
        (None, {"messages": [{"role": "user", "content": [picture]}]}),
        ("tools", {"tools": []}),
        ("tool_choice", {"tools": TOOLS, "tool_choice": no_tool}),
        ("tool_choice", {"tool_choice": "required"}),
        (None, {"response_format": {"type": "json_schema"}}),
        (None, {"response_format": schema}),
        (None, {"logit_bias": {"99999999": 1}}),
        (None, {"seed": 0.5}),
        (None, {"stop": 5}),
    ):
        for stream in ({}, {"stream": True}):
            if "stream" in fields or ("stream_options" in fields and stream):
                continue
            error = wire.error(ask(**(stream | fields)), 400)
            assert error.type == "invalid_request_error", fields
            assert param is None or error.param == param, (fields, error)


@session.check
def every_class_of_failure_has_its_status() -> None:
    assert wire.error(ask(model="gpt-9"), 404).code == "model_not_found"
    long = wire.error(ask(messages=[{"role": "user", "content": "word " * 5000}]), 400)
    assert long.code == "context_length_exceeded"
    odd = wire.error(ask(messages=[{"role": "user", "content": "!?" * 4000}]), 400)  # the engine counts these
    assert odd.code == "context_length_exceeded", odd
    assert wire.error(continue_(prompt="word " * 5000), 400).code == "context_length_exceeded"
    assert wire.error(continue_(suffix="the end"), 400).type == "invalid_request_error"
    assert wire.error(post("/v1/embeddings", input="blue"), 400).type == "invalid_request_error"
    if KEY != "none":
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic a2V5"}):
            stranger = httpx.post(f"{URL}/v1/chat/completions", json={"model": MODEL}, headers=headers)
            assert wire.error(stranger, 401).code == "invalid_api_key"
            assert stranger.headers["x-request-id"]
    broken = http.post("/v1/chat/completions", content=b'{"model": ')
    assert wire.error(broken, 415).type == "invalid_request_error"
    json = {"content-type": "application/json"}
    broken = http.post("/v1/chat/completions", content=b'{"model": ', headers=json)
    assert wire.error(broken, 400).type == "invalid_request_error"
    assert wire.error(http.get("/v1/chat/completions"), 405).type == "invalid_request_error"
    assert wire.error(http.post("/v1/nothing", json={}), 404).type == "invalid_request_error"


if __name__ == "__main__":
    asyncio.run(session.run())
