"""Reading a registered version from MLflow: its tags and the bytes of the files asked for, nothing else."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from eo_data.errors import DataRefused, TemporaryFailure, UsageError
from eo_data.model.tracking_uri import URI_VARIABLE, public_uri, said

_SETTINGS: Final = {
    # MLflow's own retries take minutes; whoever runs a step or a server decides when to try again.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_SCHEMES: Final = {"http", "https", "sqlite", "postgresql", "mysql", "mssql"}
_REFUSED: Final = {"PERMISSION_DENIED", "UNAUTHENTICATED", "INVALID_PARAMETER_VALUE", "BAD_REQUEST"}


def read_version(name: str, version: int, files: Sequence[str]) -> tuple[str, dict[str, str], list[bytes]]:
    """A registered version's run, its tags, and the bytes of its files.

    Raises:
        UsageError: If `MLFLOW_TRACKING_URI` names no registry.
        DataRefused: If there is no such version, or a file of it is missing.
        TemporaryFailure: If the registry or the store of its artifacts does not answer.
    """
    _check_uri(os.environ.get(URI_VARIABLE, ""))
    for variable, value in _SETTINGS.items():
        os.environ.setdefault(variable, value)
    import mlflow

    where = f"models:/{name}/{version}"
    with _answering(where, "there is no such model version", "List them in MLflow's UI"):
        client = mlflow.MlflowClient()
        registered = client.get_model_version(name, str(version))
        root = client.get_model_version_download_uri(name, str(version))
    with (
        _answering(where, "a file of the version is missing", "Restore its artifacts, or train again"),
        tempfile.TemporaryDirectory(prefix="terraloop-model-") as folder,
    ):
        data = [
            Path(mlflow.artifacts.download_artifacts(artifact_uri=f"{root}/{file}", dst_path=folder)).read_bytes()
            for file in files
        ]
    return registered.run_id or "", dict(registered.tags), data


def _check_uri(uri: str) -> None:
    """Refuse what names no registry: MLflow would make an empty one there, or try for minutes."""
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme not in _SCHEMES:
        raise UsageError(
            f"'{public_uri(uri)}' is no registry" if uri else "no registry is named",
            where=URI_VARIABLE,
            fix="Set it to sqlite:///PATH/mlflow.db or to the URL of an MLflow server",
        )
    if scheme != "sqlite":
        return
    file = Path(uri.removeprefix("sqlite:///"))
    if not file.is_file():
        raise UsageError("there is no such database", where=public_uri(uri), fix=f"Check {URI_VARIABLE}")
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
            connection.execute("select name from sqlite_master limit 1")
    except sqlite3.DatabaseError as error:
        raise UsageError(
            f"this is no database ({error})", where=public_uri(uri), fix=f"Check {URI_VARIABLE}"
        ) from error


@contextmanager
def _answering(where: str, absent: str, fix: str) -> Iterator[None]:
    """Turn what MLflow and its transports raise into errors that a user can be told about.

    Args:
        where: The version that is asked for.
        absent: What is wrong where the answer is that there is no such thing.
        fix: What to do then.
    """
    from mlflow.exceptions import MlflowException
    from requests.exceptions import HTTPError, RequestException

    try:
        yield
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise DataRefused(absent, where=where, fix=fix) from error
        if error.error_code in _REFUSED:
            raise UsageError(
                f"MLflow refused the call ({said(error)})", where=where, fix=f"Check {URI_VARIABLE}"
            ) from error
        raise _unreachable(error) from error
    except RequestException as error:
        if isinstance(error, HTTPError) and error.response is not None and error.response.status_code == 404:
            raise DataRefused(absent, where=where, fix=fix) from error
        raise _unreachable(error) from error
    except OSError as error:
        raise DataRefused(f"{absent} ({said(error)})", where=where, fix=fix) from error


def _unreachable(error: Exception) -> TemporaryFailure:
    return TemporaryFailure(
        f"the registry did not answer ({said(error)})",
        where=public_uri(os.environ.get(URI_VARIABLE, URI_VARIABLE)),
        fix=f"Check that MLflow is running and {URI_VARIABLE} is right",
    )
