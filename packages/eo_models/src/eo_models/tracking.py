"""MLflow's tracking store: which one, and what its failures mean.

MLflow's own retries are kept short: a step that cannot reach it ends with a temporary failure, and whoever
runs the step decides when to try again.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from eo_data.errors import DataRefused, TemporaryFailure, TerraloopError, UsageError
from eo_data.model.tracking_uri import URI_VARIABLE, public_uri, said

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATASET_TAG: Final = "terraloop.dataset.sha256"

_SETTINGS: Final = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # two small files each time
}
_REFUSED = {"PERMISSION_DENIED", "UNAUTHENTICATED", "INVALID_PARAMETER_VALUE", "BAD_REQUEST"}


@contextmanager
def answering(where: str | None = None) -> Iterator[None]:
    """Turn what MLflow raises into errors that a user can be told about.

    Raises:
        UsageError: If it refuses the caller or the call.
        DataRefused: If it does not know what it is asked for.
        TemporaryFailure: If it does not answer.
    """
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    place = where or public_uri(os.environ.get(URI_VARIABLE, URI_VARIABLE))
    try:
        yield
    except MlflowException as error:
        text = said(error)
        if error.error_code in _REFUSED:
            raise UsageError(f"MLflow refused the call ({text})", where=place, fix=f"Check {URI_VARIABLE}") from error
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise DataRefused(
                f"MLflow does not know what it is asked for ({text})",
                where=place,
                fix=f"Restore it if it was deleted, and check {URI_VARIABLE}",
            ) from error
        raise _unreachable(text, place) from error
    except (RequestException, SQLAlchemyError) as error:
        raise _unreachable(said(error), place) from error


@contextmanager
def storing_artifacts() -> Iterator[None]:
    """The same where files go to the store of the artifacts: each kind of store raises errors of its own.

    Raises:
        UsageError: If MLflow refuses the caller or the call.
        DataRefused: If it does not know the run.
        TemporaryFailure: If the files did not arrive for any other reason, such as a full disk.
    """
    try:
        with answering():
            yield
    except TerraloopError:
        raise
    except Exception as error:  # boto's, OSError, ImportError: MLflow passes on whatever its client of the store raises
        raise TemporaryFailure(
            f"the store of MLflow's artifacts did not take the files ({type(error).__name__}: {said(error)})",
            where=public_uri(os.environ.get(URI_VARIABLE, URI_VARIABLE)),
            fix="See that it can be reached and has room, then run the step again",
        ) from error


def tracking_uri() -> str:
    """What `MLFLOW_TRACKING_URI` says.

    Raises:
        UsageError: If it is not set, or names a folder (MLflow keeps no registry there).
    """
    uri = os.environ.get(URI_VARIABLE, "")
    scheme = urlsplit(uri).scheme.partition("+")[0]  # postgresql+psycopg2 names the driver too
    if scheme not in {"http", "https", "sqlite", "postgresql", "mysql", "mssql"}:
        raise UsageError(
            f"'{public_uri(uri)}' is no tracking store" if uri else "no tracking store is named",
            where=URI_VARIABLE,
            fix="Set it to sqlite:///PATH/mlflow.db or to the URL of an MLflow server",
        )
    return uri


def database_file(uri: str) -> Path | None:
    """The file of an SQLite tracking store; None for a server or another database."""
    return Path(uri.removeprefix("sqlite:///")).resolve() if uri.startswith("sqlite:///") else None


def open_database(file: Path, *, what: str, where: str, fix: str) -> None:
    """See that an SQLite file can be opened; MLflow would try for two minutes before it says that it cannot.

    Args:
        file: Made, with its folder, where it is not there.
        what: What it is called in the message.
        where: The place that the message names.
        fix: What to do.

    Raises:
        UsageError: If the folder cannot be made or the file is no database.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(file, timeout=30)) as connection:
            connection.execute("pragma schema_version")
    except (OSError, sqlite3.Error) as error:
        raise UsageError(f"{what} cannot be opened ({error})", where=where, fix=fix) from error


def connect() -> MlflowClient:
    """A client of the tracking store that `MLFLOW_TRACKING_URI` names.

    Raises:
        UsageError: If it is not set or names no tracking store.
        TemporaryFailure: If it does not answer.
    """
    uri = tracking_uri()
    for variable, value in _SETTINGS.items():
        os.environ.setdefault(variable, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # a line per migration of a new database
    file = database_file(uri)
    if file is not None:
        open_database(file, what="the tracking database", where=public_uri(uri), fix=f"Correct {URI_VARIABLE}")
    import mlflow

    with answering():
        return mlflow.MlflowClient(uri)


def experiment_exists(name: str) -> bool:
    """Whether there is an experiment of this name; none is made.

    Raises:
        UsageError: If `MLFLOW_TRACKING_URI` is not set or names no tracking store.
        TemporaryFailure: If it does not answer.
    """
    client = connect()
    with answering():
        return client.get_experiment_by_name(name) is not None


def experiment(client: MlflowClient, name: str) -> str:
    """The experiment's id. With a database and no server, artifacts lie in `mlartifacts` beside its file."""
    from mlflow.exceptions import MlflowException

    file = database_file(tracking_uri())
    location = (file.parent / "mlartifacts").as_uri() if file else None
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise UsageError(
            f"the experiment '{name}' is deleted",
            where=public_uri(tracking_uri()),
            fix="Restore it in MLflow or purge it",
        )
    return str(found.experiment_id)


def _unreachable(text: str, place: str) -> TemporaryFailure:
    return TemporaryFailure(
        f"the registry did not answer ({text})",
        where=place,
        fix=f"Check that MLflow is running and {URI_VARIABLE} is right, then run the step again",
    )
