"""Checkpoints of a training: where they lie, how they get there whole, and which one a training goes on from.

```
<folder>/<key>/member-<m>-epoch-<nnnn>.ckpt
```

The key is made of dataset digest, digest of the `train` section and code identity, nothing else: a pod that starts
again finds what the one before it left. Each file is whole or absent, and verified before it is read: a zip whose
checksums hold, loaded as plain tensors and numbers (`weights_only`), and by its own words of this very training.
The process that trains holds a lock on the folder; another that trains the same at the same time keeps none.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from eo_data.digests import SHORT, json_digest
from eo_data.errors import UsageError
from eo_models.distribution import ALONE, Processes

log = logging.getLogger(__name__)

FOLDER_VARIABLE: Final = "TERRALOOP_CHECKPOINTS"

KEEPER: Final = "terraloop"
"""Under this name among the callbacks of a Lightning checkpoint stands what is ours (`epoch_keeper.Keeper`)."""

KEPT: Final = 2
"""Of the member that is trained: the newest, and the one before should the newest turn out damaged."""

LOCK: Final = ".lock"
"""File in a training's folder, locked by the process whose checkpoints lie there."""

_NAME = re.compile(r"member-(\d+)-epoch-(\d+)\.ckpt")


def default_folder() -> Path:
    """`TERRALOOP_CHECKPOINTS`, else `terraloop/checkpoints` in the user's cache."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "terraloop" / "checkpoints"


@dataclass(frozen=True)
class Found:
    """A checkpoint that was verified.

    Attributes:
        path: Where it lies.
        epoch: Epochs that had been trained, from 1.
        state: What `Keeper` noted.
    """

    path: Path
    epoch: int
    state: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: Of all trainings.
        identity: What the training is; equal identities, equal trainings.
        resume: Whether what an earlier process left is gone on from.
        named: Whether a person named the folder.
    """

    def __init__(self, folder: Path, identity: Mapping[str, str], *, resume: bool, named: bool = True) -> None:
        self.identity = dict(identity)
        self.folder = folder / json_digest(self.identity)[:SHORT]
        self.resume = resume
        self._named = named or FOLDER_VARIABLE in os.environ
        self._own: set[Path] = set()
        self._lock: IO[bytes] | None = None
        self._anothers = False

    @property
    def anothers(self) -> bool:
        """Whether another process trains the same now: `prepare` found the folder locked, and nothing is kept."""
        return self._anothers

    def prepare(self) -> None:
        """Make the folder, lock it until `release`, and say what lies there.

        Raises:
            UsageError: If a folder was named that cannot be written. The default one is a convenience: without it
                the log says so, and as each epoch's checkpoint fails.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
            self._anothers = not self._take()
        except OSError as error:
            if not self._named:
                log.warning("train: no checkpoints, %s cannot be written (%s)", self.folder, error.strerror)
                return
            raise UsageError(
                f"checkpoints cannot be written ({error.strerror})",
                where=str(self.folder),
                fix=f"Name a folder that can be, with --checkpoints or {FOLDER_VARIABLE}",
            ) from error
        if self._anothers:
            log.warning(
                "train: no checkpoints, another process trains the same now and keeps its own in %s", self.folder
            )
            return
        left = self._files()
        if self.resume and not left:
            log.info("train: no checkpoint of this training in %s: it begins anew", self.folder)
        elif left and not self.resume:
            member, epoch = max(left)
            log.info(
                "train: epoch %d of member %d lies in %s: --resume would go on from there; "
                "it is left alone until this training has come as far",
                epoch,
                member + 1,
                self.folder,
            )

    def path(self, member: int, epoch: int) -> Path:
        """Where the checkpoint of a member's epoch, from 1, belongs."""
        return self.folder / f"member-{member}-epoch-{epoch:04d}.ckpt"

    def newest(self, member: int, processes: Processes = ALONE) -> Found | None:
        """The newest checkpoint of a member that is whole and of this training; None without `resume` or any.

        What is not is named in the log. Of several processes the chief chooses.

        Raises:
            UsageError: If another process cannot read what the chief has chosen.
        """
        if not self.resume:
            return None
        found = self._newest(member) if processes.chief else None
        name = processes.tell(found.path.name if found else "")
        if processes.chief or not name:
            return found
        path = self.folder / name
        try:
            return Found(path, int(path.stem.rpartition("-")[2]), self._verified(path, member))
        except ValueError as error:
            raise UsageError(
                f"process {processes.rank} cannot read the checkpoint: {error}",
                where=str(path),
                fix="Name a folder that every process shares, with --checkpoints",
            ) from error

    def _newest(self, member: int) -> Found | None:
        files = self._files()
        epochs = sorted((epoch for owner, epoch in files if owner == member), reverse=True)
        for epoch in epochs:
            path = files[member, epoch]
            try:
                state = self._verified(path, member)
            except ValueError as error:
                log.warning("train: the checkpoint %s cannot be used: %s; trying the one before it", path, error)
                continue
            self._own.add(path)
            return Found(path, epoch, state)
        if epochs:
            log.warning("train: no checkpoint in %s can be used: member %d begins anew", self.folder, member + 1)
        return None

    def written(self, path: Path, member: int) -> None:
        """Note what was written, and remove what it makes superfluous, a killed writer's unfinished files too.

        What another process left of this training stays until this one has come as far.
        """
        self._own.add(path)
        own = sorted(other for other in self._own if _number(other)[0] == member)
        self._own -= set(own[:-KEPT])
        for other in self.folder.iterdir():
            if other not in self._own and other.name != LOCK and _number(other) <= _number(path):
                other.unlink(missing_ok=True)

    def finished(self, path: Path, member: int) -> None:
        """Keep only the last checkpoint of a member whose training is over: it says what came of it."""
        self._own = {other for other in self._own if _number(other)[0] != member} | {path}

    def remove(self) -> None:
        """Remove them all: the training is over. What another process holds is left to it."""
        try:
            mine = self._take()
        except OSError:  # there is no folder, or none that could be written
            return
        if mine:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.release()

    def release(self) -> None:
        """Let other processes have the folder; so does the end of this one."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _take(self) -> bool:
        """Lock the folder; whether no other process had.

        Raises:
            OSError: If there is no folder that can be written.
        """
        path = self.folder / LOCK
        while self._lock is None:
            handle = path.open("ab")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.close()
                return False
            except OSError as error:  # a file system without locks: as good as alone
                log.debug("train: %s cannot be locked (%s)", path, error.strerror)
            if path.exists() and os.path.samestat(path.stat(), os.fstat(handle.fileno())):
                self._lock = handle
            else:  # the process that held it has removed it meanwhile
                handle.close()
        return True

    def _files(self) -> dict[tuple[int, int], Path]:
        found = {}
        for path in self.folder.glob("*.ckpt"):
            match = _NAME.fullmatch(path.name)
            if match:
                found[int(match[1]), int(match[2])] = path
        return found

    def _verified(self, path: Path, member: int) -> Mapping[str, Any]:
        """What `Keeper` noted in a checkpoint.

        Raises:
            ValueError: If the file is damaged or of something else, saying how.
        """
        state = read_checkpoint(path).get("callbacks", {}).get(KEEPER)
        if not isinstance(state, dict):
            raise ValueError("it is no checkpoint of ours")
        if state.get("identity") != self.identity or state.get("member") != member:
            raise ValueError("it is of another dataset, configuration or code")
        return state


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content: tensors, numbers and words, never code.

    Raises:
        ValueError: If the file is gone, truncated, damaged, or holds anything else.
    """
    import pickle

    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError("it is damaged")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except zipfile.BadZipFile as error:
        raise ValueError("it is truncated or damaged") from error
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"it cannot be read ({str(error).splitlines()[0][:120]})") from error
    if not isinstance(content, dict):
        raise ValueError("it is no checkpoint")
    return content


def _number(path: Path) -> tuple[int, int]:
    """Member and epoch of a checkpoint by its name; what is none comes before all."""
    match = _NAME.fullmatch(path.name)
    return (int(match[1]), int(match[2])) if match else (-1, -1)
