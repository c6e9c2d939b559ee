"""`train`: a dataset becomes a registered candidate, beside the registered index of that dataset."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eo_data.dataset import Dataset, model_input
from eo_data.store import Store
from eo_data.usecase import UseCase
from eo_models.candidate_card import candidate_card
from eo_models.checkpoints import Checkpoints, default_folder
from eo_models.code_identity import code_identity
from eo_models.configuration import TrainSection, gate_section, require_extra, train_section
from eo_models.distribution import ALONE, Processes
from eo_models.export import check_export, export_network
from eo_models.index_version import bootstrap, register_index
from eo_models.inputs import band_pairs, require_same_data
from eo_models.kept_runs import send_kept_runs
from eo_models.learnable import require_intact, require_learnable
from eo_models.members import fit_members
from eo_models.model_card import settings
from eo_models.registry import CODE_TAG, KIND_TAG, TRAIN_TAG, Registry, Version
from eo_models.spectral_index import indices
from eo_models.system_figures import system_figures
from eo_models.tracking import DATASET_TAG
from eo_models.validation_figures import validation_figures
from eo_models.versions import Artifact, describe, rounded, score_split

log = logging.getLogger(__name__)

LogMetrics = Callable[[Mapping[str, float | None], int], None]

CHECKED_CHIPS = 4
"""Validation chips on which the exported graph is compared with the module."""


@dataclass(frozen=True)
class Task:
    """What is to be trained, checked as far as configuration and manifest allow.

    Attributes:
        usecase: Whose bands and classes.
        dataset: What is learned from.
        section: How.
        pairs: Indexes of the band pairs whose normalised difference the network reads.
        identity: What makes two trainings the same: dataset, `train` section and code, as tags.
        checkpoints: Of this training.
    """

    usecase: UseCase
    dataset: Dataset
    section: TrainSection
    pairs: list[tuple[int, int]]
    identity: dict[str, str]
    checkpoints: Checkpoints


def train(
    store: Store,
    usecase: UseCase,
    uri: str,
    *,
    progress: bool = True,
    checkpoints: str | Path | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Train and register, unless the same training was registered before.

    The same is: dataset digest, `train` section and code (`eo_models.code_identity`). Runs that were kept while MLflow
    did not answer are sent first.

    Args:
        store: Where the dataset lies, and the ledger.
        usecase: Its `train` section says how.
        uri: The dataset.
        progress: Whether to show a progress bar on stderr.
        checkpoints: Folder of checkpoints; `eo_models.checkpoints.default_folder` without it.
        resume: Whether to go on from what a killed process left there.

    Returns:
        The step's result: `model`, `version`, `digest`, `index`, `run` and `existing`.

    Raises:
        UsageError: If the configuration is impossible, the dataset is of another one, or the training diverges.
        DataRefused: If there is no such dataset, or nothing can be learned from it.
        TemporaryFailure: If store or registry do not answer; a training that was done is kept, and sent by the next.
    """
    task = checked_task(store, usecase, uri, checkpoints=checkpoints, resume=resume)
    return lead(task, store, ALONE, progress=progress)


def checked_task(
    store: Store, usecase: UseCase, uri: str, *, checkpoints: str | Path | None = None, resume: bool = False
) -> Task:
    """What to train, or why not; nothing is started by it.

    Args:
        store: As for `train`.
        usecase: As for `train`.
        uri: As for `train`.
        checkpoints: As for `train`.
        resume: As for `train`.

    Raises:
        UsageError: If the configuration is impossible, or the dataset is of another one.
        DataRefused: If there is no such dataset, or nothing can be learned from it.
    """
    section = train_section(usecase)
    require_extra(section)
    gate_section(usecase)  # a gate that cannot judge is found before the minutes of training, not after
    pairs = band_pairs(usecase.data, section.indices, "train.indices")
    indices(usecase.data)
    dataset = Dataset(store, uri)
    require_same_data(dataset, usecase)
    require_learnable(dataset)
    identity = {DATASET_TAG: dataset.digest, TRAIN_TAG: usecase.digest("train"), CODE_TAG: code_identity()}
    kept = Checkpoints(Path(checkpoints or default_folder()), identity, resume=resume, named=bool(checkpoints))
    return Task(usecase, dataset, section, pairs, identity, kept)


