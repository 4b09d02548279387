"""One batch in progress: checked, routed, answered, finalized; or resumed where a process left it."""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial

from server.batches.archive import Archive
from server.batches.input_file import Checked, Line, body_at, check
from server.batches.output_file import AnsweredRequest, AnswerFile, Written, unanswered
from server.batches.records import BatchRecord, EndStatus, FileRecord, LineError, RequestCounts, Tokens
from server.batches.runner import BatchRunner
from server.batches.schedule import Rounds, Work
from server.config.limits import LimitsConfig
from server.errors import SpoolFull, UnknownFile

log = logging.getLogger("coe.batches")

_AT_ONCE = 1000
"""Lines of requests that were not run, written at once."""
WHY_UNANSWERED = {
    "cancelled": ("batch_cancelled", "This request was not run before the batch was cancelled."),
    "expired": (
        "batch_expired",
        "This request could not be executed before the completion window expired.",
    ),
}
"""OpenAI's code and message, by how the batch ended."""


class BatchJob:
    """Job of one batch, to ``run`` once. An answer is in the batch's files before anything else records it,
    so a killed process's finished work is found there."""

    def __init__(
        self,
        record: BatchRecord,
        archive: Archive,
        runner: BatchRunner,
        rounds: Rounds,
        clock: Callable[[], float],
        *,
        most: int,
        longest: int,
        limits: LimitsConfig,
    ) -> None:
        """``most`` requests of at most ``longest`` bytes each, within ``limits``. ``clock``: seconds since
        1970."""
        self._record = record
        self._archive = archive
        self._runner = runner
        self._rounds = rounds
        self._clock = clock
        self._most = most
        self._longest = longest
        self._limits = limits
        self._input = archive.spool.path(record.input_file_id)
        self._left: dict[str, Line] = {}  # not answered yet; the archive's thread takes out what it has kept
        self._all_answered = asyncio.Event()
        self._scopes: set[asyncio.Timeout] = set()  # of the whole, and of each request under way
        self._under_way = 0
        self._none_under_way = asyncio.Event()
        self._closed = False
        self._cancelled = record.status == "cancelling"
        self._failure: Exception | None = None

    def __repr__(self) -> str:
        return f"<BatchJob {self._record.id} [{self._record.status}, {len(self._left)} left]>"

    def cancel(self) -> None:
        """Ends the batch early: its client does not want the rest."""
        self._cancelled = True
        self._close()

    async def run(self) -> None:
        """Runs the batch to its end. Raises BatchesUnavailable, OSError; then nothing is lost, and another
        process may resume it."""
        if self._cancelled and self._record.in_progress_at is None:
            await self._change(lambda record: record.ended(self._now(), "cancelled"))
            return
        spool, record = self._archive.spool, self._record
        self._answers, self._failures = await self._archive.surely(
            lambda: (
                AnswerFile(spool, record.answers_id, record.owner),
                AnswerFile(spool, record.failures_id, record.owner),
            )
        )
        try:
            checked = await self._check()
            if checked.errors:
                await self._end("failed", tuple(checked.errors))
                return
            await self._take_up(checked)
            outcome = await self._answer_all()
            await self._finish(outcome)
        except SpoolFull as error:
            await self._end("failed", (LineError("storage_full", str(error)),))
        finally:
            self._close()
            await self._archive.surely(self._close_files)

    async def _check(self) -> Checked:
        def check_all() -> Checked:
            with self._archive.spool.open(self._record.input_file_id) as file:
                return check(
                    file, self._record.endpoint, most=self._most, longest=self._longest, limits=self._limits
                )

        try:
            return await asyncio.to_thread(check_all)
        except UnknownFile as error:
            return Checked(errors=[LineError("file_not_found", str(error), param="input_file_id")])

    async def _take_up(self, checked: Checked) -> None:
        """Begins, or goes on after the last line that an earlier process has written."""
        written, failed = await self._archive.do(
            lambda: (self._answers.recovered(), self._failures.recovered())
        )
        done = {line.custom_id for line in (*written, *failed)}
        self._left = {line.custom_id: line for line in checked.lines if line.custom_id not in done}
        counts = _counted(len(checked.lines), written, failed)
        await self._change(lambda record: record.begun(self._now(), checked.model, counts))
        if self._record.status == "cancelling":  # meanwhile
            self.cancel()

    async def _answer_all(self) -> EndStatus:
        """Answers all requests, and returns how the batch ended. Raises SpoolFull, BatchesUnavailable,
        OSError."""
        if not self._left:
            return "completed"
        try:
            async with self._until_closed(self._record.expires_at - self._clock()):
                self._rounds.add(await self._routed())
                if self._left:
                    await self._all_answered.wait()
            return "completed"
        except TimeoutError:
            if not self._closed and self._clock() < self._record.expires_at:
                raise  # of the file system
            self._close()
            if self._under_way:
                await self._none_under_way.wait()
        if self._failure is not None:
            raise self._failure
        if not self._left:
            return "completed"
        return "cancelled" if self._cancelled else "expired"

    async def _routed(self) -> dict[str, list[Work]]:
        """Routes every request. One after another, so that decisions online have threads left."""
        routed: dict[str, list[Work]] = defaultdict(list)
        for line in [*self._left.values()]:
            body = await asyncio.to_thread(body_at, self._input, line)
            expert = await self._runner.route(body)
            if isinstance(expert, AnsweredRequest):
                await self._keep(line, expert)
            else:
                routed[expert].append(partial(self._answer, line, expert))
        return routed

    async def _answer(self, line: Line, expert: str) -> None:
        """Answers a request whose turn has come."""
        if self._closed:
            return
        self._under_way += 1
        self._none_under_way.clear()
        try:
            async with self._until_closed():
                body = await asyncio.to_thread(body_at, self._input, line)
                answer = await self._runner.answer(body, expert)
            await self._keep(line, answer)
        except Exception as error:  # noqa: BLE001  # ends the batch, and is raised by it
            if isinstance(error, TimeoutError) and self._closed:
                return  # and the request is one of those that are left
            self._failure = error
            self._close()
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._none_under_way.set()

    async def _keep(self, line: Line, answer: AnsweredRequest) -> None:
        """Keeps an answer. Raises SpoolFull, BatchesUnavailable."""

        def keep() -> BatchRecord:
            file = self._answers if answer.succeeded else self._failures
            file.append(answer.line(line.custom_id))
            del self._left[line.custom_id]
            return self._archive.store.change(
                self._record.owner,
                self._record.id,
                lambda record: replace(
                    record,
                    counts=record.counts.and_one(completed=answer.succeeded, tokens=answer.tokens),
                ),
            )

        self._record = await self._archive.do(keep)
        if not self._left:
            self._all_answered.set()

    async def _finish(self, outcome: EndStatus) -> None:
        """Writes the requests that were not run, and ends the batch. Raises SpoolFull, BatchesUnavailable."""
        await self._change(lambda record: record.finalizing(self._now()))
        if outcome in WHY_UNANSWERED:
            left = [*self._left]
            for start in range(0, len(left), _AT_ONCE):
                await self._leave(left[start : start + _AT_ONCE], *WHY_UNANSWERED[outcome])
        await self._end(outcome)

    async def _leave(self, custom_ids: Sequence[str], code: str, message: str) -> None:
        lines = b"".join(unanswered(custom_id, code, message) for custom_id in custom_ids)
        await self._archive.do(lambda: self._failures.append(lines))
        await self._change(
            lambda record: replace(
                record, counts=replace(record.counts, failed=record.counts.failed + len(custom_ids))
            )
        )

    async def _end(self, outcome: EndStatus, errors: tuple[LineError, ...] = ()) -> None:
        """Ends the batch: its files are there for its owner from now on. Raises BatchesUnavailable."""

        def end() -> BatchRecord:
            files = {self._record.answers_id: self._answers, self._record.failures_id: self._failures}
            for file in files.values():
                file.sync()
            kept = {id: self._file(id, file.size) for id, file in files.items() if file.size}
            record = self._archive.store.change(
                self._record.owner,
                self._record.id,
                lambda record: record.ended(self._now(), outcome, errors, kept),
                [*kept.values()],
            )
            for id in files.keys() - kept.keys():
                self._archive.spool.remove(id)
            return record

        self._record = await self._archive.do(end)
        log.info("batch %s is %s: %s", self._record.id, self._record.status, self._record.counts)

    def _file(self, id: str, size: int) -> FileRecord:
        record, now = self._record, self._now()
        what = "output" if id == record.answers_id else "error"
        name = f"{record.id}_{what}.jsonl"
        return FileRecord(id, record.owner, name, "batch_output", size, now, now + record.keep_answers_s)

    async def _change(self, changed: Callable[[BatchRecord], BatchRecord]) -> None:
        store, owner, id = self._archive.store, self._record.owner, self._record.id
        self._record = await self._archive.do(lambda: store.change(owner, id, changed))

    @contextlib.asynccontextmanager
    async def _until_closed(self, seconds: float | None = None) -> AsyncIterator[None]:
        """Raises TimeoutError inside once the batch is closed, or after ``seconds``."""
        async with asyncio.timeout(seconds) as scope:
            self._scopes.add(scope)
            try:
                if self._closed:
                    self._close()
                yield
            finally:
                self._scopes.discard(scope)

    def _close_files(self) -> None:
        self._answers.close()
        self._failures.close()

    def _close(self) -> None:
        """Begins no more requests, and cancels those under way."""
        self._closed = True
        now = asyncio.get_running_loop().time()
        for scope in self._scopes:
            if not scope.expired():
                scope.reschedule(now)

    def _now(self) -> int:
        return int(self._clock())


def _counted(total: int, written: Sequence[Written], failed: Sequence[Written]) -> RequestCounts:
    tokens = sum((line.tokens for line in written), Tokens())
    return RequestCounts(total, len(written), len(failed), tokens)
