"""Ollama's client for Python: conversations, prompts, schemas, tools, embeddings, leaving, errors."""

import asyncio
import contextlib
import json

import httpx
import ollama

from tests.clients.checks import COMPOSITION, EMBEDDER, KEY, MODEL, PROMPT, URL, Leaving, Session

session = Session()
HEADERS = {"authorization": f"Bearer {KEY}"}
client = ollama.Client(host=URL, headers=HEADERS)
MESSAGES = [{"role": "user", "content": PROMPT}]
GREEDY = {"temperature": 0, "num_predict": 16}


@session.check
def chat() -> None:
    whole = client.chat(COMPOSITION, MESSAGES, options=GREEDY)
    assert whole.message.content
    assert (whole.model, whole.done) == (COMPOSITION, True)


@session.check
def stream() -> None:
    whole = client.chat(MODEL, MESSAGES, options=GREEDY)
    pieces = list(client.chat(MODEL, MESSAGES, options=GREEDY, stream=True))
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    assert pieces[-1].eval_count == whole.eval_count
    assert pieces[-1].done_reason == whole.done_reason


@session.check
def a_prompt_with_its_template_and_without() -> None:
    assert client.generate(MODEL, PROMPT, options=GREEDY).response
    raw = client.generate(MODEL, "The sky is", raw=True, options=GREEDY)
    assert (raw.eval_count, raw.done_reason) == (16, "length")


@session.check
def a_json_schema_is_kept() -> None:
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}
    question = [{"role": "user", "content": "Is Europe a continent?"}]
    answer = client.chat(MODEL, question, format=schema, options={"temperature": 0, "num_predict": 60})
    assert isinstance(json.loads(answer.message.content or "")["yes"], bool)


@session.check
def tools_are_offered() -> None:
    """It leaves the choice to the model, which is too small to make it."""

    def weather(city: str) -> str:
        """Says how the weather is.

        Args:
            city: the city
        """
        return "sunny"

    assert client.chat(MODEL, MESSAGES, tools=[weather], options=GREEDY).done


@session.check
def embeddings() -> None:
    both = client.embed(EMBEDDER, ["a text", "another"])
    assert [len(vector) for vector in both.embeddings] == [len(both.embeddings[0])] * 2


@session.check
def models() -> None:
    assert f"{MODEL}:latest" in {model.model for model in client.list().models}
    assert "completion" in (client.show(MODEL).capabilities or ())
    client.chat(MODEL, keep_alive="1h")
    assert f"{MODEL}:latest" in {model.model for model in client.ps().models}


@session.check
async def a_stream_that_is_left_is_cancelled() -> None:
    endless = {"num_predict": 1500, "temperature": 0}
    async with Leaving(), ollama.AsyncClient(host=URL, headers=HEADERS) as left:
        await anext(await left.chat(MODEL, MESSAGES, stream=True, options=endless))


@session.check
def errors() -> None:
    for fields, status in (({"model": "gpt-9"}, 404), ({"model": MODEL, "format": "xml"}, 400)):
        answer = httpx.post(f"{URL}/api/chat", json={**fields, "messages": MESSAGES}, headers=HEADERS)
        assert (answer.status_code, [*answer.json()]) == (status, ["error"])
    with contextlib.suppress(ollama.ResponseError):
        client.pull(MODEL)
        raise AssertionError("a model was pulled")


if __name__ == "__main__":
    asyncio.run(session.run())
