"""An expert that is on the device already, in the place of one that would have to be brought there."""

from collections.abc import Collection

from router.mapping.score_table import ScoreTable


def resident_instead(
    table: ScoreTable, row: str, mapped: str, resident: Collection[str], margin: float
) -> str | None:
    """Returns the best of the ``resident`` experts at ``row``, if it is no larger than the ``mapped`` one, so
    that a budget holds, and by at most ``margin`` points worse there; None where there is none, or the mapped
    one is resident itself."""
    if mapped in resident or row not in table.categories or mapped not in table.experts:
        return None
    means = dict(zip(table.experts, table.means[table.categories.index(row)], strict=True))
    sizes = dict(zip(table.experts, table.parameters, strict=True))
    near = [
        name
        for name in table.experts
        if name in resident and sizes[name] <= sizes[mapped] and means[name] >= means[mapped] - margin / 100
    ]
    return max(near, key=lambda name: means[name], default=None)
