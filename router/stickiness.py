"""Stays with the topic of a conversation unless it clearly moves, and with its expert unless another is
better.

The topic is a category. Within it each turn is read at its own finer category: one question of a topic is
easy and the next one hard. What the expert of the turn before has over another one (the conversation in its
prefix cache, its weights on the device) is a price in points of score.
"""

from collections.abc import Mapping, Sequence

from router.decision import Decision

STAY_MARGIN = 1.0
"""Points of score, by default. What it loses, and how many changes of expert it spares, is measured by
``scripts.measure.conversations``."""
TURNS = 8
"""User turns looked back at. What was decided longer ago is not kept."""
MARGIN = 0.5
"""Lead in probability, by default. With the embedded router and each pair of its held-out plain prompts as
two turns, a conversation left a topic that stayed in 4 % (15 % without stickiness) and followed one that
moved in 84 % (85 %); above 0.5 the second falls."""


def settled(turns: Sequence[Decision], margin: float = MARGIN) -> Decision:
    """Returns the decision whose category the last of ``turns`` is answered under: its own if the topic has
    moved there, else an earlier one's.

    ``turns``: at least one, in their order, each as if it stood alone. What comes out depends on nothing
    else, so every gateway that sees the conversation says the same. ``margin`` 0: the last turn decides.
    """
    if margin == 0:
        return turns[-1]
    current = turns[0]
    for turn in turns[1:]:
        if _moves(current, turn, margin):
            current = turn
    return current


def _moves(current: Decision, turn: Decision, margin: float) -> bool:
    """Never for a turn that is uncertain; always from one that was, to which there is nothing to stay."""
    if turn.uncertain or turn.category == current.category:
        return False
    lead = turn.probabilities[turn.category] - turn.probabilities.get(current.category, 0.0)
    return current.uncertain or lead >= margin


def stays(
    scores: Mapping[str, float], sizes: Mapping[str, float], before: str, chosen: str, margin: float
) -> bool:
    """Whether a turn stays with the expert of the turn ``before``: one that is no larger than the ``chosen``
    one, so that a budget holds, and by at most ``margin`` points worse. ``scores``: expected on this turn,
    from 0 to 1."""
    if before == chosen:
        return True
    if not {before, chosen} <= scores.keys():
        return False
    return sizes[before] <= sizes[chosen] and scores[before] >= scores[chosen] - margin / 100
