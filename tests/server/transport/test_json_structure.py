"""Values of a JSON text are counted as a parser would find them, and too many are never parsed."""

import io
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.batches.input_file import check
from server.config.limits import LimitsConfig
from server.config.settings import Settings
from server.transport.json_structure import PIECE, Structure, structure_of
from tests.server.conftest import Gateway, Serving, changed, chat

TREES = st.recursive(
    st.none() | st.integers(-9, 9) | st.text('a"\\,:[]{}\n é', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('b"\\[,:', max_size=3), inner, max_size=4)
    ),
    max_leaves=30,
)


def found(tree: Any) -> Structure:
    """Counts by walking through the parsed value."""

    def walk(node: Any, depth: int) -> tuple[int, int, int]:
        if not isinstance(node, dict | list):
            return depth, 0, 0
        children = [*node.values()] if isinstance(node, dict) else node
        below = [walk(child, depth + 1) for child in children]
        parts = 1 + (len(node) if isinstance(node, dict) else 0)
        deepest = max([depth + 1, *(each[0] for each in below)])
        commas = max(0, len(node) - 1)
        return deepest, parts + sum(each[1] for each in below), commas + sum(each[2] for each in below)

    depth, parts, commas = walk(tree, 0)
    return Structure(depth, parts, commas + 1, orjson.dumps(tree).count(b"\\"))


@given(TREES)
def test_a_tree_is_counted_as_it_is(tree: Any) -> None:
    assert structure_of(orjson.dumps(tree)) == found(tree)
    assert structure_of(orjson.dumps(tree, option=orjson.OPT_INDENT_2)) == found(tree)


@pytest.mark.parametrize(
    "text", ['\\\\\\",[', '"[,', "\\", "\\\\", '\\"', "a,[{", '"', "é,\\[", '\\\\"\\\\\\"']
)
def test_a_text_may_be_cut_anywhere_between_two_pieces(text: str) -> None:
    for more in range(len(orjson.dumps(text)) + 2):
        tree = ["x" * (PIECE - 10 + more - len(orjson.dumps(text))), text, {"k": [text, 1]}, text]
        assert structure_of(orjson.dumps(tree)) == found(tree)


def test_backslashes_over_several_pieces_are_counted_in_pairs() -> None:
    for count in range(2 * PIECE, 2 * PIECE + 4):
        tree = ["\\" * count, [",", {}]]
        assert structure_of(orjson.dumps(tree)) == found(tree)


@pytest.mark.parametrize(
    "raw", [b"", b'"', b"\\", b'"\\', b"]]}}", b"[" * 10, b'{"a', b"\xff\xfe[,", b'""""[', b"nul"]
)
def test_what_is_no_json_is_counted_too(raw: bytes) -> None:
    assert structure_of(raw).depth == raw.count(b"[") if b'"' not in raw else True
    assert structure_of(raw).values >= 1


CHAT = "/v1/chat/completions"
LARGE = 100_000
"""Bytes: beyond those that are looked at on the event loop."""


@pytest.mark.parametrize("padding", [0, LARGE])
@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"x": [[]] * 101}, "arrays, objects and keys; at most 100 are taken"),
        ({"x": [{"a": 0}] * 60}, "arrays, objects and keys; at most 100 are taken"),
        ({"x": {str(number): 0 for number in range(101)}}, "arrays, objects and keys; at most 100 are taken"),
        ({"x": [0] * 201}, "values; at most 200 are taken"),
        ({"x": "a\n" * 401}, "escaped characters; at most 400 are taken"),
        ({"x": [[[[[[[[[]]]]]]]]]}, "is nested deeper than 8 levels"),
    ],
)
async def test_a_body_of_too_many_things_is_refused(
    serving: Serving, settings: Settings, more: dict[str, Any], said: str, padding: int
) -> None:
    limits = LimitsConfig(json_parts=100, json_values=200, json_escapes=400, json_depth=8)
    async with serving(changed(settings, limits=limits)) as gateway:
        for path in ("/v1/chat/completions", "/v1/coe/route"):
            body = chat(user="u" * padding) | more
            answer = await gateway.http.post(path, json=body)
            assert (answer.status_code, said in answer.text) == (400, True), answer.text


async def test_marks_in_texts_are_no_things(serving: Serving, settings: Settings) -> None:
    """Programs and prose are full of them."""
    limits = LimitsConfig(json_parts=100, json_values=200, json_depth=8)
    async with serving(changed(settings, limits=limits)) as gateway:
        program = 'f(a, b)[{"k": [1, 2]}], "\\\\", ' * 5000
        answer = await gateway.post(messages=[{"role": "user", "content": program}], max_tokens=1)
        assert answer.status_code == 200, answer.text


def held(gateway: Gateway) -> int:
    return gateway.server.gate._bodies


async def test_what_parsing_takes_is_held_until_the_request_ends(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway:
        body = chat(model="general", max_tokens=150_000, ignore_eos=True, stream=True)
        parts = body | {"x": [{"a": 0}] * 20_000}
        for asked, least in (
            (body | {"x": "a" * 10**6}, 3 * 10**6),
            (body | {"x": "é" * 10**6}, 12 * 10**6),
            (parts, 6 * 10**6),
        ):
            async with gateway.http.stream("POST", "/v1/chat/completions", json=asked) as answer:
                await anext(answer.aiter_bytes())
                assert least <= held(gateway) <= 3 * least
            gateway.engine.crash()
        small = settings.server.limits.model_copy(update={"bodies": 5 * 10**6})
    async with serving(changed(settings, limits=small)) as gateway:
        assert (await gateway.post(x="a" * 10**6, max_tokens=1)).status_code == 200
        refused = await gateway.post(x="é" * 10**6, max_tokens=1)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert held(gateway) == 0


def test_a_line_of_a_batch_has_the_same_bounds() -> None:
    line = {"custom_id": "1", "method": "POST", "url": CHAT, "body": {"x": [[]] * 101}}
    limits = LimitsConfig(json_parts=100)
    raw = orjson.dumps(line) + b"\n"
    checked = check(io.BytesIO(raw), CHAT, most=9, longest=10**6, limits=limits)
    (error,) = checked.errors
    assert (error.code, error.line) == ("invalid_value", 1)
    assert "arrays, objects and keys" in error.message
    assert not check(io.BytesIO(raw), CHAT, most=9, longest=10**6, limits=LimitsConfig()).errors
