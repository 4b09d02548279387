"""``scripts/router/distil.py``: a static embedder from a slow one."""

from pathlib import Path

import numpy as np

from router.embedders.model_files import TOKENIZER
from router.embedders.static import StaticMiniLm
from router.embedders.static_table import StaticTable
from router.embedders.wordpiece import WordPieces
from scripts.router.distil import distil, rounded
from tests.router.hashed_words import HashedWords

ANIMALS = ["the cat sat on the mat", "a cat and a dog", "the dog ran to the cat", "dog, cat and mouse"]
PIECES = WordPieces.read(TOKENIZER)


def small_vocabulary() -> WordPieces:
    words = ["[UNK]", *sorted({word for text in ANIMALS for word in text.replace(",", " ,").split()}), "##s"]
    return WordPieces({word: number for number, word in enumerate(words)})


def test_distilled_vectors_are_as_near_to_each_other_as_the_teachers(tmp_path: Path) -> None:
    texts = [*ANIMALS, "sue the landlord", "the plaintiff and the landlord", "a plaintiff sued a landlord"]
    table = distil(HashedWords(), PIECES, texts, dimension=64, strength=0.1, rows=30)
    (tmp_path / "table").write_bytes(table)
    taught, learned = HashedWords().embed(texts), StaticMiniLm(tmp_path / "table").embed(texts)
    pairs = np.triu_indices(len(texts), 1)
    assert np.corrcoef((learned @ learned.T)[pairs], (taught @ taught.T)[pairs])[0, 1] > 0.95


def test_the_same_texts_give_the_same_table() -> None:
    tables = [distil(HashedWords(), small_vocabulary(), ANIMALS, dimension=16) for _ in range(2)]
    assert tables[0] == tables[1]


def test_tokens_in_most_texts_are_kept(tmp_path: Path) -> None:
    pieces = small_vocabulary()
    file = tmp_path / "table.safetensors"
    file.write_bytes(distil(HashedWords(), pieces, ANIMALS, dimension=16, rows=2))
    assert set(StaticTable.read(file).tokens) == {pieces.vocabulary[word] for word in ("cat", "dog")}


def test_rounding_to_four_bits_loses_little(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 384)).astype(np.float32)
    file = tmp_path / "table.safetensors"
    file.write_bytes(rounded(np.arange(50), vectors))
    table = StaticTable.read(file)
    assert np.array_equal(table.tokens, np.arange(50))
    assert np.abs(table.codes).max() <= 7
    back = table.codes * table.scales.astype(np.float32)[:, None]
    cosines = (back * vectors).sum(axis=1) / np.linalg.norm(back, axis=1) / np.linalg.norm(vectors, axis=1)
    assert cosines.min() > 0.98


def test_a_table_of_ones_own_makes_another_embedder(tmp_path: Path) -> None:
    table = distil(HashedWords(), PIECES, ANIMALS, dimension=16, rows=40)
    (tmp_path / "own.safetensors").write_bytes(table)
    own = StaticMiniLm(tmp_path / "own.safetensors")
    assert own.dimension == 16
    assert own.sha256 != StaticMiniLm().sha256
