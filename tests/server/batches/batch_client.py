"""What tests of batches share: a configuration with batches, an input file, OpenAI's client."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI
from openai.types import Batch

from server.config.batches import BatchesConfig
from server.config.settings import Settings

CHAT = "/v1/chat/completions"
PROMPTS = {
    "math": "Solve the equation 3x + 5 = 20 and show every step of the algebra.",
    "coding": "Write a Python function that reverses a linked list.",
    "medicine": "What are the symptoms of an iron deficiency in adults?",
    "law": "Can my landlord end a lease before its term without giving notice?",
}


def with_batches(settings: Settings, folder: Path, **given: Any) -> Settings:
    config = BatchesConfig(folder=folder / "batches", **given)
    return settings.model_copy(update={"batches": config})


def request(custom_id: str, model: str = "law", url: str = CHAT, **body: Any) -> dict[str, Any]:
    message = {"role": "user", "content": f"hello from {custom_id}"}
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": url,
        "body": {"model": model, "messages": [message], "max_tokens": 3} | body,
    }


def asking(custom_id: str, prompt: str, **body: Any) -> dict[str, Any]:
    """Of the composition."""
    messages = [{"role": "user", "content": prompt}]
    return request(custom_id, model="coe", messages=messages, **body)


def jsonl(requests: Iterable[object]) -> bytes:
    """One in each line; an empty text is an empty line."""
    return b"".join((json.dumps(each).encode() if each else b"") + b"\n" for each in requests)


def lines_of(text: str) -> dict[str, dict[str, Any]]:
    """By custom_id, each of which occurs once."""
    lines = [json.loads(line) for line in text.splitlines()]
    by_id = {line["custom_id"]: line for line in lines}
    assert len(by_id) == len(lines)
    return by_id


@asynccontextmanager
async def client_of(url: str, key: str = "none") -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
        yield client


async def submitted(client: AsyncOpenAI, requests: Iterable[object], endpoint: Any = CHAT) -> Batch:
    file = await client.files.create(file=("in.jsonl", jsonl(requests)), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", metadata={"of": "a test"}
    )


async def ended(client: AsyncOpenAI, id: str) -> Batch:
    while True:
        batch = await client.batches.retrieve(id)
        if batch.status in ("completed", "failed", "expired", "cancelled"):
            return batch


async def text_of(client: AsyncOpenAI, file_id: str | None) -> str:
    assert file_id is not None
    return (await client.files.content(file_id)).text
