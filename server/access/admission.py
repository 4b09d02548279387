"""A request's right to run: admitted by its key's limits, settled with what it used, counted once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from memory_tiers.events import Priority
from server.access.accounts import Accounts
from server.access.limit_headers import duration
from server.access.rate_limits import Instant, RateLimits, Refusal, Remaining, Reservation, now
from server.access.token_estimate import NO_TOKENS, TokenEstimate
from server.access.usage import NO_EXPERT, Place, Spent
from server.config.api_keys import Key
from server.errors import GatewayError, OverBudget, TooManyRequests, TooManyTokens, UnknownModel


class Admissions:
    """Admits the requests of all keys of a gateway."""

    def __init__(self, accounts: Accounts, clock: Callable[[], Instant] = now) -> None:
        self._accounts = accounts
        self._clock = clock
        self._rate_limits: dict[str, RateLimits] = {}

    def __repr__(self) -> str:
        return f"<Admissions {self._rate_limits}>"

    def of(self, key: Key, *, offline: bool = False) -> "Admission":
        """Makes the admission of one request of ``key``. ``offline``: no client waits for it, so of the
        limits only the day's tokens hold."""
        rate_limits = self._rate_limits.get(key.name)
        if rate_limits is None:
            used = self._accounts.used.get(key.name, 0)
            rate_limits = self._rate_limits[key.name] = RateLimits(self._accounts.started, used)
        return Admission(key, rate_limits, self._accounts.note, self._clock, offline)


@dataclass(slots=True)
class Admission:
    """One request's right to run: ``enter`` it once the request is read, ``settle`` it when that ends,
    however it ends."""

    key: Key
    _rate_limits: RateLimits
    _note: Callable[[Place, Spent], None]
    _clock: Callable[[], Instant]
    _offline: bool = False
    _need: TokenEstimate | None = None
    _reservation: Reservation | None = None
    _settled: bool = False

    def enter(self, names: Sequence[str], need: TokenEstimate) -> None:
        """Reserves what the request needs. ``names``: as ``check_model`` takes them. Raises UnknownModel,
        TooManyRequests, TooManyTokens, OverBudget. An admitted request is not checked again."""
        if self._reservation is not None:
            return
        check_model(self.key, names)
        self._need = need
        limits = self.key.limits
        counted = limits.tokens_per_minute is not None or limits.tokens_per_day is not None
        tokens = need.prompt_tokens + need.answer_tokens() if counted else 0
        admit = self._rate_limits.admit_offline if self._offline else self._rate_limits.admit
        decided = admit(limits, self._clock(), tokens)
        if isinstance(decided, Refusal):
            raise refused(decided, self.key)
        self._reservation = decided

    @contextmanager
    def entered(self, names: Sequence[str]) -> Iterator[None]:
        """Enters a request for which no expert computes, and settles it. Raises what ``enter`` does."""
        failed = True
        try:
            self.enter(names, NO_TOKENS)
            yield
            failed = False
        finally:
            self.settle("", Spent(), failed=failed)

    def priority(self, asked: Priority | None) -> Priority:
        return self.key.priority_of(asked)

    def remaining(self) -> Remaining:
        """Returns what is left of the key's limits now."""
        return self._rate_limits.remaining(self.key.limits, self._clock())

    def settle(self, expert: str, used: Spent, *, failed: bool) -> None:
        """Counts what the request used; only the first call counts. ``expert``: empty if it had none.
        ``used``: tokens alone. An answer cut off before the engine counted its prompt is charged the prompt
        all the same."""
        if self._settled:
            return
        self._settled = True
        prompt_tokens, now, came = used.prompt_tokens, self._clock(), self._reservation
        if used.completion_tokens and not prompt_tokens and self._need is not None:
            prompt_tokens = self._need.prompt_tokens
        if came is not None:
            self._rate_limits.settle(came, now, prompt_tokens + used.completion_tokens)
        day = self._rate_limits.day(now) if came is None else came.day
        spent = Spent(1, int(failed), prompt_tokens, used.completion_tokens, used.cached_tokens)
        self._note(Place(day, self.key.name, expert or NO_EXPERT), spent)


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
