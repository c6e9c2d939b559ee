"""`tune`: settings of `train` tried one after the other, judged by validation alone; nothing is registered.

Each trial is a training as `train` makes it; its figure on the validation split, through the tile plan that serves,
is the trial's value. Chips of holdout and test are not read.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import yaml

from eo_data.dataset import Dataset
from eo_data.digests import json_digest
from eo_data.errors import UsageError
from eo_data.store import Store
from eo_data.usecase import UseCase
from eo_models.code_identity import code_identity
from eo_models.configuration import gate_section, require_extra, train_section
from eo_models.inputs import require_same_data
from eo_models.learnable import require_intact, require_learnable
from eo_models.registry import KIND_TAG, Registry
from eo_models.search_space import present, tune_section, with_values
from eo_models.selection import lower_is_better
from eo_models.studies import (
    keeping,
    open_study,
    reasons,
    require_optuna,
    shown,
    storage_url,
    tally,
)
from eo_models.tracked_run import Run
from eo_models.tracking import DATASET_TAG
from eo_models.trials import CHOSEN, RUN, Failed, Objective

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)


def tune(
    store: Store,
    usecase: UseCase,
    uri: str,
    *,
    trials: int | None = None,
    timeout: float | None = None,
    name: str | None = None,
    storage: str | None = None,
) -> dict[str, Any]:
    """Search the space that the `tune` section declares.

    A study that was stopped goes on: only the trial that was running is lost. The first trial is the `train`
    section as it stands, where the space holds it. In one process, equal inputs and seeds give equal trials.

    Args:
        store: Where the dataset lies.
        usecase: Its `tune` section is the space, its `train` section the rest, `gate.metric` the objective.
        uri: The dataset.
        trials: How many the study shall have in all; the section's number where none is given.
        timeout: Seconds after which no further trial begins.
        name: The study's name; made of what its values depend on where none is given.
        storage: The database in which it is kept; see `eo_models.studies.storage_url`.

    Returns:
        The step's result: `study`, `storage`, `metric`, `value`, `parameters`, `train` (the section to paste),
        `trials` by state, `run` (parent), `best_run` and `existing` (whether there was nothing left to try).

    Raises:
        UsageError: If Optuna is missing, the configuration is impossible, or no trial gave a value.
        DataRefused: If there is no such dataset, or nothing can be learned from it.
        TemporaryFailure: If store, registry or the study's database do not answer.
    """
    require_optuna()
    section, metric = tune_section(usecase), gate_section(usecase).metric
    train = train_section(usecase)
    require_extra(train)
    wanted = section.trials if trials is None else trials
    _require_positive("--trials", wanted)
    _require_positive("--timeout", timeout)
    dataset = Dataset(store, uri)
    require_same_data(dataset, usecase)
    require_learnable(dataset)
    require_intact(dataset)
    place = storage_url(store, storage)
    space = section.model_dump(mode="json")["space"]
    fingerprint = json_digest([dataset.digest, usecase.digest("train"), space, metric, code_identity()])
    title = name or f"{usecase.name}-{fingerprint[:12]}"
    registry = Registry(usecase.name)
    study = open_study(
        place, title, fingerprint, section, falls=lower_is_better(metric), on_lost=partial(_end_lost, registry)
    )
    existing = _ended(study) >= wanted
    with keeping(place), _parent_run(registry, study, usecase, dataset) as parent:
        now = present(section, train)
        if now is not None and not study.get_trials(deepcopy=False):
            study.enqueue_trial(now)
        _search(study, Objective(registry, usecase, dataset, section, metric, title, parent), wanted, timeout)
        found = _best(study, usecase)
        parent.log_metrics({f"best_{metric}": found["value"], **{f"trials_{k}": n for k, n in tally(study).items()}})
    result = {
        "study": title,
        "storage": shown(place),
        "metric": metric,
        **found,
        "trials": tally(study),
        "run": parent.id,
        "existing": existing,
    }
    print(_fragment(result), file=sys.stderr)
    return result


def _search(study: Study, objective: Objective, wanted: int, timeout: float | None) -> None:
    """Try until there are enough trials, or the time is up."""
    from optuna.samplers import TPESampler

    started = time.monotonic()
    while _ended(study) < wanted:
        if timeout is not None and time.monotonic() - started >= timeout:
            log.info("tune: %g seconds are over, no further trial begins", timeout)
            return
        # A seed per trial: a study that goes on must not draw again what it drew first.
        study.sampler = TPESampler(seed=objective.section.seed + len(study.get_trials(deepcopy=False)))
        study.optimize(objective, n_trials=1, catch=(Failed,))


def _ended(study: Study) -> int:
    """Trials that came to an end of their own: all but those running and those lost with their process."""
    counts = tally(study)
    return counts["complete"] + counts["pruned"] + counts["failed"]


def _best(study: Study, usecase: UseCase) -> dict[str, Any]:
    """Value and settings of the best trial.

    Raises:
        UsageError: If none gave a value.
    """
    try:
        best = study.best_trial
    except ValueError as error:
        told = "; ".join(map(str, reasons(study)[:3])) or "each was given up or lost"
        raise UsageError(
            f"no trial gave a value ({told})", where=study.study_name, fix="Correct the space in `tune`, or try more"
        ) from error
    chosen = best.user_attrs[CHOSEN]
    return {
        "value": best.value,
        "parameters": chosen,
        "train": with_values(usecase.values("train"), chosen),
        "best_run": best.user_attrs[RUN],
    }


@contextmanager
def _parent_run(registry: Registry, study: Study, usecase: UseCase, dataset: Dataset) -> Iterator[Run]:
    """The run above the trials: made with the study, opened again where the study goes on."""
    known = study.user_attrs.get(RUN)
    if known is None or not registry.has_run(known):
        tags = {
            KIND_TAG: "study",
            DATASET_TAG: dataset.digest,
            "terraloop.usecase": usecase.name,
            "terraloop.study": study.study_name,
        }
        with registry.run(f"tune {study.study_name}", tags) as run:
            study.set_user_attr(RUN, run.id)
        known = run.id
    with registry.resume(known) as run:
        yield run


def _end_lost(registry: Registry, trial: FrozenTrial) -> None:
    """End the run of a trial whose process is gone."""
    log.warning("tune: trial %d was lost with its process", trial.number)
    run = trial.user_attrs.get(RUN)
    if run is not None and registry.has_run(run):
        registry.reopen(run).end("KILLED")


def _require_positive(flag: str, value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise UsageError(f"{value:g} is no number above 0", where=flag, fix="Give one, or leave the flag out")


def _fragment(result: Mapping[str, Any]) -> str:
    """What to paste into the use case."""
    head = (
        f"# {result['metric']} = {result['value']:.4f} on validation, study {result['study']}; nothing is registered."
    )
    text = yaml.safe_dump({"train": result["train"]}, sort_keys=False, default_flow_style=None)
    return f"{head}\n# Put it into the use case and run train.\n{text}"
