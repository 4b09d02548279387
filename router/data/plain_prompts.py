"""Short prompts as people write them, shipped with the package and added to every training set.

Benchmarks have no everyday chat, so without these nothing would be ``general``, and "Write a Python
function that reverses a list" would look like no code prompt ever seen.
"""

from pathlib import Path

from router.data.dataset import Example
from router.errors import DatasetError

_SHIPPED = Path(__file__).with_name("plain_prompts.txt")


def plain_prompts(file: Path = _SHIPPED) -> list[Example]:
    """Lines under ``[category]`` headings, blank lines skipped. Ids are ``plain/<category>/<number>``."""
    examples: list[Example] = []
    category: str | None = None
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip()
        if text.startswith("[") and text.endswith("]"):
            category = text[1:-1]
        elif text and category is None:
            raise DatasetError("a prompt comes before the first [category]", file=file, line=number)
        elif text:
            examples.append(Example(f"plain/{category}/{number}", text, category, kind="plain"))
    return examples
