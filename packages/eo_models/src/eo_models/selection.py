"""`select-best`: an experiment's finished runs, ranked by the metric that the use case names."""

from __future__ import annotations

import logging
import math
from typing import Any

from eo_data.errors import DataRefused
from eo_data.model.description import ModelDescription
from eo_data.model.files import DESCRIPTION_FILE
from eo_data.model.registry import read_version
from eo_data.usecase import UseCase
from eo_models.configuration import gate_section
from eo_models.registry import Registry, Version
from eo_models.tracking import experiment_exists

log = logging.getLogger(__name__)


def select_best(usecase: UseCase, experiment: str) -> dict[str, Any]:
    """Rank finished runs by `gate.metric`.

    A run that registered a version is ranked by that version's `model.json`: what the tracking store shows is
    the last epoch's figure, and the version is of the best epoch, as exported. A metric that no `model.json` holds,
    such as `validation_loss`, is the run's own.

    Args:
        usecase: Its `gate.metric` is the metric.
        experiment: The MLflow experiment, and registered model, of that name.

    Returns:
        `experiment`, `metric`, `run`, `value`, `model` (None where the run registered none) of the best, and
        `ranking`, a list of the same, best first.

    Raises:
        DataRefused: If there is no such experiment, or no finished run of it has the metric.
        TemporaryFailure: If the registry does not answer.
    """
    metric = gate_section(usecase).metric
    if not experiment_exists(experiment):
        raise DataRefused("there is no such experiment", where=experiment, fix="Name one that MLflow's UI shows")
    registry = Registry(experiment)
    versions = {version.run: version for version in registry.versions()}
    runs = registry.finished_runs()
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
                    "model": version.uri if version else None,
                }
            )
    if not ranking:
        raise DataRefused(
            f"none of {len(runs)} finished runs has the metric '{metric}'",
            where=f"experiment '{experiment}'",
            fix="Train first, or name a metric that runs log in gate.metric",
        )
    lower = lower_is_better(metric)
    ranking.sort(key=lambda one: (one["value"] if lower else -one["value"], one["run"]))
    for place, one in enumerate(ranking[:5], start=1):
        log.info("select-best: %d. %s %s = %.4f (%s)", place, one["run"], metric, one["value"], one["model"])
    best = ranking[0]
    return {"experiment": experiment, "metric": metric, **best, "ranking": ranking}


def lower_is_better(metric: str) -> bool:
    """Whether a metric is one of those that are better the lower they are, by its name."""
    return metric.endswith(("loss", "error"))


def _registered(version: Version) -> dict[str, float | None]:
    """The figures of a version's `model.json`; None is undefined."""
    _, _, [text] = read_version(version.name, version.number, (DESCRIPTION_FILE,))
    return ModelDescription.from_bytes(text).metrics
