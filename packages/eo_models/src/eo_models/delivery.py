"""A record to MLflow. Each can be sent again without being logged twice, since an answer may be lost on its way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eo_models.run_records import DatasetUsed, End, Figures, Files, NewVersion, Parameters, Record, Tags
from eo_models.tracking import answering

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def deliver(client: MlflowClient, run: str, record: Record) -> None:
    """Send one record.

    MLflow keeps a figure by its run, name, step, time and value, a parameter, tag and dataset by its name: what it
    has already is not added again. Files are written over by themselves.

    Args:
        client: Of the tracking store.
        run: MLflow's id of the run.
        record: What to tell it.

    Raises:
        UsageError: If it refuses the record.
        TemporaryFailure: If it does not answer.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

    if isinstance(record, NewVersion):
        create_version(client, run, record)
        return
    with answering():
        match record:
            case Parameters(values=values):
                client.log_batch(run, params=[Param(key, value) for key, value in values.items()])
            case Figures(values=figures, timestamp=timestamp, step=step):
                client.log_batch(run, metrics=[Metric(key, value, timestamp, step) for key, value in figures.items()])
            case Tags(values=values):
                client.log_batch(run, tags=[RunTag(key, value) for key, value in values.items()])
            case DatasetUsed():
                dataset = Dataset(
                    name=record.name,
                    digest=record.digest,
                    source_type=record.source_type,
                    source=record.source,
                    schema=record.data_schema,
                    profile=record.profile,
                )
                used = DatasetInput(dataset, [InputTag("mlflow.data.context", record.context)])
                client.log_inputs(run, [used])
            case Files(folder=folder, artifact_path=path):
                client.log_artifacts(run, str(folder), path)
            case End(status=status, timestamp=timestamp):
                client.set_terminated(run, status, timestamp)


def create_version(client: MlflowClient, run: str, record: NewVersion) -> ModelVersion:
    """Register a version of a run, unless the run has one with these tags.

    Raises:
        UsageError: If MLflow refuses it.
        TemporaryFailure: If it does not answer.
    """
    from mlflow.exceptions import MlflowException

    with answering():
        try:
            client.create_registered_model(record.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        for found in client.search_model_versions(f"name='{record.name}' and run_id='{run}'"):
            if record.tags.items() <= found.tags.items():
                return found
        return client.create_model_version(
            record.name, record.source, run, tags=record.tags, description=record.description
        )
