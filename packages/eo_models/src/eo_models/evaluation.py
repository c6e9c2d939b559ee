"""`evaluate`: candidate, champion and indices on the same chips, through the tile plan that serves."""

from __future__ import annotations

import logging
from typing import Any, Final

from eo_data.dataset import Dataset
from eo_data.digests import SHORT, json_digest
from eo_data.errors import UsageError
from eo_data.model.files import ModelFiles, fetch_model
from eo_data.model.ledger import Ledger
from eo_data.store import Store
from eo_data.usecase import UseCase
from eo_models.configuration import GateSection, gate_section
from eo_models.contestants import ROLES
from eo_models.evaluation_record import EVALUATION_FORMAT, Evaluation
from eo_models.evaluation_report import report_files
from eo_models.index_version import KIND
from eo_models.inputs import require_same_data
from eo_models.registry import KIND_TAG, Registry, Version
from eo_models.scoring import SCORED, make_evaluation
from eo_models.tracking import DATASET_TAG

log = logging.getLogger(__name__)

ALL_SCORED: Final = "evaluation.json"
"""Written last: an evaluation is there when this is."""


def evaluate(store: Store, usecase: UseCase, model: str, uri: str, *, progress: bool = True) -> dict[str, Any]:
    """Score a version against the champion and the indices, unless that was done before.

    The index is that of the version's own dataset. A version of another use case may be scored too, if its classes
    and bands fit: it is held against the index of the dataset that it is offered for.

    Args:
        store: Where the dataset and the ledger lie, and the evaluation goes.
        usecase: Whose classes, and the `gate` section with the bootstrap's settings.
        model: The candidate, `models:/NAME/VERSION`, or `models:/NAME@champion` by the ledger.
        uri: The dataset.
        progress: Whether to show a progress bar on stderr.

    Returns:
        The step's result: `evaluation`, `model`, `champion`, `index`, `iou` (test split) and `existing`.

    Raises:
        UsageError: If there is no champion yet, or no index to hold it against.
        DataRefused: If a version's files are not what was registered, or read bands that the dataset lacks.
        TemporaryFailure: If store or registry do not answer.
    """
    section = gate_section(usecase)
    dataset = Dataset(store, uri)
    require_same_data(dataset, usecase)
    registry = Registry(usecase.name)
    candidate = fetch_model(model, store)
    champion = Ledger(store, usecase.name).champion()
    if champion is None:
        raise UsageError(
            f"there is no champion of '{usecase.name}' to hold it against", where=store.uri, fix="Run train first"
        )
    own = candidate.name == usecase.name
    index = index_of(registry, candidate.description.dataset_digest if own else dataset.digest)
    key = evaluation_key(candidate.digest, dataset.digest, champion.model_digest, index.digest, section)
    existing = store.exists(f"{key}/{ALL_SCORED}")
    if existing:
        log.info("evaluate: this was evaluated before")
    else:
        files = {
            "candidate": candidate,
            "champion": fetch_model(champion.uri, store),
            "index": fetch_model(index.uri, store),
        }
        _write(store, usecase, dataset, section, key, files, registry, progress=progress)
    found = store.get_record(f"{key}/{ALL_SCORED}", Evaluation)
    return {
        "evaluation": store.resolve(f"{key}/{ALL_SCORED}"),
        "model": candidate.uri,
        "champion": champion.uri,
        "index": index.uri,
        "iou": {role: found.splits["test"].pooled[role].iou for role in ROLES},
        "existing": existing,
    }


def evaluation_key(model: str, dataset: str, champion: str, index: str, section: GateSection) -> str:
    """The folder of an evaluation: below model and dataset, what else it depends on.

    Those are the champion and the index that the model was held against, and the bootstrap's settings; never what
    differs by machine.
    """
    rest = [EVALUATION_FORMAT, champion, index, section.resamples, section.seed]
    return f"evaluations/{model}/{dataset}/{json_digest(rest)[:SHORT]}"


def index_of(registry: Registry, dataset: str) -> Version:
    """The newest registered index of a dataset, by its digest.

    Raises:
        UsageError: If there is none.
    """
    found = registry.find({KIND_TAG: KIND, DATASET_TAG: dataset})
    if found is None:
        raise UsageError(
            f"no spectral index of dataset {dataset[:12]} is registered",
            where=registry.name,
            fix="Run train on that dataset: it registers the index",
        )
    return found


def _write(
    store: Store,
    usecase: UseCase,
    dataset: Dataset,
    section: GateSection,
    key: str,
    files: dict[str, ModelFiles],
    registry: Registry,
    *,
    progress: bool,
) -> None:
    """Score, draw, store and log; the evaluation itself last."""
    candidate = files["candidate"]
    record, samples = make_evaluation(store, usecase, dataset, section, files, progress=progress)
    documents = report_files(record, candidate, usecase, dataset.manifest, samples)
    for name, data in documents.items():
        store.put_new(f"{key}/{name}", data)
    evaluation = record.model_dump(mode="json")
    run = registry.reopen(candidate.run)
    run.log_metrics(
        {
            **{f"{split}_iou_{role}": record.splits[split].pooled[role].iou for split in SCORED for role in ROLES},
            "test_calibration_error": record.calibration.expected_error,
            "test_average_precision": record.curves["candidate"].average_precision,
            **{f"behaviour_{check.name.replace(' ', '_')}": check.value for check in record.behaviour},
        }
    )
    run.log_files(documents, f"evaluation/{key.rsplit('/', 1)[1]}")
    store.put_json_new(f"{key}/{ALL_SCORED}", evaluation)
