"""Embedding experts: plain vLLM with its pooling runner, one expert resident at a time."""

import math

import orjson

from experts.errors import CanaryFailed
from experts.spec import Expert
from experts.vllm import VllmEngine
from experts.vllm_command import INTERNAL_MODEL

PATH = "/v1/embeddings"
PROBE = "The sea was calm that morning."


class EmbedEngine(VllmEngine):
    """Mode ``plain``, task ``embed``. An embedding model says no tokens that a canary could be made of, and
    what its vectors should be only another implementation of its way of pooling could say. So there is no
    canary: it is asked for one vector, which has to be one."""

    def _can_prove(self, expert: Expert) -> bool:
        return True

    async def _prove(self, expert: Expert) -> None:
        status, answer = await self.server.call("POST", PATH, {"model": INTERNAL_MODEL, "input": PROBE})
        if status != 200:
            raise CanaryFailed(f"a first vector fails: the engine answers {status}: {answer.decode()[:500]}")
        if not _is_vector(orjson.loads(answer)["data"][0]["embedding"]):
            raise CanaryFailed("the first vector is none: not all of it are numbers, or all of them are 0")


def _is_vector(values: list[float | None]) -> bool:
    """What is not a number is null in JSON."""
    return any(values) and all(value is not None and math.isfinite(value) for value in values)
