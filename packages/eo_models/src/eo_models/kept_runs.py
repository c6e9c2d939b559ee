"""Sending the runs that were kept while MLflow did not answer: everything they logged, their versions, their end."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from eo_data.errors import DataRefused, UsageError
from eo_data.model.tracking_uri import public_uri
from eo_models.delivery import create_version, deliver
from eo_models.journal import FOLDER_VARIABLE, Kept, journal_folder, kept_journals
from eo_models.run_records import End, Figures, NewVersion, Record
from eo_models.tracking import answering, connect, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)


def send_kept_runs(wanted: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Send every kept run of the tracking store that `MLFLOW_TRACKING_URI` names; the oldest first.

    Those that other processes are writing are left alone. A run whose process was killed ends as killed.

    Args:
        wanted: Tags of the version that the caller needs; None asks for all runs.

    Returns:
        The step's result: `folder`, `sent` (`run`, `status` and the `models` registered) and `kept` (`run`, `folder`
        and `reason`).

    Raises:
        DataRefused: If MLflow does not know what a run with a version that is wanted needs.
        UsageError: If it refuses such a run.
        TemporaryFailure: If MLflow does not answer.
    """
    here = public_uri(tracking_uri())
    sent: list[dict[str, Any]] = []
    kept: list[dict[str, Any]] = []
    client: MlflowClient | None = None
    for journal in kept_journals():
        if not journal.acquire():
            continue
        try:
            try:
                header = journal.header()  # under the lock: another process may have sent it meanwhile
            except DataRefused as error:
                log.warning("%s", error)
                kept.append({"run": journal.folder.name, "folder": str(journal.folder), "reason": error.what})
                continue
            if header is None or header.tracking != here:
                continue
            client = client or connect()
            records: list[Record] = []
            try:
                records = journal.records()
                sent.append(_send(client, header, records))
            except (DataRefused, UsageError) as error:
                versions = [record.tags for record in records if isinstance(record, NewVersion)]
                if wanted is not None and any(wanted.items() <= tags.items() for tags in versions):
                    raise
                log.warning("run %s stays in %s: %s", header.run, journal.folder, error)
                kept.append({"run": header.run, "folder": str(journal.folder), "reason": error.what})
            else:
                journal.remove()
        finally:
            journal.release()
    return {"folder": str(journal_folder()), "sent": sent, "kept": kept}


def _send(client: MlflowClient, header: Kept, records: list[Record]) -> dict[str, Any]:
    _require_run(client, header)
    models = []
    status = None
    for record in records:
        if isinstance(record, NewVersion):
            version = create_version(client, header.run, record)
            models.append(f"models:/{version.name}/{version.version}")
            continue
        deliver(client, header.run, record)
        if isinstance(record, End):
            status = record.status
    if status is None:
        status = "KILLED"
        known = [record.timestamp for record in records if isinstance(record, Figures)]
        deliver(client, header.run, End(status=status, timestamp=max(known, default=header.started)))
    log.info(
        "run %s (%s), kept until now, was sent%s", header.run, header.title, ": " + ", ".join(models) if models else ""
    )
    return {"run": header.run, "status": status, "models": models}


def _require_run(client: MlflowClient, header: Kept) -> None:
    """Refuse a run that this tracking store no longer knows."""
    from mlflow.exceptions import MlflowException

    with answering():
        try:
            found = client.get_run(header.run)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            found = None
    if found is None or found.info.lifecycle_stage != "active":
        raise UsageError(
            f"MLflow does not know run {header.run} ({header.title}) any more",
            where=header.tracking,
            fix=f"Restore it, or give it up: remove {journal_folder() / header.run} ({FOLDER_VARIABLE})",
        )
