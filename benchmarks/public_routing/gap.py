"""The gap between a weak and a strong model, and how much of it a router recovers (arXiv 2406.18665, 3.2).

PGR at a share of strong calls is (score - weak) / (strong - weak). APGR is its mean over all shares: one half
for calls chosen by lot. CPT(50 %) is the share of strong calls that a PGR of one half needs. Intervals are
95 %, by bootstrap over prompts.
"""

from dataclasses import dataclass

import numpy as np

from router.arrays import Floats
from router.mapping.metrics import Estimate

_RESAMPLES = 1000
_SHARES = np.linspace(0, 1, 101)


@dataclass(frozen=True, slots=True)
class Recovered:
    """Share that one order of the prompts recovers. ``oracle_share``: of the lead over chance that knowing
    all grades would give. ``over_mix``: points over as many strong calls by lot, on average over all
    shares."""

    prompts: int
    weak: float
    strong: float
    apgr: Estimate
    over_mix: Estimate
    cpt50: Estimate
    cpt80: Estimate
    oracle: float
    oracle_share: Estimate


def recovered(wanted: Floats, weak: Floats, strong: Floats, seed: int) -> Recovered:
    """``wanted``: [n], the greater the sooner a prompt goes to the strong model; ``weak`` and ``strong``: [n]
    grades. Equal wishes are served in an order drawn by lot."""
    draw = np.random.default_rng(seed)
    shuffled = draw.permutation(len(wanted))
    order = shuffled[np.argsort(-wanted[shuffled], kind="stable")]
    oracle = np.argsort(-(strong - weak), kind="stable")
    gain = strong - weak
    counts = np.vstack(
        [
            np.ones(len(wanted)),
            draw.multinomial(len(wanted), np.full(len(wanted), 1 / len(wanted)), _RESAMPLES),
        ]
    )
    ours = np.array([_curve(gain, row, order) for row in counts])
    best = np.array([_curve(gain, row, oracle) for row in counts])
    apgr, of_oracle = ours.mean(axis=1), best.mean(axis=1)
    return Recovered(
        prompts=len(wanted),
        weak=float(100 * weak.mean()),
        strong=float(100 * strong.mean()),
        apgr=Estimate.of(apgr),
        over_mix=Estimate.of(100 * (apgr - 0.5) * (counts @ gain) / len(wanted)),
        cpt50=Estimate.of(np.array([_needed(curve, 0.5) for curve in ours])),
        cpt80=Estimate.of(np.array([_needed(curve, 0.8) for curve in ours])),
        oracle=float(of_oracle[0]),
        oracle_share=Estimate.of((apgr - 0.5) / (of_oracle - 0.5)),
    )


def _curve(gain: Floats, weights: Floats, order: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Floats:
    """[shares] PGR."""
    sent = np.concatenate([[0.0], np.cumsum(weights[order])])
    gained = np.concatenate([[0.0], np.cumsum(gain[order] * weights[order])])
    return np.asarray(np.interp(_SHARES, sent / sent[-1], gained / gained[-1]))


def _needed(curve: Floats, pgr: float) -> float:
    """Percent of strong calls."""
    return float(100 * _SHARES[np.argmax(curve >= pgr)])
