"""The spectral index of a dataset as a registered version, and as champion where there is none yet."""

from __future__ import annotations

import logging

from eo_data.dataset import Dataset
from eo_data.errors import TemporaryFailure
from eo_data.model.files import GRAPH_TAG, fetch_model
from eo_data.model.ledger import Ledger
from eo_data.store import Store
from eo_data.usecase import UseCase
from eo_models.candidate_card import candidate_card
from eo_models.export import graph_bytes
from eo_models.registry import CODE_TAG, KIND_TAG, Registry, Version
from eo_models.spectral_index import SpectralIndex, index_graph, indices, tune, tune_each
from eo_models.tracking import DATASET_TAG
from eo_models.validation_figures import validation_figures
from eo_models.versions import INDEX_TILING, Artifact, describe

log = logging.getLogger(__name__)

KIND = "spectral-index"


def tuned_index(usecase: UseCase, dataset: Dataset) -> Artifact:
    """The tuned index of a dataset, not registered.

    Raises:
        UsageError: If the use case allows no index.
    """
    tuned = tune(dataset, usecase.data)
    return index_artifact(
        tuned.index,
        usecase,
        dataset,
        {
            "train_iou": tuned.train.iou,
            "validation_iou": tuned.validation.iou,
            "validation_f1": tuned.validation.f1,
            **{f"validation_iou_{name.lower()}": iou for name, iou in tuned.others.items()},
        },
    )


def untuned_index(usecase: UseCase, dataset: Dataset) -> Artifact:
    """NDWI > 0 (or the first index that the bands allow), the yardstick that needs no data; never registered."""
    return index_artifact(indices(usecase.data)[0], usecase, dataset, {})


def baseline_indices(usecase: UseCase, dataset: Dataset) -> dict[str, Artifact]:
    """Every index that the bands allow, with threshold 0 and tuned on the training split: `ndwi`, `ndwi_tuned`, ...

    None of them is registered here; the better tuned one is what `register_index` registers.
    """
    found = {}
    for plain, tuned in zip(indices(usecase.data), tune_each(dataset, usecase.data), strict=True):
        found[plain.name.lower()] = index_artifact(plain, usecase, dataset, {})
        found[f"{plain.name.lower()}_tuned"] = index_artifact(
            tuned.index, usecase, dataset, {"train_iou": tuned.train.iou}
        )
    return found


def register_index(registry: Registry, usecase: UseCase, dataset: Dataset, code: str) -> Version:
    """The registered version of a dataset's index; it is registered unless an equal one is there."""
    artifact = tuned_index(usecase, dataset)
    same = {KIND_TAG: KIND, DATASET_TAG: dataset.digest, GRAPH_TAG: artifact.digest}
    found = registry.find(same)
    if found is not None:
        log.info("train: the index of this dataset is %s already", found.uri)
        return found
    description = artifact.description
    tags = {KIND_TAG: KIND, DATASET_TAG: dataset.digest, CODE_TAG: code}
    with registry.run(
        f"{description.architecture} {dataset.digest[:8]}", {**tags, "terraloop.usecase": usecase.name}
    ) as run:
        run.log_dataset(usecase.name, dataset)
        run.log_parameters({"architecture": description.architecture, **description.parameters})
        pictures, figures = validation_figures(artifact.model(), dataset, usecase, description.architecture)
        run.log_metrics({**description.metrics, **figures})
        run.log_files(pictures, "figures")
        card = candidate_card(description, artifact.digest, usecase, dataset.manifest)
        version = registry.register(run, artifact.graph, description, tags, card=card)
    log.info(
        "train: %s > %g is registered as %s",
        description.architecture,
        description.parameters["threshold"],
        version.uri,
    )
    return version


def bootstrap(registry: Registry, store: Store, index: Version) -> None:
    """Make the index champion where the ledger is empty, so that the endpoint always has something to answer with."""
    ledger = Ledger(store, index.name)
    if ledger.champion() is not None:
        return
    fetch_model(index.uri)  # what arrived in the registry, both digests, before anyone is told to serve it
    try:
        ledger.append(
            after=0,
            version=index.number,
            model_digest=index.digest,
            description_digest=index.description_digest,
            reason="bootstrap",
        )
    except TemporaryFailure:
        if ledger.champion() is None:  # the store does not answer, or is full: nobody was first
            raise
        log.info("train: another training was first to name a champion")  # which is all that was wanted
        return
    registry.project_aliases(index.number, None)
    log.info("train: no champion yet, %s is it until something better is promoted", index.uri)


def index_artifact(
    index: SpectralIndex, usecase: UseCase, dataset: Dataset, metrics: dict[str, float | None]
) -> Artifact:
    """An index as a version's two files.

    Args:
        index: With its threshold.
        usecase: Whose bands and classes.
        dataset: What it was tuned on, and its golden chip is taken from.
        metrics: Training and validation figures.
    """
    bands = usecase.data.input_bands
    return describe(
        graph_bytes(index_graph(index, len(bands))),
        usecase,
        dataset,
        kind="spectral-index",
        architecture=index.name,
        tiling=INDEX_TILING,
        weights=1,
        metrics=metrics,
        parameters={
            "threshold": index.threshold,
            "bands": [bands[index.green].name, bands[index.other].name],
        },
    )
