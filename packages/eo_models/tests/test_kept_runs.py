"""A tracking store that goes away in the middle of a run: nothing is lost, nothing is logged twice."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eo_data.errors import EXIT_CODES, TemporaryFailure, UsageError
from eo_data.model.files import fetch_model
from eo_models.cli import main
from eo_models.index_version import index_artifact
from eo_models.journal import Journal, Kept, journal_folder, kept_journals
from eo_models.kept_runs import send_kept_runs
from eo_models.registry import KIND_TAG, Registry
from eo_models.run_records import Figures
from eo_models.spectral_index import indices
from eo_models.tracked_run import Run, RunKept
from eo_models.training import train

from .conftest import World
from .tracking_server import TrackingServer


class LockedDatabase:
    """An SQLite tracking store that another process holds and lets go again."""

    def __init__(self, database: Path) -> None:
        self.url = f"sqlite:///{database}"
        self._connection = sqlite3.connect(database, isolation_level=None)

    def start(self) -> None:
        """Let go."""
        self._connection.execute("rollback")

    def kill(self) -> None:
        """Hold it."""
        self._connection.execute("begin exclusive")


@pytest.fixture(params=["sqlite", "server"])
def away(request: pytest.FixtureRequest, world: World) -> Iterator[TrackingServer | LockedDatabase]:
    """A tracking store that can go away (`kill`) and come back (`start`)."""
    if request.param == "server":
        yield request.getfixturevalue("server")
        return
    store = LockedDatabase(world.database)
    with closing(store._connection):
        yield store


def history(run: str, name: str) -> list[tuple[int, float]]:
    """Step and value of everything that was logged under a name."""
    from mlflow import MlflowClient

    return [(point.step, point.value) for point in MlflowClient().get_metric_history(run, name)]


def log_second_half(run: Run, world: World, registry: Registry) -> None:
    run.log_parameters({"late": 1})
    run.log_dataset("made-up", world.dataset)
    run.log_files({"late.txt": b"late"}, "figures")
    artifact = index_artifact(indices(world.usecase.data)[0], world.usecase, world.dataset, {})
    registry.register(run, artifact.graph, artifact.description, {KIND_TAG: "test"}, card="# A card")


def assert_whole(run_id: str) -> None:
    """The run is there as if nothing had happened."""
    from mlflow import MlflowClient

    client = MlflowClient()
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert history(run_id, "loss") == [(1, 1.0), (2, 0.5)]
    assert run.data.params == {"early": "1", "late": "1"}
    assert run.inputs is not None
    [used] = run.inputs.dataset_inputs
    assert (used.dataset.name, used.tags[0].value) == ("made-up", "training")
    files = {item.path for folder in ("", "figures") for item in client.list_artifacts(run_id, folder)}
    assert {"figures/early.txt", "figures/late.txt", "model-card.md"} <= files
    [version] = client.search_model_versions("name='made-up'")
    assert (version.run_id, version.description, version.tags[KIND_TAG]) == (run_id, "# A card", "test")
    assert fetch_model("models:/made-up/1").description.architecture == "NDWI"
    assert kept_journals() == []


def test_back_before_the_end(
    away: TrackingServer | LockedDatabase,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", away.url)
    registry = Registry("made-up")
    with registry.run("a run", {}) as run:
        run.log_metrics({"loss": 1.0}, 1)
        run.log_parameters({"early": 1})
        run.log_files({"early.txt": b"early"}, "figures")
        away.kill()
        before = int(time.time() * 1000)
        run.log_metrics({"loss": 0.5}, 2)
        after = time.time() * 1000
        [journal] = kept_journals()
        assert [type(record) for record in journal.records()] == [Figures]
        assert str(journal.folder) in caplog.text
        assert send_kept_runs()["sent"] == []  # the run's own process has it
        away.start()
        time_of_return = time.time() * 1000
        log_second_half(run, world, registry)
    assert_whole(run.id)
    [_, late] = MlflowClient().get_metric_history(run.id, "loss")
    assert before <= late.timestamp <= after < time_of_return


def test_a_training_whose_server_dies_is_registered_by_the_next_call(
    make_world: Callable[..., World],
    server: TrackingServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    epochs = 15
    world = make_world(train={"epochs": epochs, "patience": epochs})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    def kill_after_some_epochs() -> None:
        with closing(sqlite3.connect(server.database)) as connection:
            while not connection.execute("select 1 from metrics where key = 'loss' and step = 2").fetchone():
                time.sleep(0.02)
        server.kill()

    killer = threading.Thread(target=kill_after_some_epochs, daemon=True)
    killer.start()
    call = ["train", "--usecase", "made-up", "--store", world.store.uri, "--dataset", world.dataset.uri]
    assert main(call) == EXIT_CODES[TemporaryFailure]
    killer.join(timeout=10)
    [journal] = kept_journals()
    message = capsys.readouterr().err
    assert str(journal.folder) in message
    assert "send-runs" in message
    with pytest.raises(TemporaryFailure):
        send_kept_runs()
    shutil.copytree(journal.folder, tmp_path / "copy")

    server.start()
    trained = train(world.store, world.usecase, world.dataset.uri, progress=False)
    assert (trained["run"], trained["existing"], trained["model"]) == (journal.folder.name, True, "models:/made-up/2")
    assert fetch_model(trained["model"]).digest == trained["digest"]
    assert kept_journals() == []
    whole = state(trained["run"])
    assert whole["status"] == "FINISHED"
    assert whole["steps"] == list(range(1, epochs + 1))
    assert whole["params"]["epochs"] == str(epochs)
    assert whole["datasets"] == [("made-up", world.dataset.digest[:32])]
    assert {"model/model.onnx", "figures/confusion.png", "model-card.md"} <= whole["files"]
    assert "validation_iou" in whole["metrics"]

    shutil.copytree(tmp_path / "copy", journal.folder)  # as if it had been killed after sending, before it forgot
    assert send_kept_runs()["sent"] == [{"run": trained["run"], "status": "FINISHED", "models": [trained["model"]]}]
    assert state(trained["run"]) == whole


def state(run_id: str) -> dict[str, Any]:
    """Everything that a run has, histories and versions included."""
    from mlflow import MlflowClient

    client = MlflowClient()
    run = client.get_run(run_id)
    assert run.inputs is not None
    loss = client.get_metric_history(run_id, "loss")
    return {
        "status": run.info.status,
        "ended": run.info.end_time,
        "steps": [point.step for point in loss],
        "losses": [(point.timestamp, point.value) for point in loss],
        "metrics": run.data.metrics,
        "params": run.data.params,
        "tags": run.data.tags,
        "datasets": [(used.dataset.name, used.dataset.digest) for used in run.inputs.dataset_inputs],
        "files": {item.path for folder in ("", "figures", "model") for item in client.list_artifacts(run_id, folder)},
        "versions": [version.version for version in client.search_model_versions("name='made-up'")],
    }


def test_a_run_whose_process_was_killed_ends_as_killed(world: World) -> None:
    from mlflow import MlflowClient

    client = MlflowClient()
    run = client.create_run(client.create_experiment("made-up")).info
    journal = Journal(journal_folder() / run.run_id)
    journal.begin(Kept(run=run.run_id, title="a run", tracking=f"sqlite:///{world.database}", started=run.start_time))
    journal.append(Figures(values={"loss": 1.0}, timestamp=run.start_time + 9, step=1))
    with (journal.folder / "records.jsonl").open("ab") as stream:
        stream.write(b'{"kind": "figures", "val')  # cut off in writing
    journal.release()
    assert main(["send-runs"]) == 0
    assert history(run.run_id, "loss") == [(1, 1.0)]
    found = client.get_run(run.run_id).info
    assert (found.status, found.end_time) == ("KILLED", run.start_time + 9)


def test_a_store_of_artifacts_that_takes_nothing_loses_nothing(world: World) -> None:
    artifacts = world.database.parent / "mlartifacts"
    artifacts.write_text("no folder, so that nothing can be written below")
    registry = Registry("made-up")
    with pytest.raises(RunKept, match="did not take the files") as kept, registry.run("a run", {}) as run:  # noqa: PT012
        run.log_metrics({"loss": 1.0}, 1)
        run.log_files({"early.txt": b"early"}, "figures")
        run.log_metrics({"loss": 0.5}, 2)
        run.log_parameters({"early": 1})
        log_second_half(run, world, registry)
    assert kept.value.run == run.id
    artifacts.unlink()
    assert send_kept_runs()["sent"] == [{"run": run.id, "status": "FINISHED", "models": ["models:/made-up/1"]}]
    assert_whole(run.id)


def test_what_mlflow_refuses_is_an_error_at_once(world: World) -> None:
    from mlflow import MlflowClient

    registry = Registry("made-up")
    with registry.run("a run", {}) as run:
        run.log_parameters({"network": "U-Net"})
        with pytest.raises(UsageError, match="refused"):
            run.log_parameters({"network": "pixels"})
    assert kept_journals() == []
    assert MlflowClient().get_run(run.id).info.status == "FINISHED"


def test_what_mlflow_refuses_when_it_is_back_is_no_absence(world: World) -> None:
    store = LockedDatabase(world.database)
    with closing(store._connection):
        registry = Registry("made-up")
        with pytest.raises(UsageError, match="refused"), registry.run("a run", {}) as run:  # noqa: PT012  # at its end
            run.log_parameters({"network": "U-Net"})
            store.kill()
            run.log_parameters({"network": "pixels"})
            store.start()
    [kept] = send_kept_runs()["kept"]
    assert kept["run"] == run.id
    assert "refused" in kept["reason"]


def test_a_refused_note_stops_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    from mlflow import MlflowClient

    with Registry("made-up").run("a run", {}) as run:
        run.log_tags({"mlflow.note." + "x" * 1000: "too long a name"})
        run.log_metrics({"loss": 1.0}, 1)
    assert "goes without some of its tags" in caplog.text
    assert MlflowClient().get_run(run.id).info.status == "FINISHED"
    assert history(run.id, "loss") == [(1, 1.0)]


def figures(value: float) -> Figures:
    return Figures(values={"loss": value}, timestamp=1, step=1)


@pytest.mark.parametrize(
    ("file", "says"),
    [("records.jsonl", "line 2 of records.jsonl is no record"), ("run.json", "run.json is none of this release")],
)
def test_a_run_that_cannot_be_read_stays_and_does_not_stop_others(world: World, file: str, says: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.create_experiment("made-up")
    runs = [client.create_run(experiment).info for _ in range(2)]
    for started, run in enumerate(runs):
        journal = Journal(journal_folder() / run.run_id)
        journal.begin(Kept(run=run.run_id, title="", tracking=f"sqlite:///{world.database}", started=started))
        journal.append(figures(1))
        journal.release()
    with (journal_folder() / runs[0].run_id / file).open("ab") as stream:
        stream.write(b'{"kind":"of another release"}\n')
    outcome = send_kept_runs(wanted={KIND_TAG: "network"})
    assert [one["run"] for one in outcome["sent"]] == [runs[1].run_id]
    assert [one["run"] for one in outcome["kept"]] == [runs[0].run_id]
    assert says in outcome["kept"][0]["reason"]
    assert client.get_run(runs[0].run_id).info.status == "RUNNING"


def test_a_run_that_mlflow_forgot_stays_and_does_not_stop_others(world: World) -> None:
    journal = Journal(journal_folder() / ("0" * 32))
    journal.begin(Kept(run="0" * 32, title="gone", tracking=f"sqlite:///{world.database}", started=1))
    journal.append(Figures(values={"loss": 1.0}, timestamp=5, step=1))
    journal.release()
    outcome = send_kept_runs()
    assert outcome["sent"] == []
    assert [one["run"] for one in outcome["kept"]] == ["0" * 32]
    assert "does not know" in outcome["kept"][0]["reason"]
