"""Optuna's study: where it is kept, how it goes on after a stop, and what came of its trials."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eo_data.errors import TemporaryFailure, UsageError
from eo_data.store import Store, local_path
from eo_models.search_space import TuneSection
from eo_models.tracking import database_file, open_database, tracking_uri

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

HEARTBEAT: Final = 20
"""Seconds between two signs of life of a running trial; after three without one it counts as lost."""

FILE: Final = "tuning.db"
_FINGERPRINT: Final = "terraloop.fingerprint"
REASON: Final = "terraloop.reason"
"""Attribute of a trial that failed by itself; one that was lost with its process has none."""

OnLost = Callable[["FrozenTrial"], None]
"""Told of each trial whose process is gone."""


def require_optuna() -> None:
    """See that Optuna is there.

    Raises:
        UsageError: Naming the extra that brings it.
    """
    try:
        import optuna
    except ImportError as error:
        raise UsageError(
            "tuning needs Optuna, which is not installed", where="tune", fix="Install eo-models[tuning]"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a trial's end is told by `tune`, with its run


def storage_url(store: Store, given: str | None) -> str:
    """Where studies are kept: what is given, else a file beside the tracking database, else beside the store.

    Raises:
        UsageError: If nothing is given, and MLflow is a server and the store no folder.
    """
    if given:
        return given
    database = database_file(tracking_uri())
    if database is None and not store.uri.startswith("file://"):
        raise UsageError(
            "neither the tracking store nor the store is a file, beside which the study could be kept",
            where="--storage",
            fix="Name a database: sqlite:///PATH/tuning.db, or postgresql://... of its own",
        )
    folder = database.parent if database else local_path(store.uri).parent
    return f"sqlite:///{folder / FILE}"


def shown(url: str) -> str:
    """A storage's URL without its password."""
    from sqlalchemy.engine import make_url

    return make_url(url).render_as_string(hide_password=True)


@contextmanager
def keeping(url: str) -> Iterator[None]:
    """Turn what Optuna's storage raises into an error that a user can be told about.

    Raises:
        TemporaryFailure: If the database does not answer.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise TemporaryFailure(
            f"the study's database did not answer ({str(error).splitlines()[0][:200]})",
            where=shown(url),
            fix="Check --storage, then run tune again: it goes on where it stopped",
        ) from error


def open_study(url: str, name: str, fingerprint: str, section: TuneSection, *, falls: bool, on_lost: OnLost) -> Study:
    """The study of this name, made where there is none.

    Args:
        url: The storage.
        name: Its name.
        fingerprint: Of what its values depend on; values of another one cannot be compared.
        section: The pruner's settings.
        falls: Whether a lower figure is better.
        on_lost: Told of trials whose process is gone.

    Raises:
        UsageError: If the storage is none, or the study was made for something else.
        TemporaryFailure: If the database does not answer.
    """
    import optuna

    _check(url)
    with keeping(url):
        with warnings.catch_warnings():
            # Signs of life are experimental in Optuna 5; the alternative is trials that run for ever.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = optuna.storages.RDBStorage(
                url,
                heartbeat_interval=HEARTBEAT,
                grace_period=3 * HEARTBEAT,
                heartbeat_stale_trial_callback=lambda study, trial: on_lost(trial),
            )
        pruning = section.pruning
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            load_if_exists=True,
            direction="minimize" if falls else "maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=pruning.startup, n_warmup_steps=pruning.warmup)
            if pruning
            else optuna.pruners.NopPruner(),
        )
        known = study.user_attrs.get(_FINGERPRINT)
        if known is None:
            study.set_user_attr(_FINGERPRINT, fingerprint)
        elif known != fingerprint:
            raise UsageError(
                f"the study '{name}' is of another dataset, train section, search space, gate.metric or code",
                where=shown(url),
                fix="Name another --study; without the flag each has its own",
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(study)
    return study


def tally(study: Study) -> dict[str, int]:
    """How many trials are `complete`, `pruned`, `failed`, `lost` with their process, and `running`."""
    states = [_state(trial) for trial in study.get_trials(deepcopy=False)]
    return {state: states.count(state) for state in ("complete", "pruned", "failed", "lost", "running")}


def _state(trial: FrozenTrial) -> str:
    name = trial.state.name.lower()
    if name == "fail":
        return "failed" if REASON in trial.user_attrs else "lost"
    return name


def _check(url: str) -> None:
    """See that a storage can be used: a database whose driver is here; for SQLite its file.

    Raises:
        UsageError: If it cannot.
    """
    from sqlalchemy.engine import create_engine, make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        create_engine(url).dispose()
        file = make_url(url).database if url.startswith("sqlite") else None
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        raise UsageError(
            f"this names no database that can be used here ({type(error).__name__})",
            where="--storage",
            fix="Give sqlite:///PATH/tuning.db, or install the database's driver",
        ) from error
    if file is not None:
        open_database(Path(file), what="the study's database", where=file, fix="Name another --storage")


def reasons(study: Study) -> list[str]:
    """Why trials failed, each reason once."""
    return list(dict.fromkeys(t.user_attrs[REASON] for t in study.get_trials(deepcopy=False) if REASON in t.user_attrs))
