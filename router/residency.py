"""An expert that is on the device already, in the place of one that would have to be brought there."""

from collections.abc import Collection, Mapping


def resident_instead(
    scores: Mapping[str, float],
    sizes: Mapping[str, float],
    chosen: str,
    resident: Collection[str],
    margin: float,
) -> str | None:
    """Returns the best of the ``resident`` experts by their expected ``scores``, if it is no larger than the
    ``chosen`` one, so that a budget holds, and by at most ``margin`` points worse; None where there is none,
    or the chosen one is resident itself."""
    if chosen in resident or chosen not in scores:
        return None
    near = [
        name
        for name in scores
        if name in resident and sizes[name] <= sizes[chosen] and scores[name] >= scores[chosen] - margin / 100
    ]
    return max(near, key=lambda name: scores[name], default=None)
