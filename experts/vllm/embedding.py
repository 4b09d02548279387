"""Embedding experts: plain vLLM with its pooling runner, one expert resident at a time."""

import orjson

from experts.errors import CanaryFailed
from experts.spec import Expert
from experts.vllm.command import INTERNAL_MODEL
from experts.vllm.plain import PlainEngine

PATH = "/v1/embeddings"
PROBE = "The sea was calm that morning."


class EmbedEngine(PlainEngine):
    """An engine of task ``embed``. An embedding model gives no tokens that a canary could be made of, and
    only another implementation of its pooling could tell what its vectors should be. So there is no canary:
    it is asked for one vector, which has to be one."""

    def _can_prove(self, expert: Expert) -> bool:
        return True

    async def _prove(self, expert: Expert, asked_as: str = "") -> None:
        status, answer = await self.server.call("POST", PATH, {"model": INTERNAL_MODEL, "input": PROBE})
        check(status, answer)


def check(status: int, answer: bytes) -> None:
    """Raises CanaryFailed unless the engine answered with a vector of numbers that are not all 0. NaN is null
    in JSON."""
    if status != 200:
        raise CanaryFailed(f"a first vector fails: the engine answers {status}: {answer.decode()[:500]}")
    vector: list[float | None] = orjson.loads(answer)["data"][0]["embedding"]
    if None in vector or not any(vector):
        raise CanaryFailed("its first vector is none: some of it is not a number, or all of it is 0")
