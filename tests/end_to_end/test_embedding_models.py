"""Two embedding models behind the gateway on real vLLM.

They are the embedded base and a fine-tune of it, served as models are that embed by their last token."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import yaml

from tests.end_to_end.conftest import GatewayProcess, serving
from tests.plain_vllm import plain_vectors

pytestmark = pytest.mark.engine
TEXTS = ["The court dismissed the appeal.", "What is the integral of x^2?", "Iron."]
NOISE = 1e-4
"""Of a vector of length 1 in float32."""


@pytest.fixture(scope="module")
def vectors(store: Path, tmp_path_factory: pytest.TempPathFactory) -> list[list[float]]:
    """Of ``law``, which the gateway does not start with. It comes first so that two engines never compute at
    once."""
    return plain_vectors(store / "law", TEXTS, tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="module")
def gateway(
    store: Path, vectors: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """The device holds one of the two, the host both."""
    folder = tmp_path_factory.mktemp("gateway")
    family = {
        "mode": "plain",
        "task": "embed",
        "dtype": "float32",
        "max_model_len": 512,
        "kv_cache": "128MiB",
    }
    checkpoints = {"general": "base", "law": "law"}
    tree = {
        "store": str(store),
        "logs": str(folder / "logs"),
        "tiers": {"device": "700MB", "host": "1250MB", "min_residency_s": 0},
        "families": {"vectors": family},
        "experts": {
            name: {"family": "vectors", "checkpoint": {"embedded": embedded}}
            for name, embedded in checkpoints.items()
        },
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    with serving(file, folder / "stderr.log") as gateway:
        yield gateway


def embedded(client: openai.OpenAI, model: str) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    answer = client.embeddings.create(model=model, input=TEXTS)
    assert (answer.model, [each.index for each in answer.data]) == (model, [0, 1, 2])
    return np.array([each.embedding for each in answer.data])


def test_models_give_the_vectors_of_vllm_alone_and_take_turns(
    gateway: GatewayProcess, vectors: list[list[float]]
) -> None:
    with gateway.client() as client:
        general = embedded(client, "general")
        law = embedded(client, "law")  # loaded in the other's place
        again = embedded(client, "general")
    assert np.abs(law - vectors).max() < NOISE
    assert np.abs(again - general).max() < NOISE
    assert np.abs(law - general).max() > 100 * NOISE


def test_tokens_are_embedded_and_counted_like_their_text(gateway: GatewayProcess) -> None:
    with gateway.client() as client:
        text = client.embeddings.create(model="general", input=TEXTS[0], encoding_format="float")
        told = client.post("../tokenize", body={"model": "general", "prompt": TEXTS[0]}, cast_to=dict)
        tokens: list[int] = told["tokens"]
        both = client.embeddings.create(model="general", input=[tokens, tokens[:2]])
    assert text.usage.model_dump()["prompt_tokens"] == len(tokens)
    assert both.usage.total_tokens == len(tokens) + 2
    assert np.abs(np.array(both.data[0].embedding) - text.data[0].embedding).max() < NOISE


def test_what_vllm_refuses_is_refused_in_openais_words(gateway: GatewayProcess) -> None:
    with gateway.client() as client:
        with pytest.raises(openai.BadRequestError, match="does not support Matryoshka"):
            client.embeddings.create(model="law", input="a", dimensions=64)
        with pytest.raises(openai.BadRequestError) as caught:
            client.embeddings.create(model="law", input="word " * 600)
        assert caught.value.code == "context_length_exceeded"
        with pytest.raises(openai.BadRequestError, match="law is an embedding model and generates no text"):
            client.chat.completions.create(model="law", messages=[{"role": "user", "content": "hello"}])


def test_documents_are_ordered_by_the_cosine_of_their_vectors(gateway: GatewayProcess) -> None:
    with gateway.client() as client:
        query, other, _ = embedded(client, "general")
    body = {"model": "general", "query": TEXTS[0], "documents": [TEXTS[1], TEXTS[0]]}
    answer = httpx.post(f"{gateway.url}/v1/rerank", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "general"
    first, second = answer.json()["results"]
    assert (first["index"], second["index"]) == (1, 0)
    cosine = float(query @ other / np.linalg.norm(query) / np.linalg.norm(other))
    assert first["relevance_score"] == pytest.approx(1.0, abs=1e-3)
    assert second["relevance_score"] == pytest.approx(cosine, abs=1e-3)
