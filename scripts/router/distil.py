"""A static embedder from a slow one: token vectors whose weighted sum points where its vector does.

In the manner of model2vec and tokenlearn (Minish Lab), with a ridge regression instead of gradient steps. It
learns from texts like those that will be embedded, and from every token alone, so that rare ones have a
vector too. How much a token counts is the length of its vector, and learned; others take its frequency.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray
from safetensors.numpy import save

from router.arrays import Vectors
from router.embedders.embedder import Embedder
from router.embedders.wordpiece import WordPieces


def distil(
    teacher: Embedder,
    pieces: WordPieces,
    texts: Sequence[str],
    *,
    dimension: int,
    rows: int = 20_000,
    strength: float = 1.0,
) -> bytes:
    """Makes the file that ``StaticTable.read`` reads. Deterministic.

    ``dimension`` is even and at most the teacher's; if smaller, the main axes of the teacher's vectors stay.
    The ``rows`` tokens that are in most texts get a vector. ``strength`` pulls vectors towards zero. A
    teacher that is an EmbeddingCache with a file can be interrupted.
    """
    size = len(pieces.vocabulary)
    bags = _bags([pieces.ids(text)[:_TEACHER_READS] for text in texts], size)
    words = {number: token.removeprefix("##") for token, number in pieces.vocabulary.items()}
    alone = _bags([[number] for number in words], size)
    targets = np.vstack([teacher.embed(texts), teacher.embed(list(words.values()))])
    importance = np.append(np.ones(len(texts)), np.full(len(words), _ALONE)).astype(np.float32)
    vectors = _regress(
        sparse.vstack([bags, alone]).tocsr(), _main_axes(targets, dimension), importance, strength
    )
    in_texts = np.bincount(bags.indices, minlength=size)
    kept = np.sort(np.argsort(-in_texts, kind="stable")[:rows])
    return rounded(kept, vectors[kept])


def rounded(tokens: NDArray[np.int64], vectors: Vectors) -> bytes:
    """Rounds each row to four bits with that of six scales which loses least: clipping its largest numbers
    can spare the others more. Two numbers share a byte, the even column in its low half."""
    largest = np.maximum(np.abs(vectors).max(axis=1), 1e-4)
    codes = np.zeros(vectors.shape, dtype=np.int8)
    scales = np.zeros(len(vectors), dtype=np.float16)
    least = np.full(len(vectors), np.inf)
    for share in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5):
        tried = (largest * share / _LARGEST).astype(np.float16)
        step = tried.astype(np.float32)[:, None]
        nearest = np.clip(np.round(vectors / step), -_LARGEST, _LARGEST)
        lost = ((nearest * step - vectors) ** 2).sum(axis=1)
        better = lost < least
        codes[better], scales[better], least[better] = nearest[better], tried[better], lost[better]
    unsigned = (codes + 8).astype(np.uint8)
    packed = unsigned[:, 0::2] | (unsigned[:, 1::2] << 4)
    return save({"tokens": tokens.astype(np.uint16), "codes": packed, "scales": scales})


_LARGEST = 7
"""Codes go from minus this to this."""
_TEACHER_READS = 254
"""Tokens: MiniLM's 256 without its two marks. Nothing can be learned from what the teacher did not see."""
_ALONE = 0.5
"""How much a token alone counts beside a text."""
_ROUNDS, _STEPS = 3, 6
_TINY = np.float32(1e-20)


def _bags(texts: Sequence[Sequence[int]], size: int) -> sparse.csr_matrix:
    """[texts, size], the root of each token's count, as StaticMiniLm weighs it."""
    counts = [Counter(ids) for ids in texts]
    starts = np.append(0, np.cumsum([len(count) for count in counts]))
    tokens = np.array([token for count in counts for token in count], dtype=np.int32)
    roots = np.sqrt(np.array([n for count in counts for n in count.values()], dtype=np.float32))
    return sparse.csr_matrix((roots, tokens, starts), shape=(len(texts), size))


def _main_axes(vectors: Vectors, dimension: int) -> Vectors:
    """Vectors in their main axes, each again of length one. The first axis has the sign of their mean."""
    _, axes = np.linalg.eigh(vectors.T @ vectors)
    axes = axes[:, ::-1][:, :dimension]
    axes = axes * np.where(vectors.mean(axis=0) @ axes < 0, -1, 1)
    inside = vectors @ axes
    return np.asarray(inside / np.linalg.norm(inside, axis=1, keepdims=True), dtype=np.float32)


def _regress(bags: sparse.csr_matrix, targets: Vectors, importance: Vectors, strength: float) -> Vectors:
    """[size, dimension]: the token vectors X whose sums, made length one, meet the targets.

    Made length one they are not linear in X, so each round divides by the lengths that the round before
    arrived at.
    """
    found = np.zeros((bags.shape[1], targets.shape[1]), dtype=np.float32)
    lengths = np.sqrt(bags.multiply(bags).sum(axis=1)).A1
    for _ in range(_ROUNDS):
        scaled = sparse.diags((importance / np.maximum(lengths, 1e-6)).astype(np.float32)) @ bags
        found = _ridge(scaled.tocsr(), targets * importance[:, None], found, strength)
        lengths = np.linalg.norm(bags @ found, axis=1)
    return found


def _ridge(a: sparse.csr_matrix, b: Vectors, start: Vectors, strength: float) -> Vectors:
    """Nearer to the X of (a'a + strength) X = a'b: conjugate gradients with a diagonal preconditioner, all
    columns at once."""
    transposed = a.T.tocsr()
    scale = (1 / (np.asarray(a.multiply(a).sum(axis=0)).ravel() + strength)).astype(np.float32)[:, None]
    found = start
    residual = transposed @ (b - a @ found) - strength * found
    direction = step = scale * residual
    size = (residual * step).sum(axis=0)
    for _ in range(_STEPS):
        product = transposed @ (a @ direction) + strength * direction
        length = size / np.maximum((direction * product).sum(axis=0), _TINY)
        found = found + length * direction
        residual = residual - length * product
        step = scale * residual
        before, size = size, (residual * step).sum(axis=0)
        direction = step + (size / np.maximum(before, _TINY)) * direction
    return np.asarray(found, dtype=np.float32)
