"""The numbers of a stage, a linear function and its doubts, as arrays with names and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from router.classifiers.linear import Linear
from router.classifiers.uncertainty import Added, Uncertainty

Arrays = Mapping[str, NDArray[Any]]


def of_linear(name: str, linear: Linear) -> dict[str, NDArray[Any]]:
    return {
        f"{name}.weights": linear.weights,
        f"{name}.bias": linear.bias,
        f"{name}.gram_weights": linear.gram_weights,
    }


def linear_of(name: str, arrays: Arrays) -> Linear:
    return Linear(arrays[f"{name}.weights"], arrays[f"{name}.bias"], arrays[f"{name}.gram_weights"])


def of_doubts(prefix: str, doubts: Uncertainty, added: Sequence[str]) -> dict[str, NDArray[Any]]:
    """``added``: the names of the categories that were added, as ``doubts`` has them."""
    found: dict[str, NDArray[Any]] = {
        f"{prefix}landmarks": doubts.landmarks.astype(np.float16),
        f"{prefix}known": doubts.known,
    }
    for category, each in zip(added, doubts.added, strict=True):
        found[f"{prefix}added.{category}"] = each.examples.astype(np.float16)
    return found


def doubts_of(prefix: str, arrays: Arrays, limit: float, added: Mapping[str, float]) -> Uncertainty:
    """``limit``: bits of surprise. ``added``: category to how far it reaches."""
    return Uncertainty(
        arrays[f"{prefix}landmarks"].astype(np.float32),
        arrays[f"{prefix}known"],
        limit,
        tuple(
            Added(arrays[f"{prefix}added.{category}"].astype(np.float32), reach)
            for category, reach in added.items()
        ),
    )
