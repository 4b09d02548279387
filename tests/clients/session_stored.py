"""As session_wire, over what the gateway keeps: responses, files and batches."""

import asyncio
import json
import time
from typing import Any

import httpx
from openai.types.chat import ChatCompletion

from tests.clients import wire
from tests.clients.checks import COMPOSITION, KEY, MODEL, PROMPT, URL, Session

session = Session()
http = httpx.Client(base_url=URL, headers={"authorization": f"Bearer {KEY}"}, timeout=120)
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}


def respond(**fields: Any) -> httpx.Response:
    given: dict[str, Any] = {
        "model": MODEL,
        "input": PROMPT,
        "max_output_tokens": 24,
        "temperature": 0,
    } | fields
    return http.post("/v1/responses", json=given)


@session.check
def a_response_is_whole_and_kept() -> None:
    made = wire.response(respond())
    assert made.id.startswith("resp_")
    assert made.model == MODEL
    assert made.output_text
    assert made.usage is not None
    assert made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens
    kept = wire.response(http.get(f"/v1/responses/{made.id}"))
    assert (kept.id, kept.output_text) == (made.id, made.output_text)
    more = wire.response(respond(input="And at night?", previous_response_id=made.id))
    assert more.previous_response_id == made.id
    assert more.usage is not None
    assert more.usage.input_tokens > made.usage.input_tokens


@session.check
def its_events_are_whole_and_add_up() -> None:
    events = wire.response_events(respond(stream=True))
    plain = wire.response(respond())
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] in ("response.completed", "response.incomplete")
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text == plain.output_text


@session.check
def its_tool_calls_and_schemas_are_whole() -> None:
    tool = {"type": "function", "name": "weather", "parameters": CITY, "strict": True}
    fields: dict[str, Any] = {
        "tools": [tool],
        "tool_choice": "required",
        "max_output_tokens": 150,
    }
    fields["parallel_tool_calls"] = False
    calls = [item for item in wire.response(respond(**fields)).output if item.type == "function_call"]
    assert json.loads(calls[0].arguments)["city"] in ("Paris", "Rome")
    events = wire.response_events(respond(**fields, stream=True))
    (done,) = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert json.loads(done.arguments)["city"] in ("Paris", "Rome")
    form = {"format": {"type": "json_schema", "name": "place", "schema": CITY, "strict": True}}
    assert json.loads(wire.response(respond(text=form, max_output_tokens=100)).output_text)["city"]


@session.check
def a_custom_tool_is_called_with_a_text() -> None:
    tool = {"type": "custom", "name": "note", "description": "Writes down a short note, in plain text."}
    fields: dict[str, Any] = {"tools": [tool], "parallel_tool_calls": False, "max_output_tokens": 200}
    fields |= {"tool_choice": {"type": "custom", "name": "note"}, "input": "Note: buy bread."}
    plain = wire.response(respond(**fields))
    events = wire.response_events(respond(**fields, stream=True))
    (call,) = [item for item in plain.output if item.type == "custom_tool_call"]
    (done,) = [event for event in events if event.type == "response.custom_tool_call_input.done"]
    deltas = [event.delta for event in events if event.type == "response.custom_tool_call_input.delta"]
    assert call.name == "note"
    assert done.input == "".join(deltas) == call.input
    heard = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "noted"}
    more = wire.response(respond(input=[heard], previous_response_id=plain.id, tools=[tool]))
    assert more.output
    grammar = {"type": "grammar", "syntax": "regex", "definition": "[a-z]+"}
    refused = respond(**fields | {"tools": [tool | {"format": grammar}]})
    assert wire.error(refused, 400).param == "tools[0].format"


@session.check
def a_response_in_the_background_is_cancelled() -> None:
    made = wire.response(
        respond(background=True, max_output_tokens=1500, ignore_eos=True, input="Count to a thousand.")
    )
    assert made.status in ("queued", "in_progress")
    assert wire.response(http.post(f"/v1/responses/{made.id}/cancel")).status == "cancelled"


