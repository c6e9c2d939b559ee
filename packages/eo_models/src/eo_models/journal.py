"""A run that MLflow could not be told of, kept in a folder until it can.

```
<run id>/run.json        where the run belongs
<run id>/records.jsonl   what was not sent, in order, a line each
<run id>/files/<n>/      the files of the n-th line
<run id>/lock            held by the process that writes or sends
```
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from eo_data.errors import DataRefused, TemporaryFailure
from eo_models.run_records import RECORD, Files, Record

FOLDER_VARIABLE: Final = "TERRALOOP_TRACKING_JOURNAL"
_HEADER: Final = "run.json"
_LINES: Final = "records.jsonl"


class Kept(BaseModel):
    """`run.json`: the run that the lines belong to.

    Attributes:
        run: MLflow's id of the run.
        title: Its name.
        tracking: The tracking store's URI, without user and password.
        started: When the run began, milliseconds since 1970.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    title: str
    tracking: str
    started: int


def journal_folder() -> Path:
    """Where runs are kept: `TERRALOOP_TRACKING_JOURNAL`, else `terraloop/runs` where the system keeps states."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named).absolute()
    states = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(states) / "terraloop" / "runs"


class Journal:
    """One kept run's folder.

    Args:
        folder: Which.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: int | None = None

    def begin(self, kept: Kept) -> None:
        """Make the folder and hold its lock until `release` or the end of the process.

        Raises:
            TemporaryFailure: If it cannot be written.
        """
        with _writable(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self.acquire():
                raise BlockingIOError(errno.EAGAIN, "another process is sending what was kept of the run before")
            _write_whole(self.folder / _HEADER, kept.model_dump_json().encode())

    def acquire(self) -> bool:
        """Take the lock; whether it was free and the folder is still there."""
        lock = self.folder / "lock"
        try:
            handle = os.open(lock, os.O_CREAT | os.O_RDWR, 0o600)
        except FileNotFoundError:  # another process has sent the run meanwhile
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = os.path.samestat(os.fstat(handle), lock.stat())  # the folder may have been removed, and made anew
        except (BlockingIOError, FileNotFoundError):
            taken = False
        if taken:
            self._lock = handle
        else:
            os.close(handle)
        return taken

    def release(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def header(self) -> Kept | None:
        """What `run.json` says; None where there is no such run (any more).

        Raises:
            DataRefused: If it cannot be read: damaged, or written by another release.
        """
        try:
            return Kept.model_validate_json((self.folder / _HEADER).read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise self._unreadable(f"{_HEADER} is none of this release") from error
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from error

    def append(self, record: Record) -> None:
        """Keep a record, its files included; on disk when this returns.

        Raises:
            TemporaryFailure: If it cannot be written.
        """
        with _writable(self.folder):
            if isinstance(record, Files):
                name = Path("files") / str(len(list(self._lines())))
                shutil.rmtree(self.folder / name, ignore_errors=True)  # what a full disk left of an earlier try
                shutil.copytree(record.folder, self.folder / name)
                _sync(self.folder / name)
                record = record.model_copy(update={"folder": name})
            with (self.folder / _LINES).open("a+b") as stream:
                stream.seek(0)
                stream.truncate(stream.read().rfind(b"\n") + 1)  # a line that was cut off in writing
                stream.write(record.model_dump_json().encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
            _sync_folder(self.folder)

    def records(self) -> list[Record]:
        """What is kept, in order, files by their path here; a line that was cut off in writing is left out.

        Raises:
            DataRefused: If it cannot be read: damaged, or written by another release.
        """
        found: list[Record] = []
        try:
            for number, line in enumerate(self._lines(), 1):
                record = RECORD.validate_json(line)
                if isinstance(record, Files):
                    record = record.model_copy(update={"folder": self.folder / record.folder})
                    if not record.folder.is_dir():
                        raise self._unreadable(f"the files of line {number} are missing")
                found.append(record)
        except ValidationError as error:
            raise self._unreadable(f"line {number} of {_LINES} is no record of this release") from error
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from error
        return found

    def clear(self) -> None:
        """Forget the records that were sent; the lock stays."""
        (self.folder / _LINES).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "files", ignore_errors=True)

    def remove(self) -> None:
        """Remove the folder, at once for everyone who looks: everything was sent."""
        gone = self.folder
        with suppress(OSError):
            (self.folder / _HEADER).unlink()
            gone = self.folder.rename(tempfile.mkdtemp(prefix=".sent-", dir=self.folder.parent))
        shutil.rmtree(gone, ignore_errors=True)
        self.release()

    def _unreadable(self, reason: str) -> DataRefused:
        return DataRefused(
            f"the kept run cannot be read ({reason})",
            where=str(self.folder),
            fix="Send it with the release that kept it, or give it up: remove the folder",
        )

    def _lines(self) -> Iterator[bytes]:
        try:
            text = (self.folder / _LINES).read_bytes()
        except FileNotFoundError:
            return
        yield from text.split(b"\n")[:-1]


def kept_journals() -> list[Journal]:
    """Every kept run's folder, the oldest run first, those that cannot be read last."""
    root = journal_folder()
    found = [Journal(path.parent) for path in root.glob(f"*/{_HEADER}")] if root.is_dir() else []

    def age(journal: Journal) -> tuple[float, str]:
        try:
            header = journal.header()
        except DataRefused:
            header = None
        return (math.inf if header is None else header.started), journal.folder.name

    return sorted(found, key=age)


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TemporaryFailure(
            f"MLflow did not answer, and the run cannot be kept here ({error.strerror or error})",
            where=str(folder),
            fix=f"Name a folder that can be written with {FOLDER_VARIABLE}, then run the step again",
        ) from error


def _write_whole(path: Path, data: bytes) -> None:
    draft = path.with_suffix(".draft")
    with draft.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)
    _sync_folder(path.parent)


def _sync(folder: Path) -> None:
    """See that a folder's files are on disk, and their names up to the folder's own."""
    for path, _, names in os.walk(folder, topdown=False):
        for name in names:
            with (Path(path) / name).open("rb") as stream:
                os.fsync(stream.fileno())
        _sync_folder(Path(path))
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
