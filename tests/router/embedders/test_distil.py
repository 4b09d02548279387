from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from router.embedders.model_files import TOKENIZER
from router.embedders.static import StaticMiniLm
from router.embedders.static_table import StaticTable
from router.embedders.wordpiece import WordPieces
from router.errors import EmbedderError
from router.training.distil import distil
from tests.router.hashed_words import HashedWords

ANIMALS = ["the cat sat on the mat", "a cat and a dog", "the dog ran to the cat", "dog, cat and mouse"]
PIECES = WordPieces.read(TOKENIZER)


def small_vocabulary() -> WordPieces:
    words = ["[UNK]", *sorted({word for text in ANIMALS for word in text.replace(",", " ,").split()}), "##s"]
    return WordPieces({word: number for number, word in enumerate(words)})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "What is the integral of x^2?",
        "Antidisestablishmentarianism, naïve café_au_lait!",
        "今天天气怎么样 🙂 Привет ΑΒΓ",
        "def f(x):\n\treturn x**2  # squared",
        "a" * 101 + " " + "b" * 100,
        "U.S. law's 230(c)(1) — “10½”, see above…",
    ],
)
def test_words_are_split_as_the_library_splits_them(text: str) -> None:
    library = Tokenizer.from_file(str(TOKENIZER))
    library.no_padding()
    library.no_truncation()
    assert PIECES.ids(text) == library.encode(text, add_special_tokens=False).ids


def test_a_symbol_stands_alone_where_the_library_joins_it_to_a_word() -> None:
    assert PIECES.ids("20°→5€") == PIECES.ids("20 ° → 5 €")


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text('{"model": {"vocab": [["a", 1]]}}')
    with pytest.raises(EmbedderError, match=r"not the tokenizer\.json of a WordPiece model"):
        WordPieces.read(file)


def test_distilled_vectors_are_as_near_to_each_other_as_the_teachers(tmp_path: Path) -> None:
    texts = [*ANIMALS, "sue the landlord", "the plaintiff and the landlord", "a plaintiff sued a landlord"]
    distil(HashedWords(), PIECES, texts, dimension=64, strength=0.1, rows=30).write(tmp_path / "table")
    taught, learned = HashedWords().embed(texts), StaticMiniLm(tmp_path / "table").embed(texts)
    pairs = np.triu_indices(len(texts), 1)
    assert np.corrcoef((learned @ learned.T)[pairs], (taught @ taught.T)[pairs])[0, 1] > 0.95


def test_the_same_texts_give_the_same_table() -> None:
    tables = [distil(HashedWords(), small_vocabulary(), ANIMALS, dimension=16) for _ in range(2)]
    assert tables[0].sha256 == tables[1].sha256


def test_tokens_in_most_texts_are_kept() -> None:
    pieces = small_vocabulary()
    table = distil(HashedWords(), pieces, ANIMALS, dimension=16, rows=2)
    assert set(table.tokens) == {pieces.vocabulary[word] for word in ("cat", "dog")}


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    table = distil(HashedWords(), small_vocabulary(), ANIMALS, dimension=16)
    table.write(tmp_path / "table.safetensors")
    again = StaticTable.read(tmp_path / "table.safetensors")
    for name in ("tokens", "codes", "scales"):
        assert np.array_equal(getattr(again, name), getattr(table, name))


def test_rounding_to_four_bits_loses_little() -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 384)).astype(np.float32)
    table = StaticTable.rounded(np.arange(50), vectors)
    assert np.abs(table.codes).max() <= 7
    back = table.codes * table.scales.astype(np.float32)[:, None]
    cosines = (back * vectors).sum(axis=1) / np.linalg.norm(back, axis=1) / np.linalg.norm(vectors, axis=1)
    assert cosines.min() > 0.98


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.safetensors").write_bytes(b"something else")
    with pytest.raises(EmbedderError, match="is not a table of token vectors"):
        StaticMiniLm(tmp_path / "table.safetensors")


def test_a_table_of_ones_own_makes_another_embedder(tmp_path: Path) -> None:
    distil(HashedWords(), PIECES, ANIMALS, dimension=16, rows=40).write(tmp_path / "own.safetensors")
    own = StaticMiniLm(tmp_path / "own.safetensors")
    assert own.dimension == 16
    assert own.sha256 != StaticMiniLm().sha256


def test_a_long_text_is_read_past_what_minilm_reads() -> None:
    start = "word " * 300
    plain, law = StaticMiniLm().embed(
        [start, start + "The plaintiff sued the landlord for negligence. " * 20]
    )
    assert plain @ law < 0.9
