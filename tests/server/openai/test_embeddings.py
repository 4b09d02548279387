"""Embeddings of a composition's router, by the OpenAI client over a real socket."""

from typing import Any

import numpy as np
import openai
import pytest

from router.embedders.registry import embedder_named
from server.config.settings import Settings
from tests.server.conftest import Serving

TEXTS = ["What is the integral of x^2?", "The court dismissed the appeal."]


async def test_the_openai_client_gets_the_vectors_that_the_router_reads(
    settings: Settings, serving: Serving
) -> None:
    embedder = embedder_named("minilm-l6-int8")
    async with (
        serving(settings) as gateway,
        openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as client,
    ):
        packed = await client.embeddings.create(model="coe", input=TEXTS)  # asks for base64
        plain = await client.embeddings.create(
            model="coe", input=TEXTS[0], encoding_format="float", dimensions=384
        )
    assert np.array_equal(
        np.array([item.embedding for item in packed.data], dtype=np.float32), embedder.embed(TEXTS)
    )
    assert [item.index for item in packed.data] == [0, 1]
    assert np.allclose(plain.data[0].embedding, packed.data[0].embedding)
    assert packed.model == "coe"
    assert packed.usage.prompt_tokens == 19  # 11 and 8, with their two marks each


async def test_many_texts_come_back_in_order(settings: Settings, serving: Serving) -> None:
    texts = [f"text number {number}" for number in range(21)]
    async with serving(settings) as gateway:
        answer = (await gateway.http.post("/v1/embeddings", json={"model": "coe", "input": texts})).json()
        alone = (await gateway.http.post("/v1/embeddings", json={"model": "coe", "input": texts[20]})).json()
    assert len(answer["data"]) == 21
    assert answer["data"][20]["embedding"] == alone["data"][0]["embedding"]


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"input": []}, 400, "input"),
        ({"input": ["a", ""]}, 400, "input[1]"),
        ({"input": [[1, 2]]}, 400, "input[0]"),
        ({"input": {}}, 400, "input"),
        ({"messages": [{"role": "user", "content": "a"}]}, 400, "input"),
        ({"messages": [{"role": "user", "content": "a"}], "input": []}, 400, "input"),
        ({"input": ["a"] * 2049}, 400, "input"),
        ({"input": "a", "encoding_format": "hex"}, 400, "encoding_format"),
        ({"input": "a", "dimensions": 100}, 400, "dimensions"),
        ({"input": "a", "model": "law"}, 400, "model"),
        ({"input": "a", "model": "text-embedding-3-small"}, 404, "model"),
    ],
)
async def test_what_cannot_be_embedded_is_refused(
    settings: Settings, serving: Serving, fields: dict[str, Any], status: int, param: str
) -> None:
    async with serving(settings) as gateway:
        answer = await gateway.http.post("/v1/embeddings", json={"model": "coe"} | fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


async def test_the_list_of_models_says_how_long_the_vectors_are(settings: Settings, serving: Serving) -> None:
    async with serving(settings) as gateway:
        listed = (await gateway.http.get("/v1/models/coe")).json()
    assert listed["coe"]["embedding_dimensions"] == 384
