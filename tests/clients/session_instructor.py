"""instructor, which makes objects of answers, by each of its ways that OpenAI's endpoints have."""

import asyncio

import instructor
import pytest
from instructor.core.exceptions import InstructorRetryException
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.clients.checks import API, COMPOSITION, EMBEDDER, KEY, MODEL, Leaving, Session, until_answered

session = Session()
OPENAI = OpenAI(base_url=API, api_key=KEY, max_retries=0)
USER = [{"role": "user", "content": "Is Europe a continent?"}]


class Place(BaseModel):
    """A place."""

    continent: bool


def ask(mode: instructor.Mode, **fields: object) -> Place:
    given = {
        "model": MODEL,
        "messages": USER,
        "response_model": Place,
        "max_tokens": 150,
        "temperature": 0,
        "max_retries": 0,
    } | fields
    made: Place = instructor.from_openai(OPENAI, mode=mode).chat.completions.create(**given)
    return made


@session.check
def tools() -> None:
    assert isinstance(ask(instructor.Mode.TOOLS), Place)
    assert isinstance(ask(instructor.Mode.TOOLS, model=COMPOSITION), Place)


@session.check
def a_json_schema_is_kept() -> None:
    assert isinstance(ask(instructor.Mode.JSON_SCHEMA), Place)


@session.check
def chat() -> None:
    plain = instructor.from_openai(OPENAI).chat.completions.create(
        model=MODEL, messages=USER, response_model=None, max_tokens=8
    )
    assert plain.choices[0].message.content


@session.check
def stream() -> None:
    client = instructor.from_openai(OPENAI, mode=instructor.Mode.JSON_SCHEMA)
    parts = list(
        client.chat.completions.create_partial(
            model=MODEL, messages=USER, response_model=Place, max_tokens=150
        )
    )
    assert isinstance(parts[-1].continent, bool)


@session.check
def embeddings() -> None:
    assert OPENAI.embeddings.create(model=EMBEDDER, input="blue").data[0].embedding


@session.check
async def a_task_cancelled_is_cancelled() -> None:
    async with Leaving():
        client = instructor.from_openai(AsyncOpenAI(base_url=API, api_key=KEY, max_retries=0))
        task = asyncio.create_task(
            client.chat.completions.create(
                model=MODEL,
                messages=USER,
                response_model=None,
                max_tokens=1500,
                extra_body={"ignore_eos": True},
            )
        )
        await until_answered()
        task.cancel()
        await asyncio.wait([task])


@session.check
def errors() -> None:
    long = [{"role": "user", "content": "word " * 5000}]
    for wrong, said in (({"model": "gpt-9"}, "does not exist"), ({"messages": long}, "context length")):
        with pytest.raises(InstructorRetryException, match=said):
            ask(instructor.Mode.TOOLS, **wrong)


if __name__ == "__main__":
    asyncio.run(session.run())
