"""An embedder behind a scripted endpoint on a real socket, which gives the vectors of HashedWords."""

import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router.artifacts.manifest import MANIFEST, EndpointRecord
from router.embedders.cache import EmbeddingCache
from router.embedders.endpoint import BATCH, EndpointEmbedder
from router.embedders.registry import embedder_of, record_of
from router.errors import EmbedderError, EndpointError
from router.router import Router
from router.training.train import train
from tests.router.embedders.scripted_endpoint import Call, Scripted, ScriptedEndpoint, failure, scripted
from tests.router.embedders.test_embedders import TEXTS
from tests.router.hashed_words import HashedWords
from tests.router.training.test_training import MAPPING, contents, prompts

INSTRUCTION = "Instruct: Name the topic\nQuery: "


def hashed(call: Call) -> Scripted:
    """Last text first, and not of length one."""
    vectors = HashedWords().embed(call.body["input"]) * 3
    data = [{"index": index, "embedding": row.tolist()} for index, row in enumerate(vectors)]
    return Scripted(body={"data": data[::-1]})


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with scripted(hashed) as made:
        yield made
        gc.collect()  # embedders that a raised error still held close their connections


def embedder(
    endpoint: ScriptedEndpoint, sleep: Callable[[float], None] | None = None, **fields: Any
) -> EndpointEmbedder:
    record = EndpointRecord(url=endpoint.url, model="e5", **fields)
    return EndpointEmbedder(record, 64, environment={}, sleep=sleep or (lambda _: None))


def test_vectors_have_length_one_and_stand_in_the_order_of_the_texts(endpoint: ScriptedEndpoint) -> None:
    vectors = embedder(endpoint).embed(TEXTS[:2])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, HashedWords().embed(TEXTS[:2]), atol=1e-6)
    (call,) = endpoint.calls
    assert (call.path, call.authorization) == ("/v1/embeddings", None)
    assert call.body == {"model": "e5", "input": TEXTS[:2], "encoding_format": "float"}
    assert embedder(endpoint).embed([]).shape == (0, 64)


def test_the_instruction_stands_before_each_text_and_long_ones_are_cut(endpoint: ScriptedEndpoint) -> None:
    embedder(endpoint, instruction=INSTRUCTION, characters=5).embed(["a longer text", ""])
    embedder(endpoint).embed([""])
    assert [call.body["input"] for call in endpoint.calls] == [[f"{INSTRUCTION}a lon", INSTRUCTION], [" "]]


def test_many_texts_go_in_batches(endpoint: ScriptedEndpoint) -> None:
    texts = [f"text {index}" for index in range(2 * BATCH + 1)]
    np.testing.assert_allclose(embedder(endpoint).embed(texts), HashedWords().embed(texts), atol=1e-6)
    assert [len(call.body["input"]) for call in endpoint.calls] == [BATCH, BATCH, 1]


