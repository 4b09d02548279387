"""Decisions made before, by prompt, so that a long conversation costs one embedding a request."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import Protocol

from router.decision import Decision


class Decider(Protocol):
    """A Router: the same decision for the same prompt."""

    def decide(self, prompt: str) -> Decision: ...

    def cluster_in(self, label: str, prompt: str, decision: Decision) -> str: ...


class Recall:
    """The last ``size`` decisions of a router. Keeps hashes, no text. Safe to call from several threads."""

    def __init__(self, router: Decider, size: int = 4096) -> None:
        self._router = router
        self._size = size
        self._decisions: OrderedDict[bytes, Decision] = OrderedDict()
        self._clusters: OrderedDict[bytes, str] = OrderedDict()
        self._lock = Lock()

    def decide(self, prompt: str) -> Decision:
        """Returns what the router decides, or decided: its ``seconds`` are those of the first time."""
        key = _key(prompt)
        with self._lock:
            if key in self._decisions:
                self._decisions.move_to_end(key)
                return self._decisions[key]
        decision = self._router.decide(prompt)
        self._keep({key: decision})
        return decision

    def read_ahead(
        self, prompts: Iterable[str], quickly: Callable[[Sequence[str]], Sequence[Decision | None]]
    ) -> frozenset[str]:
        """Decides together what can be decided ``quickly``, as ``Router.decide_quickly`` says. Returns those
        of ``prompts`` that are recalled."""
        keys = {prompt: _key(prompt) for prompt in prompts}
        with self._lock:
            known = {prompt for prompt, key in keys.items() if key in self._decisions}
        new = [prompt for prompt in keys if prompt not in known]
        decided = [pair for pair in zip(new, quickly(new), strict=True) if pair[1] is not None]
        self._keep({keys[prompt]: decision for prompt, decision in decided if decision is not None})
        return frozenset([*known, *(prompt for prompt, _ in decided)])

    def _keep(self, decisions: Mapping[bytes, Decision]) -> None:
        with self._lock:
            self._decisions.update(decisions)
            while len(self._decisions) > self._size:
                self._decisions.popitem(last=False)

    def cluster_in(self, label: str, prompt: str, decision: Decision) -> str:
        """Returns the finer category that ``prompt`` has, or had, in ``label``, as ``Router.cluster_in``."""
        key = _key(f"{label}\n{prompt}")
        with self._lock:
            if key in self._clusters:
                self._clusters.move_to_end(key)
                return self._clusters[key]
        cluster = self._router.cluster_in(label, prompt, decision)
        with self._lock:
            self._clusters[key] = cluster
            while len(self._clusters) > self._size:
                self._clusters.popitem(last=False)
        return cluster

    def __repr__(self) -> str:
        return f"<Recall of {self._router!r}: {len(self._decisions)} of {self._size} decisions>"


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
