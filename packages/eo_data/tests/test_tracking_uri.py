"""Passwords in MLFLOW_TRACKING_URI: shown to nobody."""

from __future__ import annotations

import socket

import pytest

from eo_data.errors import TemporaryFailure, UsageError
from eo_data.model.files import fetch_model
from eo_data.model.tracking_uri import public_uri, said


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://user:secret@host:5000/base", "http://host:5000/base"),
        ("http://user:sec@ret@host:5000/base", "http://host:5000/base"),
        ("http://host/?token=secret#secret", "http://host/"),
        ("postgresql+psycopg2://user:secret@host/mlflow", "postgresql+psycopg2://host/mlflow"),
        ("postgresql://host/mlflow?user=u&password=secret", "postgresql://host/mlflow"),
        ("postgresql://user:sec/ret@host/mlflow", "postgresql://***"),
        ("mysql://user:secret?#@host/mlflow", "mysql://***"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dsecret", "mssql+pyodbc:///"),
        ("sqlite:////folder/mlflow.db", "sqlite:////folder/mlflow.db"),
        ("user:secret@host", "host"),
        ("mlruns", "mlruns"),
    ],
)
def test_a_tracking_store_is_named_without_secrets(uri: str, shown: str) -> None:
    assert public_uri(uri) == shown


@pytest.mark.parametrize(
    ("uri", "text", "shown"),
    [
        ("http://bob:s3cret@host:9", "request to http://bob:s3cret@host:9/api", "request to http://host:9/api"),
        ("http://bob:s3cret@host:9/", "request to http://bob:s3cret@host:9/api", "request to http://host:9/api"),
        ("http://host?token=s3cret", "exceeded with url: /?token=s3cret/api", "exceeded with url: //api"),
        ("mysql://bob:s3%2Fcret@host/db", "bob may not use s3/cret\nor s3%2Fcret", "bob may not use ***"),
        ("mysql://bob:s3cret@host/db", "x" * 198 + "s3cret", "x" * 198 + "**"),
        ("", "some text", "some text"),
    ],
)  # fmt: skip
def test_what_mlflow_says_is_told_without_secrets(
    uri: str, text: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert said(ValueError(text)) == shown


def test_no_failure_of_reading_a_version_shows_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgres://bob:s3cret@host/mlflow")
    with pytest.raises(UsageError, match="'postgres://host/mlflow' is no registry") as refusal:
        fetch_model("models:/water/1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as taken:  # bound and not listening: refused at once
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://bob:s3cret@127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(TemporaryFailure, match="the registry did not answer") as failure:
            fetch_model("models:/water/1")
    for error in (refusal.value, failure.value):
        assert "s3cret" not in str(error)
        assert "bob" not in str(error)
