"""A request's right to run: admitted by its key's limits, settled with what it used, counted once."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from memory_tiers.events import Priority
from server.access.counts import Admitted, Counts
from server.access.limit_headers import duration
from server.access.rate_limits import Refusal, Remaining
from server.access.token_estimate import NO_TOKENS, TokenEstimate
from server.access.usage import Spent
from server.config.api_keys import Key
from server.errors import GatewayError, OverBudget, TooManyRequests, TooManyTokens, UnknownModel


class Admissions:
    """Admits the requests of all keys of a gateway."""

    def __init__(self, counts: Counts) -> None:
        self.counts = counts

    def __repr__(self) -> str:
        return f"<Admissions {self.counts!r}>"

    def of(self, key: Key, *, offline: bool = False) -> "Admission":
        """Makes the admission of one request of ``key``. ``offline``: no client waits for it, so of the
        limits only the day's tokens hold."""
        return Admission(key, self.counts, offline)


@dataclass(slots=True)
class Admission:
    """One request's right to run: ``enter`` it once the request is read, ``settle`` it when that ends,
    however it ends."""

    key: Key
    _counts: Counts
    _offline: bool = False
    _need: TokenEstimate | None = None
    _admitted: Admitted | None = None
    _settled: bool = False

    async def enter(self, names: Sequence[str], need: TokenEstimate) -> None:
        """Reserves what the request needs. ``names``: as ``check_model`` takes them. Raises UnknownModel,
        TooManyRequests, TooManyTokens, OverBudget. An admitted request is not checked again."""
        if self._admitted is not None:
            return
        check_model(self.key, names)
        self._need = need
        limits = self.key.limits
        counted = limits.tokens_per_minute is not None or limits.tokens_per_day is not None
        tokens = need.prompt_tokens + need.answer_tokens() if counted else 0
        decided = await self._counts.admit(self.key, tokens, offline=self._offline)
        if isinstance(decided, Refusal):
            raise refused(decided, self.key)
        self._admitted = decided

    @asynccontextmanager
    async def entered(self, names: Sequence[str]) -> AsyncIterator[None]:
        """Enters a request for which no expert computes, and settles it. Raises what ``enter`` does."""
        failed = True
        try:
            await self.enter(names, NO_TOKENS)
            yield
            failed = False
        finally:
            self.settle("", Spent(), failed=failed)

    def priority(self, asked: Priority | None) -> Priority:
        return self.key.priority_of(asked)

    async def remaining(self) -> Remaining:
        """Returns what is left of the key's limits: as the request was let in, or now."""
        return await self._counts.remaining(self.key) if self._admitted is None else self._admitted.remaining

    def settle(self, expert: str, used: Spent, *, failed: bool) -> None:
        """Counts what the request used; only the first call counts. ``expert``: empty if it had none.
        ``used``: tokens alone. An answer cut off before the engine counted its prompt is charged the prompt
        all the same."""
        if self._settled:
            return
        self._settled = True
        prompt_tokens = used.prompt_tokens
        if used.completion_tokens and not prompt_tokens and self._need is not None:
            prompt_tokens = self._need.prompt_tokens
        spent = Spent(1, int(failed), prompt_tokens, used.completion_tokens, used.cached_tokens)
        receipt = None if self._admitted is None else self._admitted.receipt
        self._counts.settle(self.key, receipt, expert, spent)


def check_model(key: Key, names: Sequence[str]) -> None:
    """Checks that the key may use a model. ``names``: those that it is known by, the one that the client sent
    first. Raises UnknownModel, in the same words for a model that the key may not use and for one that does
    not exist."""
    if not key.may_use(names):
        raise UnknownModel(
            f"The model {names[0][:100]!r} does not exist, or this API key may not use it; GET /v1/models "
            "lists those that it may.",
            "model",
        )


def refused(refusal: Refusal, key: Key) -> GatewayError:
    """Makes the error that says, in OpenAI's words, why a request was not let in."""
    where = f"for API key {key.name!r}"
    if refusal.limit == "day":
        text = (
            f"You exceeded your current quota {where}: {refusal.used:,} of {refusal.most:,} tokens of this "
            f"day (UTC) are used or reserved, and the request may use {refusal.asked:,}. {_advice(refusal)}"
        )
        return OverBudget(text, retry_after_s=refusal.retry_after_s)
    unit = {"concurrent": "concurrent requests", "requests": "requests per min", "tokens": "tokens per min"}
    text = (
        f"Rate limit reached {where} on {unit[refusal.limit]}: Limit {refusal.most:,}, "
        f"Used {refusal.used:,}, Requested {refusal.asked:,}. {_advice(refusal)}"
    )
    kind = TooManyTokens if refusal.limit == "tokens" else TooManyRequests
    return kind(text, retry_after_s=refusal.retry_after_s)


def _advice(refusal: Refusal) -> str:
    if refusal.retry_after_s is None:
        return "That is more than is ever let in: send less, or ask for less with max_tokens."
    return f"Please try again in {duration(refusal.retry_after_s)}."
