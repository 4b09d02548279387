"""How many tokens are reserved for a request."""

from typing import Any

import pytest

from server.access.token_estimate import UNSAID_ANSWER, TokenEstimate
from server.model_request import ModelRequest


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({}, UNSAID_ANSWER),
        ({"max_tokens": 10}, 10),
        ({"max_tokens": 10, "max_completion_tokens": 7}, 7),
        ({"max_tokens": 10, "n": 3}, 30),
        ({"max_tokens": 10, "prompt": ["a", "b"]}, 20),
        ({"max_tokens": 10, "prompt": [1, 2, 3]}, 10),
        ({"max_tokens": 10, "prompt": [[1, 2], [3]], "n": 2}, 40),
        ({"max_tokens": 10, "prompt": []}, 10),
        ({"max_tokens": -1, "n": "many"}, UNSAID_ANSWER),
    ],
)
def test_an_answer_needs_what_it_may_be_long_for_each_that_is_asked_for(
    body: dict[str, Any], tokens: int
) -> None:
    assert TokenEstimate(ModelRequest("law", (), False, body)).answer_tokens() == tokens


def test_a_prompt_needs_its_words_at_least_wherever_they_are() -> None:
    message = {"role": "user", "content": "one two three"}
    chat = ModelRequest("law", (message,), False, {"prompt": ""})
    assert TokenEstimate(chat).prompt_tokens == 3
    several = ModelRequest("law", (message,), False, {"prompt": ["one two three", "four"]})
    assert TokenEstimate(several).prompt_tokens == 4
    counted = [
        ModelRequest("e5", (), False, {"input": given}, any_length=True)
        for given in ([7, 8, 9], [[7], [8, 9]])
    ]
    assert [TokenEstimate(request).prompt_tokens for request in counted] == [3, 3]
    embedded = ModelRequest("coe", (), False, {"input": ["one two", "three"]}, any_length=True)
    assert (TokenEstimate(embedded).prompt_tokens, TokenEstimate(embedded).answer_tokens()) == (3, 0)
