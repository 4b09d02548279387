"""Keeps files and batches: an SQLite file, a folder, and the one thread that touches them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

from server.batches.file_store import Spool
from server.batches.store import BatchStore
from server.config.batches import BatchesConfig
from server.errors import BatchesUnavailable

Made = TypeVar("Made")


class Archive:
    """Does work in the order in which it is given, also where its caller does not wait for it any more."""

    def __init__(self, config: BatchesConfig) -> None:
        """Opens the folder and the file. Raises SettingsError, DatabaseError."""
        with ExitStack() as undone:
            self.spool = Spool(config.folder, config.max_bytes)
            undone.callback(self.spool.close)
            self.store = BatchStore.open(config.folder / "batches.sqlite")
            undone.callback(self.store.close)
            self.spool.keep_only(_contents(self.store))
            undone.pop_all()
        self._thread = ThreadPoolExecutor(1, "coe-batches")

    def __repr__(self) -> str:
        return f"<Archive {self.spool!r}>"

    async def do(self, work: Callable[[], Made]) -> Made:
        """Does ``work`` in the archive's thread. Returns its result, or raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def surely(self, work: Callable[[], Made]) -> Made:
        """Does ``work`` as ``do``, and also if the caller is cancelled."""
        return await asyncio.shield(asyncio.ensure_future(self.do(work)))

    def close(self) -> None:
        """Waits until all work that was given is done, and closes both."""
        self._thread.shutdown(wait=True)
        self.store.close()
        self.spool.close()


def _contents(store: BatchStore) -> dict[str, str]:
    """Returns the store's contents. Raises DatabaseError: nobody is served yet, and an operator is told more
    than a client."""
    try:
        return store.contents()
    except BatchesUnavailable as error:
        raise error.__cause__ or error from None
