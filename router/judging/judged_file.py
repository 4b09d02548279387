"""The prompts' file with the judge's scores in it: whole, or as it was before."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path

from router.data.dataset import lines
from router.data.example_file import write_lines
from router.judging.win_rates import Scores


def write_judged(data: Path, out: Path, experts: Collection[str], scored: Scores) -> None:
    """Every line of ``data``, which was read before, in its order and with its fields; gzip by name.

    ``scores`` of ``experts`` come from judging alone, so that no grade stands beside a win rate; those of
    other models stay. Raises DatasetError.
    """
    write_lines(out, _judged(data, experts, scored))


def _judged(data: Path, experts: Collection[str], scored: Scores) -> Iterator[str]:
    for _, line in lines(data):
        fields = json.loads(line)
        kept = {name: score for name, score in fields.pop("scores", {}).items() if name not in experts}
        scores = kept | dict(scored.get(fields["id"], {}))
        if scores:
            fields["scores"] = scores
        yield json.dumps(fields, ensure_ascii=False)
