"""The folder of a kept run: whole lines, whole files, one owner."""

from __future__ import annotations

import fcntl
import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from eo_data.errors import DataRefused, TemporaryFailure
from eo_models.journal import Journal, Kept, journal_folder, kept_journals
from eo_models.run_records import Figures, Files


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A run that is kept by this process, of a store that is not there."""
    journal = Journal(journal_folder() / "run")
    journal.begin(Kept(run="run", title="a run", tracking=f"sqlite:///{tmp_path}/other.db", started=1))
    yield journal
    journal.release()


def figures(value: float) -> Figures:
    return Figures(values={"loss": value}, timestamp=1, step=1)


def test_a_run_that_another_process_has_sent_meanwhile_is_left_alone(journal: Journal) -> None:
    journal.append(figures(1))
    [listed] = kept_journals()
    assert not listed.acquire()
    journal.remove()
    assert not listed.acquire()
    assert list(journal_folder().iterdir()) == []


def test_a_run_that_is_being_removed_is_nobodys(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    remove = shutil.rmtree

    def look_then_remove(folder: Path, *, ignore_errors: bool) -> None:
        seen.extend([kept_journals(), Journal(journal.folder).acquire(), journal.folder.exists()])
        remove(folder, ignore_errors=ignore_errors)

    journal.append(figures(1))
    monkeypatch.setattr(shutil, "rmtree", look_then_remove)
    journal.remove()
    assert seen == [[], False, False]


def test_the_lock_of_a_folder_that_was_made_anew_is_another(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    late = Journal(journal.folder)
    lock = fcntl.flock

    def lock_late(handle: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        journal.remove()  # after the other process has opened the file of the lock, before it asks for the lock
        journal.begin(Kept(run="run", title="a run", tracking="", started=1))
        lock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    assert not late.acquire()
    assert journal.header() is not None


def test_a_line_that_was_cut_off_does_not_swallow_the_next(journal: Journal) -> None:
    journal.append(figures(1))
    with (journal.folder / "records.jsonl").open("ab") as stream:
        stream.write(b'{"kind": "figures", "val')  # as a full disk leaves it
    journal.append(figures(2))
    assert journal.records() == [figures(1), figures(2)]


def test_a_disk_that_is_full_for_a_while_spoils_no_line(journal: Journal) -> None:
    journal.append(figures(1))
    size = (journal.folder / "records.jsonl").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
        with pytest.raises(TemporaryFailure, match="cannot be kept"):
            journal.append(figures(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (journal.folder / "records.jsonl").stat().st_size > size
    journal.append(figures(3))
    assert journal.records() == [figures(1), figures(3)]


def test_what_an_earlier_try_left_of_files_is_not_sent(journal: Journal, tmp_path: Path) -> None:
    (journal.folder / "files" / "0").mkdir(parents=True)
    (journal.folder / "files" / "0" / "left").write_bytes(b"")
    (tmp_path / "files" / "below").mkdir(parents=True)
    (tmp_path / "files" / "below" / "whole").write_bytes(b"whole")
    journal.append(Files(folder=tmp_path / "files", artifact_path=None))
    [kept] = journal.records()
    assert isinstance(kept, Files)
    assert [path.name for path in kept.folder.rglob("*") if path.is_file()] == ["whole"]
    shutil.rmtree(kept.folder)
    with pytest.raises(DataRefused, match="the files of line 1 are missing"):
        journal.records()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("TERRALOOP_TRACKING_JOURNAL", str(tmp_path / "file"))
    with pytest.raises(TemporaryFailure, match="TERRALOOP_TRACKING_JOURNAL"):
        Journal(journal_folder() / "run").begin(Kept(run="run", title="", tracking="", started=0))
