"""Parameters that runs take: their trigger forms, which refuse what cannot be meant."""

from __future__ import annotations

from typing import Any, Final

from airflow.sdk import Param

from pipelines.assets import DEPLOYMENT

URI: Final = r"^$|^(file:///|s3://|https?://|/)\S+$"
MODEL: Final = r"^$|^models:/[A-Za-z0-9_.-]+(/[1-9][0-9]*|@[a-z]+)$"


def usecase() -> Any:
    """Which use case a run is about."""
    return Param(
        DEPLOYMENT.usecase,
        type="string",
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$|^/\S+$",
        title="Use case",
        description="Name of a folder in usecases/, or path of such a file",
    )


def uri(title: str, description: str) -> Any:
    """An address, or nothing."""
    return Param("", type="string", pattern=URI, title=title, description=description)


def model(description: str) -> Any:
    """A model version, or nothing."""
    return Param("", type="string", pattern=MODEL, title="Model version", description=description)


def texts(title: str, description: str) -> Any:
    """A list of ids."""
    return Param([], type="array", items={"type": "string", "minLength": 1}, title=title, description=description)


def switch(title: str, description: str) -> Any:
    """Yes or no."""
    return Param(False, type="boolean", title=title, description=description)
