"""The model registry, MLflow, behind the few calls that this package makes."""

from __future__ import annotations

import logging
import os
import platform
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eo_data.digests import sha256
from eo_data.errors import TemporaryFailure, TerraloopError
from eo_data.model.description import ModelDescription
from eo_data.model.files import DESCRIPTION_FILE, DESCRIPTION_TAG, GRAPH_FILE, GRAPH_TAG
from eo_data.model.tracking_uri import public_uri
from eo_models.candidate_card import CARD_FILE, shortened
from eo_models.run_records import NewVersion
from eo_models.run_tags import run_tags
from eo_models.tracked_run import Run, RunKept
from eo_models.tracking import answering, connect, experiment, tracking_uri

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun
    from mlflow.entities.model_registry import ModelVersion

log = logging.getLogger(__name__)

MODEL_FOLDER: Final = "model"
"""Folder of a version's files among its run's artifacts."""

_NO_SUCH_RUN: Final = "RESOURCE_DOES_NOT_EXIST"

KIND_TAG: Final = "terraloop.kind"
TRAIN_TAG: Final = "terraloop.train.sha256"
CODE_TAG: Final = "terraloop.code"


class GivenUp(Exception):
    """What a run is for is given up on purpose: it neither finished, to be ranked, nor failed, and ends as killed."""


@dataclass(frozen=True)
class Version:
    """A registered version.

    Attributes:
        name: The registered model.
        number: Its version.
        run: The run that made it.
        tags: Its tags.
    """

    name: str
    number: int
    run: str
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """`models:/<name>/<number>`."""
        return f"models:/{self.name}/{self.number}"

    @property
    def digest(self) -> str:
        """The model digest."""
        return self.tags[GRAPH_TAG]

    @property
    def description_digest(self) -> str:
        """sha256 of its `model.json`."""
        return self.tags[DESCRIPTION_TAG]