def lead(
    task: Task, store: Store, processes: Processes, *, progress: bool, on_start: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Do a task: find its version or train it. Of several processes, what the chief does.

    Args:
        task: What to do.
        store: Where the ledger lies.
        processes: Who trains.
        progress: Whether to show a progress bar on stderr.
        on_start: Called when it is clear that there is something to train, just before.

    Returns:
        The step's result.
    """
    usecase, dataset = task.usecase, task.dataset
    tags = {KIND_TAG: "network", **task.identity}
    require_intact(dataset)
    registry = Registry(usecase.name)
    send_kept_runs(wanted=tags)  # this very training may be one that MLflow could not be told of
    index = register_index(registry, usecase, dataset, tags[CODE_TAG])
    bootstrap(registry, store, index)
    version = registry.find(tags)
    existing = version is not None
    try:
        if version is None:
            task.checkpoints.prepare()
            on_start()
            version = _train(registry, task, tags, processes, progress=progress)
        else:
            log.info("train: this training was registered before as %s", version.uri)
        task.checkpoints.remove()
    finally:
        task.checkpoints.release()
    return {
        "model": version.uri,
        "version": version.number,
        "digest": version.digest,
        "index": index.uri,
        "run": version.run,
        "existing": existing,
    }


def _train(
    registry: Registry,
    task: Task,
    tags: dict[str, str],
    processes: Processes,
    *,
    progress: bool,
) -> Version:
    """Fit, export, check, describe, and register last of all."""
    usecase, dataset, section = task.usecase, task.dataset, task.section
    with registry.run(f"{section.network} {dataset.digest[:8]}", {**tags, "terraloop.usecase": usecase.name}) as run:
        run.log_dataset(usecase.name, dataset)
        run.log_parameters(settings(section.model_dump(mode="json")))
        started = time.monotonic()
        with system_figures(run):
            artifact = train_network(
                usecase,
                dataset,
                section,
                task.pairs,
                run.log_metrics,
                progress=progress,
                processes=processes,
                checkpoints=task.checkpoints,
            )
        run.log_parameters(
            {f"used.{name}": artifact.description.parameters[name] for name in ("precision", "processes")}
        )
        run.log_metrics({**artifact.description.metrics, "seconds": time.monotonic() - started})
        pictures, figures = validation_figures(artifact.model(), dataset, usecase, section.network)
        run.log_metrics(figures)
        run.log_files(pictures, "figures")
        card = candidate_card(artifact.description, artifact.digest, usecase, dataset.manifest)
        version = registry.register(run, artifact.graph, artifact.description, tags, card=card)
    log.info("train: registered %s, %s", version.uri, artifact.description.metrics)
    return version


def train_network(
    usecase: UseCase,
    dataset: Dataset,
    section: TrainSection,
    pairs: list[tuple[int, int]],
    log_metrics: LogMetrics,
    *,
    progress: bool = True,
    processes: Processes = ALONE,
    checkpoints: Checkpoints | None = None,
) -> Artifact:
    """A trained, exported, checked and described network, not registered.

    Args:
        usecase: Whose bands and classes.
        dataset: What it learns from.
        section: How.
        pairs: Indexes of the band pairs whose normalised difference it reads.
        log_metrics: Told of each epoch's figures and its number, from 1.
        progress: Whether to show a progress bar on stderr.
        processes: Who trains; the others call `fit_members`.
        checkpoints: Where each epoch's goes.
    """
    fitted = fit_members(
        dataset,
        section,
        pairs,
        lambda epoch, figures: log_metrics(figures, epoch),
        progress=progress,
        processes=processes,
        checkpoints=checkpoints,
    )
    graph = export_network(fitted.network, len(usecase.data.inputs))
    chips = [model_input(dataset.read(chip)[0])[0] for chip in dataset.chips("validation")[:CHECKED_CHIPS]]
    check_export(fitted.network, graph, np.stack(chips))
    draft = describe(
        graph,
        usecase,
        dataset,
        kind="network",
        architecture=section.network,
        tiling=section.tiles.tiling(),
        weights=fitted.weights,
        metrics={"train_loss": fitted.loss},
        parameters={
            "train": section.model_dump(mode="json"),
            "train_digest": usecase.digest("train"),
            "epoch": fitted.epoch,
            "epochs": fitted.epochs,
            "precision": fitted.precision,
            "processes": processes.size,
        },
    )
    validation = score_split(draft.model().mask, dataset, "validation")
    figures = {f"validation_{name}": value for name, value in validation.figures().items()}
    return Artifact(
        graph, draft.description.model_copy(update={"metrics": rounded({**draft.description.metrics, **figures})})
    )
