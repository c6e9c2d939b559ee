"""A run that MLflow could not be told of, kept in a folder until it can.

```
<run id>/run.json        where the run belongs
<run id>/records.jsonl   what was not sent, in order, a line each
<run id>/files/<n>/      the files of the n-th line
<run id>/lock            held by the process that writes or sends
```
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from eo_data.errors import TemporaryFailure
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
            self.acquire()
            _write_whole(self.folder / _HEADER, kept.model_dump_json().encode())

    def acquire(self) -> bool:
        """Take the lock; whether it was free."""
        handle = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._lock = handle
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def header(self) -> Kept | None:
        """What `run.json` says; None where there is no such run (any more)."""
        try:
            return Kept.model_validate_json((self.folder / _HEADER).read_bytes())
        except (OSError, ValidationError):
            return None

    def append(self, record: Record) -> None:
        """Keep a record, its files included; on disk when this returns.

        Raises:
            TemporaryFailure: If it cannot be written.
        """
        with _writable(self.folder):
            if isinstance(record, Files):
                name = Path("files") / str(len(list(self._lines())))
                shutil.copytree(record.folder, self.folder / name, dirs_exist_ok=True)
                record = record.model_copy(update={"folder": name})
            with (self.folder / _LINES).open("ab") as stream:
                stream.write(record.model_dump_json().encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())

    def records(self) -> list[Record]:
        """What is kept, in order, files by their path here; a line that was cut off in writing is left out."""
        found: list[Record] = []
        for line in self._lines():
            record = RECORD.validate_json(line)
            if isinstance(record, Files):
                record = record.model_copy(update={"folder": self.folder / record.folder})
            found.append(record)
        return found

    def clear(self) -> None:
        """Forget the records that were sent; the lock stays."""
        (self.folder / _LINES).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "files", ignore_errors=True)

    def remove(self) -> None:
        """Remove the folder: everything was sent."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.release()

    def _lines(self) -> Iterator[bytes]:
        try:
            text = (self.folder / _LINES).read_bytes()
        except FileNotFoundError:
            return
        yield from text.split(b"\n")[:-1]


def kept_journals() -> list[Journal]:
    """Every kept run's folder, the oldest run first."""
    root = journal_folder()
    found = [Journal(path.parent) for path in root.glob(f"*/{_HEADER}")] if root.is_dir() else []
    headers = [(header.started, header.run, journal) for journal in found if (header := journal.header()) is not None]
    return [journal for _, _, journal in sorted(headers, key=lambda one: one[:2])]


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
    draft.write_bytes(data)
    draft.replace(path)