def test_the_cache_asks_for_what_is_new_in_batches(endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    cache = EmbeddingCache(embedder(endpoint), tmp_path / "cache")
    cache.embed(["a"])
    vectors = cache.embed(["b", "a", "c", "b"])
    cache.close()
    np.testing.assert_allclose(vectors, HashedWords().embed(["b", "a", "c", "b"]), atol=1e-6)
    assert [call.body["input"] for call in endpoint.calls] == [["a"], ["b", "c"]]


def test_the_key_is_from_the_environment(endpoint: ScriptedEndpoint) -> None:
    record = EndpointRecord(url=endpoint.url, model="e5")
    EndpointEmbedder(record, 64, environment={"COE_EMBEDDER_KEY": "sesame"}).embed(["a"])
    assert endpoint.calls[0].authorization == "Bearer sesame"


def test_the_dimension_is_asked_for_where_it_is_not_known(endpoint: ScriptedEndpoint) -> None:
    record = EndpointRecord(url=endpoint.url, model="e5")
    made = EndpointEmbedder(record, environment={})
    assert made.dimension == 64
    assert repr(made) == f"<EndpointEmbedder e5 at {endpoint.url}/v1, 64 dimensions>"


def test_what_the_vectors_depend_on_is_the_identity_and_the_address_is_not(
    endpoint: ScriptedEndpoint,
) -> None:
    first = embedder(endpoint)
    elsewhere = EndpointRecord(url="http://elsewhere", model="e5", parameters_b=7.11)
    assert EndpointEmbedder(elsewhere, 64).sha256 == first.sha256
    others = [
        EndpointEmbedder(first.record, 65),
        EndpointEmbedder(elsewhere.model_copy(update={"model": "e6"}), 64),
        EndpointEmbedder(elsewhere.model_copy(update={"instruction": "query: "}), 64),
        EndpointEmbedder(elsewhere.model_copy(update={"characters": 9}), 64),
    ]
    assert len({first.sha256, *(other.sha256 for other in others)}) == 5
    assert first.name == "endpoint:e5"


@pytest.mark.parametrize(
    "trouble", [failure(503, "loading", retry_after="3"), failure(429, "slow"), Scripted(0)]
)
def test_a_busy_endpoint_is_asked_once_more(endpoint: ScriptedEndpoint, trouble: Scripted) -> None:
    endpoint.answer = lambda call: trouble if len(endpoint.calls) == 1 else hashed(call)
    waits: list[float] = []
    assert embedder(endpoint, waits.append).embed(["a"]).shape == (1, 64)
    assert waits == [3.0 if trouble.headers else 0.5]


@pytest.mark.parametrize(
    ("said", "calls", "complaint"),
    [
        (failure(500, "no memory\nleft"), 2, "answered 500 for 'e5': no memory left"),
        (Scripted(0), 2, r"cannot be reached \(.+\); COE_EMBEDDER_URL names another"),
        (failure(401, "who?"), 1, r"wants a key; set COE_EMBEDDER_KEY \(who\?\)"),
        (failure(404, "no e5 here"), 1, "has no model 'e5': no e5 here"),
        (failure(400, "too long"), 1, "answered 400 for 'e5': too long"),
        (Scripted(body={"data": "none"}), 1, "something else than embeddings"),
        (Scripted(body={"data": []}), 1, "0 vectors for 1 texts"),
        (Scripted(body={"data": [{"index": 1, "embedding": [1.0]}]}), 1, "1 vectors for 1 texts"),
        (
            Scripted(body={"data": [{"index": 0, "embedding": [1.0]}]}),
            1,
            "of 1 dimensions, not 64: is it the model",
        ),
        (Scripted(body={"data": [{"index": 0, "embedding": [0.0] * 64}]}), 1, "zero or not finite"),
        (Scripted(body={"data": [{"index": 0, "embedding": [float("nan")] * 64}]}), 1, "zero or not finite"),
        (
            Scripted(body={"data": [{"index": 0, "embedding": [None] * 64}]}),
            1,
            "something else than embeddings",
        ),
    ],
)
def test_no_vector_or_a_wrong_one_is_one_line(
    endpoint: ScriptedEndpoint, said: Scripted, calls: int, complaint: str
) -> None:
    endpoint.answer = lambda call: said
    with pytest.raises(EmbedderError, match=rf"^the endpoint of embedder e5 .*{complaint}") as raised:
        embedder(endpoint).embed(["a"])
    assert len(endpoint.calls) == calls
    assert "\n" not in str(raised.value)
    assert endpoint.url not in str(raised.value)


def test_an_artifact_brings_its_endpoint_back(
    endpoint: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = embedder(endpoint, instruction=INSTRUCTION, parameters_b=7.11)
    record = record_of(made)
    assert embedder_of(record).sha256 == made.sha256
    assert record_of(embedder_of(record)) == record
    monkeypatch.setenv("COE_EMBEDDER_URL", "http://elsewhere/v2")
    assert repr(embedder_of(record)) == "<EndpointEmbedder e5 at http://elsewhere/v2, 64 dimensions>"
    monkeypatch.setenv("COE_EMBEDDER_URL", "elsewhere")
    with pytest.raises(EndpointError, match="'elsewhere' is no address"):
        embedder_of(record)
    assert record_of(HashedWords()).endpoint is None


def test_a_router_is_trained_with_it_and_decides_with_it(
    endpoint: ScriptedEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COE_EMBEDDER_URL", raising=False)
    for name in ("one", "two"):
        made = embedder(endpoint, parameters_b=7.11)
        train(prompts(), tmp_path / name, mapping=MAPPING, embedder=made, cache=tmp_path / "cache")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    kept = json.loads((tmp_path / "one" / MANIFEST).read_text())["embedder"]
    assert kept["name"] == "endpoint:e5"
    assert kept["endpoint"] == made.record.model_dump()
    router = Router.load(tmp_path / "one")
    assert router.decide("butter flour dough sugar whisk oven").expert == "chef"
    assert max(len(call.body["input"]) for call in endpoint.calls) == BATCH
    endpoint.answer = lambda call: failure(401, "no longer")
    with pytest.raises(EmbedderError, match="wants a key"):
        router.decide("anchor the keel")
    with scripted(hashed) as moved:
        monkeypatch.setenv("COE_EMBEDDER_URL", moved.url)
        router = Router.load(tmp_path / "one")
        assert router.decide("anchor keel reef jib rudder mast").expert == "skipper"
        assert len(moved.calls) == 1
