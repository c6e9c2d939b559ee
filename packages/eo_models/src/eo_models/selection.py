"""`select-best`: an experiment's finished runs, ranked by the metric that the use case names."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eo_data.errors import DataRefused
from eo_data.model.description import ModelDescription
from eo_data.model.files import DESCRIPTION_FILE
from eo_data.model.registry import read_version
from eo_data.usecase import UseCase
from eo_models.configuration import gate_section
from eo_models.registry import KIND_TAG, Registry, Version
from eo_models.tracking import DATASET_TAG, experiment_exists

if TYPE_CHECKING:
    from mlflow.entities import Run

log = logging.getLogger(__name__)


def select_best(usecase: UseCase, experiment: str, dataset: str | None = None) -> dict[str, Any]:
    """Rank the finished runs of one dataset by `gate.metric`: figures on other pixels cannot be compared.

    A run that registered a version is ranked by that version's `model.json`: what the tracking store shows is
    the last epoch's figure, and the version is of the best epoch, as exported. A metric that no `model.json` holds,
    such as `validation_loss`, is the run's own.

    Args:
        usecase: Its `gate.metric` is the metric.
        experiment: The MLflow experiment, and registered model, of that name.
        dataset: Its digest; None for that of the newest finished run that says one.

    Returns:
        `experiment`, `metric`, `left_out` (finished runs of other datasets, or of none), `run`, `name`, `value`,
        `dataset`, `kind` and `model` (None where the run says no kind, registered no version) of the best, and
        `ranking`, a list of the last six, best first.

    Raises:
        DataRefused: If there is no such experiment, or no finished run of the dataset has the metric.
        TemporaryFailure: If the registry does not answer.
    """
    metric = gate_section(usecase).metric
    if not experiment_exists(experiment):
        raise DataRefused("there is no such experiment", where=experiment, fix="Name one that MLflow's UI shows")
    registry = Registry(experiment)
    versions = {version.run: version for version in registry.versions()}
    finished = registry.finished_runs()
    dataset = dataset or _newest_dataset(finished, experiment)
    runs = [run for run in finished if run.data.tags.get(DATASET_TAG) == dataset]
    ranking = []
    for run in runs:
        version = versions.get(run.info.run_id)
        figures = {**run.data.metrics, **(_registered(version) if version else {})}
        value = figures.get(metric)
        if value is not None and math.isfinite(value):
            ranking.append(
                {
                    "run": run.info.run_id,
                    "name": run.info.run_name,
                    "value": value,
                    "dataset": dataset,
                    "kind": run.data.tags.get(KIND_TAG),
                    "model": version.uri if version else None,
                }
            )
    if not ranking:
        raise DataRefused(
            f"none of {len(runs)} finished runs of dataset {dataset[:12]} has the metric '{metric}'",
            where=f"experiment '{experiment}'",
            fix="Train on it first, name another --dataset, or name a metric that runs log in gate.metric",
        )
    left_out = len(finished) - len(runs)
    lower = lower_is_better(metric)
    ranking.sort(key=lambda one: (one["value"] if lower else -one["value"], one["run"]))
    for place, one in enumerate(ranking[:5], start=1):
        log.info("select-best: %d. %s %s = %.4f (%s)", place, one["run"], metric, one["value"], one["model"])
    log.info("select-best: on dataset %s; %d finished runs of other datasets or none left out", dataset, left_out)
    return {"experiment": experiment, "metric": metric, "left_out": left_out, **ranking[0], "ranking": ranking}


def lower_is_better(metric: str) -> bool:
    """Whether a metric is one of those that are better the lower they are, by its name."""
    return metric.endswith(("loss", "error", "brier"))


def _newest_dataset(finished: Sequence[Run], experiment: str) -> str:
    said = [run for run in finished if DATASET_TAG in run.data.tags]
    if not said:
        raise DataRefused(
            f"none of {len(finished)} finished runs says its dataset (tag {DATASET_TAG})",
            where=f"experiment '{experiment}'",
            fix="Train first",
        )
    return max(said, key=lambda run: (run.info.end_time, run.info.start_time)).data.tags[DATASET_TAG]


def _registered(version: Version) -> dict[str, float | None]:
    """The figures of a version's `model.json`; None is undefined."""
    _, _, [text] = read_version(version.name, version.number, (DESCRIPTION_FILE,))
    return ModelDescription.from_bytes(text).metrics
