"""The request log: what requests were like, in Parquet, and never in a request's way.

Records wait in a queue of bounded length; a thread writes them. Where the queue is full, or the store does not take
them, they are lost and counted: a client never waits for the log, and never hears of it.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from eo_data.errors import TerraloopError
from eo_serving.request_records import RequestRecord, log_prefix, to_parquet

if TYPE_CHECKING:
    from eo_data.store import Store
    from eo_serving.configuration import RequestLogging

log = logging.getLogger(__name__)

_FILE: Final = 2000
"""Records of one file at most."""
_CLOSE_SECONDS: Final = 10.0

Pending = Callable[[], RequestRecord]
"""Makes a record; called by the log's own thread, so that a request need not wait for it."""


class RequestLog:
    """A use case's request log.

    Args:
        store: Where files go.
        usecase: Whose.
        settings: How long records wait, and how many may.

    Attributes:
        written: Records that the store took.
        lost: Records that it did not take, or that there was no place for.
    """

    def __init__(self, store: Store, usecase: str, settings: RequestLogging) -> None:
        self._store = store
        self._prefix = log_prefix(usecase)
        self._seconds = settings.flush_seconds
        self._queue: queue.Queue[Pending | None] = queue.Queue(settings.queue)
        self._number = 0
        self.written = 0
        self.lost = 0
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._thread.start()

    def note(self, pending: Pending) -> None:
        """Take a record; returns at once."""
        try:
            self._queue.put_nowait(pending)
        except queue.Full:
            self.lost += 1

    def close(self) -> None:
        """Write what waits, for at most some seconds."""
        end = time.monotonic() + _CLOSE_SECONDS
        try:
            self._queue.put(None, timeout=_CLOSE_SECONDS)
        except queue.Full:
            log.warning("the request log is not closed in time; %d records are lost", self._queue.qsize())
            return
        self._thread.join(max(0.0, end - time.monotonic()))

    def _run(self) -> None:
        while True:
            records, ended = self._gather()
            if records:
                self._write(records)
            if ended:
                return

    def _gather(self) -> tuple[list[RequestRecord], bool]:
        """Records until there are enough or the time is up, and whether the log is closed."""
        records: list[RequestRecord] = []
        end = time.monotonic() + self._seconds
        while len(records) < _FILE:
            try:
                pending = self._queue.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            if pending is None:
                return records, True
            try:
                records.append(pending())
            except Exception:
                self.lost += 1
                log.exception("a record of the request log cannot be made")
        return records, False

    def _write(self, records: list[RequestRecord]) -> None:
        first = records[0].time.astimezone(UTC)
        self._number += 1
        name = f"{first:%H%M%S}-{_process()}-{self._number:06d}.parquet"
        try:
            self._store.put_new(f"{self._prefix}/{first:%Y-%m-%d}/{name}", to_parquet(records))
        except (TerraloopError, OSError) as error:
            self.lost += len(records)
            log.warning("%d records of the request log are lost: %s", len(records), error)
        else:
            self.written += len(records)


_STARTED: Final = f"{datetime.now(UTC):%Y%m%d%H%M%S%f}"


def _process() -> str:
    """What tells this process's files from those of others that write to the same store."""
    return f"{os.uname().nodename[:40]}-{os.getpid()}-{_STARTED}"
