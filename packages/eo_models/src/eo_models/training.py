"""`train`: a dataset becomes a registered candidate, beside the registered index of that dataset."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from eo_data.dataset import Dataset, model_input
from eo_data.store import Store
from eo_data.usecase import UseCase
from eo_models.code_identity import code_identity
from eo_models.configuration import TrainSection, gate_section, train_section
from eo_models.export import check_export, export_network
from eo_models.index_version import bootstrap, register_index
from eo_models.inputs import band_pairs, require_same_data
from eo_models.members import fit_members
from eo_models.networks import require_extra
from eo_models.registry import CODE_TAG, KIND_TAG, TRAIN_TAG, Registry, Version
from eo_models.spectral_index import indices
from eo_models.tracking import DATASET_TAG
from eo_models.versions import Artifact, describe, rounded, score_split, validation_figure

log = logging.getLogger(__name__)

LogMetrics = Callable[[Mapping[str, float | None], int], None]

CHECKED_CHIPS = 4
"""Validation chips on which the exported graph is compared with the module."""


def train(store: Store, usecase: UseCase, uri: str, *, progress: bool = True) -> dict[str, Any]:
    """Train and register, unless the same training was registered before.

    The same is: dataset digest, `train` section and code (`eo_models.code_identity`).

    Args:
        store: Where the dataset lies, and the ledger.
        usecase: Its `train` section says how.
        uri: The dataset.
        progress: Whether to show a progress bar on stderr.

    Returns:
        The step's result: `model`, `version`, `digest`, `index`, `run` and `existing`.

    Raises:
        UsageError: If the configuration is impossible, or the dataset is of another one.
        DataRefused: If there is no such dataset.
        TemporaryFailure: If store or registry do not answer.
    """
    section = train_section(usecase)
    require_extra(section)
    gate_section(usecase)  # a gate that cannot judge is found before the minutes of training, not after
    pairs = band_pairs(usecase.data, section.indices, "train.indices")
    indices(usecase.data)
    dataset = Dataset(store, uri)
    require_same_data(dataset, usecase)
    registry = Registry(usecase.name)
    code = code_identity()
    index = register_index(registry, usecase, dataset, code)
    bootstrap(registry, store, index)
    tags = {
        KIND_TAG: "network",
        DATASET_TAG: dataset.digest,
        TRAIN_TAG: usecase.digest("train"),
        CODE_TAG: code,
    }
    version = registry.find(tags)
    existing = version is not None
    if version is None:
        version = _train(registry, usecase, dataset, section, pairs, tags, progress=progress)
    else:
        log.info("train: this training was registered before as %s", version.uri)
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
    usecase: UseCase,
    dataset: Dataset,
    section: TrainSection,
    pairs: list[tuple[int, int]],
    tags: dict[str, str],
    *,
    progress: bool,
) -> Version:
    """Fit, export, check, describe, and register last of all."""
    with registry.run(f"{section.network} {dataset.digest[:8]}", {**tags, "terraloop.usecase": usecase.name}) as run:
        run.log_dataset(usecase.name, dataset.digest, dataset.uri)
        run.log_parameters(flat(section.model_dump(mode="json")))
        started = time.monotonic()
        artifact = train_network(usecase, dataset, section, pairs, run.log_metrics, progress=progress)
        run.log_metrics({**artifact.description.metrics, "seconds": time.monotonic() - started})
        picture = validation_figure(artifact.model(), dataset, usecase.data, f"{section.network}, validation")
        run.log_files({"validation.png": picture}, "figures")
        version = registry.register(run, artifact.graph, artifact.description, tags)
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
) -> Artifact:
    """A trained, exported, checked and described network, not registered.

    Args:
        usecase: Whose bands and classes.
        dataset: What it learns from.
        section: How.
        pairs: Indexes of the band pairs whose normalised difference it reads.
        log_metrics: Told of each epoch's figures and its number, from 1.
        progress: Whether to show a progress bar on stderr.
    """
    fitted = fit_members(dataset, section, pairs, lambda epoch, figures: log_metrics(figures, epoch), progress=progress)
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
        },
    )
    validation = score_split(draft.model(), dataset, "validation")
    figures = {f"validation_{name}": value for name, value in validation.figures().items()}
    return Artifact(
        graph, draft.description.model_copy(update={"metrics": rounded({**draft.description.metrics, **figures})})
    )


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names, as MLflow's parameters are."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[prefix + name] = value
    return result
