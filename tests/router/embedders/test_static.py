"""The static embedder: its words, its table and how much of a text it reads."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from router.embedders.model_files import TOKENIZER
from router.embedders.static import StaticMiniLm
from router.embedders.wordpiece import WordPieces
from router.errors import EmbedderError

PIECES = WordPieces.read(TOKENIZER)


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


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.safetensors").write_bytes(b"something else")
    with pytest.raises(EmbedderError, match="is not a table of token vectors"):
        StaticMiniLm(tmp_path / "table.safetensors")


def test_a_long_text_is_read_past_what_minilm_reads() -> None:
    start = "word " * 300
    plain, law = StaticMiniLm().embed(
        [start, start + "The plaintiff sued the landlord for negligence. " * 20]
    )
    assert plain @ law < 0.9
