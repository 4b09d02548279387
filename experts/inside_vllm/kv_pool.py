"""Gives the KV pool's memory back while an engine sleeps."""

from collections.abc import Iterable, Iterator

import torch

Pool = Iterable[torch.Tensor | Iterable[torch.Tensor]]
"""The tensors of a pool as vLLM's runner has them: one a layer, or several where a layer keeps state."""


class SleepingPool:
    """A pool without memory. Its tensors, which vLLM's layers hold, stay what they are. Nothing may compute
    until ``wake``, after which they are elsewhere: graphs that were captured before would read what is not
    there."""

    def __init__(self, pool: Pool) -> None:
        """Frees the memory of ``pool``."""
        storages = {storage._cdata: storage for storage in map(torch.Tensor.untyped_storage, _tensors(pool))}
        self._sizes = [(storage, storage.nbytes()) for storage in storages.values()]
        for storage in storages.values():
            storage.resize_(0)

    @property
    def bytes(self) -> int:
        """The bytes that it takes when it is awake."""
        return sum(size for _, size in self._sizes)

    def wake(self) -> None:
        """Takes the memory again, zeroed. Raises RuntimeError where there is none: it can be tried again."""
        for storage, size in self._sizes:
            storage.resize_(size)
            torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage).zero_()

    def __repr__(self) -> str:
        return f"<SleepingPool {self.bytes}>"


def _tensors(pool: Pool) -> Iterator[torch.Tensor]:
    for part in pool:
        yield from [part] if isinstance(part, torch.Tensor) else part
