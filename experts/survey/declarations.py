"""Finds what engines stumble over in small files: sizes that are none, a template that is no Jinja."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser

from experts.errors import CheckpointMismatch, CheckpointUnreadable

SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
)
"""Fields of config.json that are whole numbers from 1 where they are there at all, or lists with a number
for each layer."""


def check_sizes(config: Mapping[str, Any]) -> None:
    """Raises CheckpointMismatch."""
    text = config.get("text_config")
    if not isinstance(text, Mapping | None):
        raise CheckpointMismatch(
            "config.json: text_config is not an object; save the model with transformers"
        )
    for name, value in {**config, **(text or {})}.items():
        if name in SIZES and not (value is None or isinstance(value, list) or _is_size(value)):
            raise CheckpointMismatch(f"config.json: {name} is {value!r}, and not a whole number from 1")


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


class _Generation(Extension):
    """Marks what a model is trained on: a tag that transformers adds to Jinja's."""

    tags = {"generation"}  # noqa: RUF012  Jinja's own

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def check_template(template: str) -> None:
    """Raises CheckpointUnreadable for a chat template that engines could not read."""
    try:
        Environment(extensions=[loopcontrols, _Generation]).parse(template)  # noqa: S701  nothing is rendered
    except TemplateSyntaxError as error:
        raise CheckpointUnreadable(
            f"its chat template is no Jinja: line {error.lineno}: {error.message}; correct it"
        ) from None
