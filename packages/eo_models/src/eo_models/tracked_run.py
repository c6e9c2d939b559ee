"""A run: what is logged goes to MLflow, or, while that does not answer, into a journal that is sent later.

Once a run has begun, nothing that it logs is lost, and a tracking store that goes away does not stop the work.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from eo_data.errors import TemporaryFailure, TerraloopError
from eo_models.delivery import create_version, deliver
from eo_models.journal import Journal, Kept, journal_folder
from eo_models.run_records import DatasetUsed, End, Figures, Files, NewVersion, Parameters, Record, Tags
from eo_models.tracking import DATASET_TAG, public_uri, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import RunInfo
    from mlflow.entities.model_registry import ModelVersion

    from eo_data.dataset import Dataset

log = logging.getLogger(__name__)

PATIENCE = 10
"""A store that did not answer is asked again after so many times as long as the last try took: it costs a tenth."""


class RunKept(TemporaryFailure):
    """The work is done and its run complete, but MLflow does not answer: the run is kept, and sent later.

    Args:
        run: MLflow's id of the run.
        folder: Where it is kept.
        reason: What MLflow's last failure was.
    """

    def __init__(self, run: str, folder: Path, reason: str) -> None:
        self.run = run
        super().__init__(
            f"MLflow does not answer ({reason}); nothing is lost: run {run} is kept in {folder}",
            where=public_uri(tracking_uri()),
            fix="Run the step again, or `eo-models send-runs`, once MLflow is back: it sends and registers what is "
            "kept, and nothing is computed again",
        )


class Run:
    """Where parameters, figures and files of one training or evaluation go.

    Args:
        client: Of the tracking store.
        info: The run as MLflow knows it.
        keeps: Whether it is kept while MLflow does not answer; else that is an error at once.

    Attributes:
        id: MLflow's id.
        artifact_uri: Where its files lie.
    """

    def __init__(self, client: MlflowClient, info: RunInfo, *, keeps: bool = True) -> None:
        self.id = str(info.run_id)
        self.artifact_uri = str(info.artifact_uri)
        self._client = client
        self._kept = Kept(
            run=self.id,
            title=str(info.run_name),
            tracking=public_uri(tracking_uri()),
            started=int(info.start_time),
        )
        self._keeps = keeps
        self._last_step: int | None = None
        self._journal: Journal | None = None
        self._reason = ""
        self._next_try = 0.0
        self._when_back: list[Callable[[], None]] = []

    def log_parameters(self, values: Mapping[str, Any]) -> None:
        """Record parameters."""
        self._log(Parameters(values={key: str(value) for key, value in values.items()}))

    def log_metrics(self, values: Mapping[str, float | None], step: int | None = None) -> None:
        """Record figures as known now; undefined ones (None or NaN) are left out.

        Args:
            values: By name.
            step: The epoch. None is after all that were logged: MLflow shows the value of the last step.
        """
        if step is None:
            step = 0 if self._last_step is None else self._last_step + 1
        else:
            self._last_step = max(step, self._last_step or 0)
        known = {key: float(value) for key, value in values.items() if value is not None and value == value}
        self._log(Figures(values=known, timestamp=_now(), step=step))

    def log_tags(self, values: Mapping[str, str]) -> None:
        """Set tags."""
        self._log(Tags(values=dict(values)))

    def log_dataset(self, name: str, dataset: Dataset, context: str = "training") -> None:
        """Record the dataset as an input of the run, and its full digest as a tag."""
        from eo_models.dataset_input import ChipDataset

        used = ChipDataset(dataset, name).to_dict()
        self._log(
            DatasetUsed(
                name=used["name"],
                digest=used["digest"],
                source_type=used["source_type"],
                source=used["source"],
                data_schema=used["schema"],
                profile=used["profile"],
                context=context,
            )
        )
        self.log_tags({DATASET_TAG: dataset.digest})

    def log_folder(self, folder: Path, artifact_path: str | None) -> None:
        """Upload a folder's files."""
        self._log(Files(folder=folder, artifact_path=artifact_path))

    def log_files(self, files: Mapping[str, bytes], artifact_path: str | None) -> None:
        """Upload files by name."""
        with tempfile.TemporaryDirectory(prefix="terraloop-artifacts-") as folder:
            for name, data in files.items():
                (Path(folder) / name).write_bytes(data)
            self.log_folder(Path(folder), artifact_path)

    def create_version(self, record: NewVersion) -> ModelVersion:
        """Register a version of this run's files.

        Raises:
            RunKept: If MLflow does not answer; the version is registered when the run is sent.
        """
        journal = self._behind(at_once=True)
        if journal is None:
            started = time.monotonic()
            try:
                return create_version(self._client, self.id, record)
            except TerraloopError as error:
                journal = self._keep_from_now(error, started)
        journal.append(record)
        raise RunKept(self.id, journal.folder, self._reason)

    def end(self, status: Literal["FINISHED", "FAILED", "KILLED"]) -> None:
        """End the run.

        Raises:
            RunKept: If it is kept.
        """
        self._log(End(status=status, timestamp=_now()), at_once=True)
        if self._journal is not None:
            folder = self._journal.folder
            self._journal.release()
            raise RunKept(self.id, folder, self._reason)

    def when_back(self, call: Callable[[], None]) -> None:
        """Have something called whenever MLflow answers again."""
        self._when_back.append(call)

    def _log(self, record: Record, *, at_once: bool = False) -> None:
        journal = self._behind(at_once=at_once)
        if journal is None:
            started = time.monotonic()
            try:
                deliver(self._client, self.id, record)
                return
            except TerraloopError as error:
                journal = self._keep_from_now(error, started)
        journal.append(record)

    def _behind(self, *, at_once: bool) -> Journal | None:
        """The journal where MLflow still lacks something, after trying to send that if it is time to."""
        journal = self._journal
        if journal is None:
            return None
        started = time.monotonic()
        if not at_once and started < self._next_try:
            return journal
        try:
            for record in journal.records():
                deliver(self._client, self.id, record)
        except TerraloopError as error:
            self._wait_after(error, started)
            return journal
        journal.remove()
        self._journal = None
        log.info("MLflow answers again: run %s has everything that was kept", self.id)
        for call in self._when_back:
            call()
        return None

    def _keep_from_now(self, error: TerraloopError, started: float) -> Journal:
        if not self._keeps:
            raise error
        self._wait_after(error, started)
        journal = Journal(journal_folder() / self.id)
        journal.begin(self._kept)
        self._journal = journal
        log.warning(
            "MLflow does not answer (%s). The work goes on; what belongs to run %s is kept in %s and sent when MLflow "
            "answers again",
            error.what,
            self.id,
            journal.folder,
        )
        return journal

    def _wait_after(self, error: TerraloopError, started: float) -> None:
        self._reason = error.what
        now = time.monotonic()
        self._next_try = now + PATIENCE * (now - started)


def _now() -> int:
    return int(time.time() * 1000)
