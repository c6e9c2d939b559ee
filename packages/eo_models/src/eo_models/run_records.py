"""What is logged to a run, as records: sent to MLflow, or kept as lines of JSON until it answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Parameters(_Record):
    """Parameters."""

    kind: Literal["parameters"] = "parameters"
    values: dict[str, str]


class Figures(_Record):
    """Figures of one step, with the time at which they were known (milliseconds since 1970)."""

    kind: Literal["figures"] = "figures"
    values: dict[str, float]
    timestamp: int
    step: int


class Tags(_Record):
    """Tags of the run."""

    kind: Literal["tags"] = "tags"
    values: dict[str, str]


class DatasetUsed(_Record):
    """A dataset as an input of the run; fields as MLflow's entity has them, schema and profile JSON texts."""

    kind: Literal["dataset"] = "dataset"
    name: str
    digest: str
    source_type: str
    source: str
    data_schema: str
    profile: str
    context: str


class Files(_Record):
    """A folder whose files go to `artifact_path` (`None`: the run's root)."""

    kind: Literal["files"] = "files"
    folder: Path
    artifact_path: str | None


class NewVersion(_Record):
    """A version to be registered once its files are there."""

    kind: Literal["version"] = "version"
    name: str
    source: str
    tags: dict[str, str]
    description: str


class End(_Record):
    """The run's end, with its time (milliseconds since 1970)."""

    kind: Literal["end"] = "end"
    status: Literal["FINISHED", "FAILED", "KILLED"]
    timestamp: int


Record = Annotated[Parameters | Figures | Tags | DatasetUsed | Files | NewVersion | End, Field(discriminator="kind")]
RECORD: TypeAdapter[Record] = TypeAdapter(Record)
"""Reads a record back from its JSON."""