class Registry:
    """One use case's experiment and registered model, of the same name.

    Args:
        name: The use case's name.

    Raises:
        UsageError: If `MLFLOW_TRACKING_URI` is not set or names no tracking store.
        TemporaryFailure: If the tracking store does not answer.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._client = connect()
        with answering():
            self._experiment = experiment(self._client, name)

    @contextmanager
    def run(self, title: str, tags: Mapping[str, str], parent: Run | None = None) -> Iterator[Run]:
        """A run of the experiment, ended as finished, failed or killed.

        Args:
            title: Its name.
            tags: Its tags.
            parent: The run that it is a part of: MLflow shows it nested below that one.

        Raises:
            TemporaryFailure: If MLflow does not answer when the run begins.
            RunKept: If it does not answer when the run ends: the run is kept, and sent later.
        """
        known = {**run_tags(os.environ), **tags}
        if parent is not None:
            known["mlflow.parentRunId"] = parent.id
        with answering():
            info = self._client.create_run(self._experiment, tags=known, run_name=title).info
        run = Run(self._client, info)
        try:
            yield run
        except RunKept as kept:
            own = kept.run == run.id
            run.end("FINISHED" if own else "FAILED")  # raises again, unless MLflow is back
            if not own:
                raise
            raise TemporaryFailure(
                f"MLflow was away for a moment; run {run.id} was kept, and has been sent since",
                where=public_uri(tracking_uri()),
                fix="Run the step again: it finds what is registered",
            ) from kept
        except BaseException as error:
            self._end(run, error)
            raise
        run.end("FINISHED")

    @contextmanager
    def resume(self, run_id: str) -> Iterator[Run]:
        """A run that goes on, ended as finished, failed or killed.

        Raises:
            TemporaryFailure: If MLflow does not answer.
        """
        run = self.reopen(run_id)
        with answering():
            self._client.update_run(run_id, status="RUNNING")
        try:
            yield run
        except BaseException as error:
            self._end(run, error)
            raise
        run.end("FINISHED")

    def has_run(self, run_id: str) -> bool:
        """Whether there is such a run (still)."""
        from mlflow.exceptions import MlflowException

        with answering():
            try:
                return bool(self._client.get_run(run_id).info.lifecycle_stage == "active")
            except MlflowException as error:
                if error.error_code == _NO_SUCH_RUN:
                    return False
                raise

    def reopen(self, run_id: str) -> Run:
        """A run that has ended, to log what became known later.

        Raises:
            DataRefused: If there is no such run (any more).
            TemporaryFailure: If MLflow does not answer.
        """
        with answering():
            info = self._client.get_run(run_id).info
        return Run(self._client, info, keeps=False)

    def finished_runs(self) -> list[MlflowRun]:
        """Every run of the experiment that finished and was not deleted."""
        found: list[MlflowRun] = []
        token: str | None = None
        with answering():
            while True:
                page = self._client.search_runs(
                    [self._experiment], "attributes.status = 'FINISHED'", max_results=500, page_token=token
                )
                found += page
                token = page.token
                if not token:
                    return found

    def find(self, tags: Mapping[str, str]) -> Version | None:
        """The newest version that bears all these tags; None where there is none."""
        versions = [v for v in self.versions() if tags.items() <= v.tags.items()]
        return max(versions, key=lambda v: v.number, default=None)

    def versions(self) -> list[Version]:
        """Every registered version with both digests."""
        found: list[Version] = []
        token: str | None = None
        with answering():
            while True:
                page = self._client.search_model_versions(f"name='{self.name}'", max_results=500, page_token=token)
                found += [_version(entry) for entry in page if {GRAPH_TAG, DESCRIPTION_TAG} <= entry.tags.keys()]
                token = page.token
                if not token:
                    return found

    def register(
        self,
        run: Run,
        graph: bytes,
        description: ModelDescription,
        tags: Mapping[str, str],
        text: bytes | None = None,
        card: str = "",
    ) -> Version:
        """Upload a version's files and register them: the files first, the version last and with all its tags.

        Whoever sees the version sees it whole.

        Args:
            run: Where the files go.
            graph: The bytes of `model.onnx`.
            description: What `model.json` says.
            tags: Beside those of the digests.
            text: The bytes of `model.json`, where they are given and not to be written anew.
            card: Its model card in Markdown: a file of the run, and the description of run and version.

        Raises:
            RunKept: If MLflow does not answer; files and version are kept, and sent later.
        """
        text = description.to_bytes() if text is None else text
        with tempfile.TemporaryDirectory(prefix="terraloop-register-") as folder:
            write_flavour(Path(folder) / MODEL_FOLDER, graph, text, description)
            run.log_folder(Path(folder) / MODEL_FOLDER, MODEL_FOLDER)
        digests = {GRAPH_TAG: sha256(graph), DESCRIPTION_TAG: sha256(text)}
        shown = f"{description.architecture}, {description.kind}"
        if card:
            run.log_files({CARD_FILE: card.encode()}, None)
            shown = shortened(card, f"{CARD_FILE} among the files of run {run.id}")
            run.log_tags({"mlflow.note.content": shown})
        created = run.create_version(
            NewVersion(
                name=self.name, source=f"{run.artifact_uri}/{MODEL_FOLDER}", tags={**tags, **digests}, description=shown
            )
        )
        return _version(created)

    def project_aliases(self, champion: int, previous: int | None) -> None:
        """Set the aliases `champion` and `previous` to what the ledger says; only what differs is written."""
        with answering():
            aliases = self._client.get_registered_model(self.name).aliases
            for alias, version in (("champion", champion), ("previous", previous)):
                current = aliases.get(alias)
                if version is None:
                    if current is not None:
                        self._client.delete_registered_model_alias(self.name, alias)
                elif current is None or int(current) != version:
                    self._client.set_registered_model_alias(self.name, alias, str(version))

    def _end(self, run: Run, error: BaseException) -> None:
        failed = isinstance(error, Exception) and not isinstance(error, GivenUp)
        log.warning("run %s ends: %s", run.id, type(error).__name__)
        try:
            run.end("FAILED" if failed else "KILLED")
        except TerraloopError as error:  # the first error is the one to tell
            log.warning("the run's end could not be recorded: %s", error)


def write_flavour(folder: Path, graph: bytes, text: bytes, description: ModelDescription) -> None:
    """A version's folder: MLflow's `onnx` flavour around exactly these bytes of `model.onnx`, and `model.json`."""
    from importlib.metadata import version

    with warnings.catch_warnings():
        # Raised by MLflow 3.17 over its own type hints when it is imported.
        warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType.*", UserWarning)
        import mlflow.onnx
        import mlflow.pyfunc  # loaded when first used, otherwise
    import numpy as np
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def schema(name: str, channels: int) -> Schema:
        return Schema([TensorSpec(np.dtype(np.float32), (-1, channels, -1, -1), name)])

    signature = ModelSignature(
        inputs=schema(description.input.name, len(description.input.bands)),
        outputs=schema(description.output.name, len(description.output.classes)),
    )
    mlflow.onnx.save_model(
        onnx.load_from_string(graph),
        str(folder),
        signature=signature,
        # Said in full: left to itself MLflow asks for an installed pip, and there need not be one.
        conda_env={
            "name": "terraloop",
            "channels": ["conda-forge"],
            "dependencies": [
                f"python={platform.python_version()}",
                "pip",
                {"pip": [f"{package}=={version(package)}" for package in ("mlflow", "onnx", "onnxruntime")]},
            ],
        },
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
    )
    (folder / GRAPH_FILE).write_bytes(graph)  # what onnx.save wrote need not be these bytes, and the digest is theirs
    (folder / DESCRIPTION_FILE).write_bytes(text)


def _version(entry: ModelVersion) -> Version:
    return Version(entry.name, int(entry.version), entry.run_id or "", dict(entry.tags))
