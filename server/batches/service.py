"""Files and batches: clients' operations on them, and the work that follows."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Coroutine, Mapping

from starlette.requests import Request

from memory_tiers.tiers import Tier
from server.batches.archive import Archive
from server.batches.job import BatchJob
from server.batches.records import BatchRecord, FileRecord
from server.batches.runner import BatchRunner
from server.batches.schedule import Rounds
from server.batches.upload import Uploaded, receive
from server.config.batches import BatchesConfig
from server.errors import BadRequest
from server.exchange.endpoint import Endpoint
from server.services import NodeServices
from server.storage.retention_clock import RetentionClock

log = logging.getLogger("coe.batches")

MOST_UNFINISHED = 50
"""Most unfinished batches, over all clients. Memory holds the place of each request in its file: some 300
bytes."""
WINDOW_S = 86_400
"""Seconds after which a batch expires."""
DAY_S = 86_400
SWEEP_EVERY_S = 60.0
"""Seconds between deletions of what has expired."""


class Batches:
    """Files and batches; those of an earlier process go on. ``close`` leaves work under way to the next
    process."""

    def __init__(
        self,
        config: BatchesConfig,
        archive: Archive,
        services: NodeServices,
        endpoints: Mapping[str, Endpoint],
        clock: RetentionClock | None = None,
    ) -> None:
        self.config = config
        self.archive = archive
        self.endpoints = endpoints
        self._services = services
        self._clock = clock or RetentionClock()
        self._rounds = Rounds(config.concurrency, self._tiers, self._calm)
        self._jobs: dict[str, BatchJob] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Batches {self.archive!r} {self._rounds!r} {len(self._jobs)} unfinished>"

    async def start(self) -> None:
        """Resumes the unfinished batches. Raises BatchesUnavailable."""
        for record in await self.archive.do(self.archive.store.unfinished):
            log.info("batch %s is %s and goes on", record.id, record.status)
            self._begin(record)
        self._spawn(self._rounds.run(), "batch rounds")
        self._spawn(self._sweep(), "batch sweep")

    async def close(self) -> None:
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def upload(self, owner: str, request: Request) -> FileRecord:
        """Takes an uploaded file. Raises what ``receive`` does, and BadRequest where the form has anything
        but a file for batches."""
        id, archive = f"file-{uuid.uuid4().hex}", self.archive
        uploaded = await receive(request, archive, id, owner, self.config.max_file_bytes)
        try:
            now = int(self._clock())
            expires_at = now + _lifetime_s(uploaded, self.config.keep_days * DAY_S)
            record = FileRecord(id, owner, uploaded.filename, "batch", uploaded.bytes, now, expires_at)
            await archive.do(lambda: archive.store.add_file(record, self.config.max_files))
        except BaseException:
            await archive.surely(lambda: archive.spool.remove(id))
            raise
        return record

    async def delete_file(self, owner: str, id: str) -> None:
        """Deletes a file. Raises UnknownFile, Conflict."""

        def delete() -> None:
            self.archive.store.delete_file(owner, id)
            self.archive.spool.remove(id)

        await self.archive.do(delete)

    async def create(
        self,
        owner: str,
        key: str,
        input_file_id: str,
        endpoint: str,
        metadata: Mapping[str, str] | None,
        keep_answers_s: int | None,
    ) -> BatchRecord:
        """Creates a batch. ``key``: its name. Raises UnknownFile, BadRequest, TooManyBatches, SpoolFull."""
        store, now = self.archive.store, int(self._clock())
        file = await self.archive.do(lambda: store.file(owner, input_file_id))
        if file.purpose != "batch":
            raise BadRequest(f"File {file.id} has purpose {file.purpose!r}, not 'batch'.", "input_file_id")
        record = BatchRecord(
            id=f"batch_{uuid.uuid4().hex}",
            owner=owner,
            key=key,
            endpoint=endpoint,
            input_file_id=file.id,
            created_at=now,
            expires_at=now + WINDOW_S,
            answers_id=f"file-{uuid.uuid4().hex}",
            failures_id=f"file-{uuid.uuid4().hex}",
            keep_answers_s=keep_answers_s or self.config.keep_days * DAY_S,
            metadata=metadata,
        )
        await self.archive.surely(lambda: store.add_batch(record, MOST_UNFINISHED, self.config.max_files))
        self._begin(record)
        return record

    async def cancel(self, owner: str, id: str) -> BatchRecord:
        """Cancels a batch. Raises UnknownBatch, and Conflict where it has ended or is about to."""
        now, store = int(self._clock()), self.archive.store
        record = await self.archive.surely(lambda: store.change(owner, id, lambda old: old.cancelling(now)))
        job = self._jobs.get(id)
        if job is not None:
            job.cancel()
        return record

    def _begin(self, record: BatchRecord) -> None:
        job = BatchJob(
            record,
            self.archive,
            BatchRunner(self._services, self.endpoints[record.endpoint], record.owner, record.key),
            self._rounds,
            self._clock,
            most=self.config.max_requests,
            longest=self._services.settings.server.max_body,
            limits=self._services.settings.server.limits,
        )
        self._jobs[record.id] = job
        self._spawn(self._run(record.id, job), record.id)

    async def _run(self, id: str, job: BatchJob) -> None:
        try:
            await job.run()
        except Exception:
            log.exception("batch %s stands still until the server is restarted", id)
        finally:
            del self._jobs[id]

    async def _sweep(self) -> None:
        store, spool = self.archive.store, self.archive.spool

        def sweep() -> None:
            now, ended_before = self._clock.before(0), self._clock.before(self.config.keep_days * DAY_S)
            for id in store.forget(now, ended_before):
                spool.remove(id)

        while True:
            try:
                await self.archive.do(sweep)
            except Exception:
                log.exception("nothing that has expired is deleted now")
            await asyncio.sleep(SWEEP_EVERY_S)

    def _tiers(self) -> dict[str, Tier]:
        return {status.expert: status.tier for status in self._services.tiers.status()}

    async def _calm(self, expert: str) -> None:
        """Waits while requests online wait for another expert, as long as the tiers let any request wait."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._services.settings.tiers.max_wait_s):
                await self._services.tiers.none_waits_but_for(expert)

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("batches stand still: restart the server", exc_info=error)


