"""The prompts' file with the judge's scores in it: whole or not there at all."""

import gzip
import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile

from router.dataset import lines
from router.errors import JudgingError
from router.win_rates import Scores


def write_judged(data: Path, out: Path, experts: Collection[str], scored: Scores) -> None:
    """Every line of ``data``, which was read before, in its order and with its fields; gzip by name.

    ``scores`` of ``experts`` come from judging alone, so that no grade stands beside a win rate; those of
    other models stay. Raises DatasetError, and JudgingError when ``out`` cannot be written.
    """
    content = "".join(_lines(data, experts, scored)).encode()
    if out.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    try:
        _write(out, content)
    except OSError as error:
        raise JudgingError(f"{out} cannot be written: {error.strerror}") from error


def _lines(data: Path, experts: Collection[str], scored: Scores) -> Iterator[str]:
    for _, line in lines(data):
        fields = json.loads(line)
        kept = {name: score for name, score in fields.pop("scores", {}).items() if name not in experts}
        scores = kept | dict(scored.get(fields["id"], {}))
        if scores:
            fields["scores"] = scores
        yield json.dumps(fields, ensure_ascii=False) + "\n"


def _write(out: Path, content: bytes) -> None:
    with NamedTemporaryFile(dir=out.parent, prefix=".partial-", delete=False) as stream:
        partial = Path(stream.name)
        try:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
            partial.chmod(0o644)
            partial.replace(out)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
