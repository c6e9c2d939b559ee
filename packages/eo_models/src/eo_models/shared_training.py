"""`train` as a process of its own, or as one of several that `torchrun` started."""

from __future__ import annotations

from functools import partial
from typing import Any

from eo_data.errors import UsageError
from eo_data.store import Store
from eo_data.usecase import UseCase
from eo_models.distribution import Processes, joined, started_processes
from eo_models.members import fit_members
from eo_models.training import Task, checked_task, lead

_TRAIN, _NOTHING = "train", "nothing"
"""What the chief tells the others to do."""


def train_together(
    store: Store, usecase: UseCase, uri: str, *, checkpoints: str | None, resume: bool
) -> dict[str, Any] | None:
    """What `eo_models.training.train` does, each minibatch shared by all processes.

    Args:
        store: As for `train`.
        usecase: As for `train`; its `minibatch` is that of all processes together.
        uri: As for `train`.
        checkpoints: As for `train`; a folder that all processes share.
        resume: As for `train`.

    Returns:
        The step's result; None in every process but the chief.

    Raises:
        UsageError: As `train`; also if there are more processes than chips in a minibatch.
        DataRefused: As `train`.
        TemporaryFailure: As `train`.
    """
    task = checked_task(store, usecase, uri, checkpoints=checkpoints, resume=resume)
    processes = started_processes()
    if task.section.minibatch < processes.size:
        raise UsageError(
            f"{processes.size} processes cannot share {task.section.minibatch} chips",
            where="train.minibatch",
            fix="Start fewer processes or raise it",
        )
    with joined(processes):
        if processes.chief:
            return _lead(task, store, processes)
        if processes.tell("") == _TRAIN:
            fit_members(
                task.dataset,
                task.section,
                task.pairs,
                lambda epoch, figures: None,
                progress=False,
                processes=processes,
                checkpoints=task.checkpoints,
            )
        return None


def _lead(task: Task, store: Store, processes: Processes) -> dict[str, Any]:
    """The chief's part; the others wait until it has told them what to do."""
    told: list[str] = []

    def tell(text: str) -> None:
        if not told:
            told.append(processes.tell(text))

    try:
        return lead(task, store, processes, progress=True, on_start=partial(tell, _TRAIN))
    finally:
        tell(_NOTHING)