def _lifetime_s(uploaded: Uploaded, otherwise: int) -> int:
    """Reads how long a file is kept from the form's ``purpose`` and ``expires_after``. Raises BadRequest."""
    fields = uploaded.fields
    if fields.get("purpose") != "batch":
        raise BadRequest("'purpose' must be 'batch': files are taken for batches alone.", "purpose")
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return otherwise
    if anchor != "created_at":
        raise BadRequest("'expires_after[anchor]' must be 'created_at'.", "expires_after[anchor]")
    if seconds is None or not seconds.isdecimal() or not 3600 <= int(seconds) <= 2_592_000:
        raise BadRequest(
            "'expires_after[seconds]' must be a number from 3600 (1 hour) to 2592000 (30 days).",
            "expires_after[seconds]",
        )
    return int(seconds)


@contextlib.asynccontextmanager
async def batching(
    config: BatchesConfig | None, services: NodeServices, endpoints: Mapping[str, Endpoint]
) -> AsyncIterator[Batches | None]:
    """Serves files and batches meanwhile; None if they are off. ``endpoints``: those that a batch may ask, by
    their paths. Raises SettingsError, DatabaseError."""
    if config is None:
        yield None
        return
    archive = await asyncio.to_thread(Archive, config)
    try:
        batches = Batches(config, archive, services, endpoints)
        try:
            await batches.start()
            yield batches
        finally:
            await batches.close()
    finally:
        await asyncio.to_thread(archive.close)