@session.check
def a_stream_from_the_background_is_left_and_rejoined() -> None:
    fields = {"background": True, "stream": True, "max_output_tokens": 100, "ignore_eos": True}
    asked = {"model": MODEL, "input": PROMPT, "temperature": 0} | fields
    with http.stream("POST", "/v1/responses", json=asked) as answer:
        begun = next(line for line in answer.iter_lines() if line.startswith("data: "))
    path = f"/v1/responses/{json.loads(begun.removeprefix('data: '))['response']['id']}"
    events = wire.response_events(http.get(path, params={"stream": "true"}))
    rest = wire.response_events(http.get(path, params={"stream": "true", "starting_after": 3}), first=4)
    assert rest == events[4:]
    assert [event.type for event in events[:2]] == ["response.created", "response.queued"]
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == wire.response(http.get(path)).output_text
    assert wire.error(http.get(path, params={"stream": "true", "starting_after": "x"}), 400).param


@session.check
def what_is_wrong_with_a_response_is_said() -> None:
    assert wire.error(respond(model="gpt-9"), 404).code == "model_not_found"
    assert wire.error(respond(temperature="warm"), 400).param == "temperature"
    assert wire.error(respond(input="word " * 5000), 400).code == "context_length_exceeded"
    assert wire.error(respond(previous_response_id="resp_none"), 400).param == "previous_response_id"
    assert wire.error(http.get("/v1/responses/resp_none"), 404).type == "invalid_request_error"


def line(number: int, **fields: Any) -> str:
    body = {"model": COMPOSITION, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 8} | fields
    return json.dumps(
        {"custom_id": f"line-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    )


@session.check
def a_batch_of_a_file_is_answered() -> None:
    lines = "\n".join([line(0), line(1, model=MODEL), line(2, model="gpt-9")])
    sent = http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("requests.jsonl", lines)})
    file = wire.file(sent)
    assert wire.file(http.get(f"/v1/files/{file.id}")).bytes == len(lines)
    assert file.id in [each.id for each in wire.listed(type(file), http.get("/v1/files"))]
    assert http.get(f"/v1/files/{file.id}/content").text == lines
    asked = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = wire.batch(http.post("/v1/batches", json=asked))
    deadline = time.monotonic() + 120
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        assert time.monotonic() < deadline, batch
        time.sleep(0.2)
        batch = wire.batch(http.get(f"/v1/batches/{batch.id}"))
    assert batch.status == "completed", batch
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 1)
    written = http.get(f"/v1/files/{batch.output_file_id}/content").text.splitlines()
    assert {json.loads(each)["custom_id"] for each in written} == {"line-0", "line-1"}
    for each in written:
        answer = json.loads(each)["response"]
        assert answer["status_code"] == 200
        assert wire.read(ChatCompletion, json.dumps(answer["body"])).usage
    (failed,) = http.get(f"/v1/files/{batch.error_file_id}/content").text.splitlines()
    answer = json.loads(failed)["response"]
    assert answer["status_code"] == 404
    assert wire.read(wire.Error, json.dumps(answer["body"])).error.code == "model_not_found"
    assert batch.id in [each.id for each in wire.listed(type(batch), http.get("/v1/batches"))]
    assert wire.file_deleted(http.delete(f"/v1/files/{file.id}")).deleted


@session.check
def what_is_wrong_with_a_batch_is_said() -> None:
    asked = {"input_file_id": "file-none", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    assert wire.error(http.post("/v1/batches", json=asked), 404).type == "invalid_request_error"
    assert wire.error(http.get("/v1/batches/batch_none"), 404).type == "invalid_request_error"
    assert wire.error(http.get("/v1/files/file-none"), 404).type == "invalid_request_error"
    assert wire.error(http.post("/v1/files", data={"purpose": "batch"}), 400).type == "invalid_request_error"


if __name__ == "__main__":
    asyncio.run(session.run())
