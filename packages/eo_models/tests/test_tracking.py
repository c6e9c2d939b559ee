"""What a run says: where it comes from, what it learned from, what it did to its machine."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from eo_models.candidate_card import LONGEST, shortened
from eo_models.dataset_input import ChipDataset
from eo_models.registry import Registry
from eo_models.run_tags import dag_tags, run_tags
from eo_models.system_figures import system_figures
from eo_models.tracking import public_uri

from .conftest import World

AIRFLOW = {
    "AIRFLOW_CTX_DAG_ID": "water retrain",
    "AIRFLOW_CTX_DAG_RUN_ID": "manual__2026-11-25T10:00:00+00:00",
    "AIRFLOW_CTX_TASK_ID": "train",
    "AIRFLOW_CTX_TRY_NUMBER": "2",
}


def test_a_run_links_to_its_dag_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    for variable, value in AIRFLOW.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://localhost:8080/")
    with Registry("made-up").run("a run", {}) as run:
        pass
    tags = MlflowClient().get_run(run.id).data.tags
    assert {name: value for name, value in tags.items() if name.startswith("terraloop.dag.")} == {
        "terraloop.dag.id": "water retrain",
        "terraloop.dag.run": "manual__2026-11-25T10:00:00+00:00",
        "terraloop.dag.task": "train",
        "terraloop.dag.try": "2",
        "terraloop.dag.url": "http://localhost:8080/dags/water%20retrain/runs/manual__2026-11-25T10%3A00%3A00%2B00%3A00",
    }


def test_outside_airflow_nothing_is_said_of_a_dag() -> None:
    assert dag_tags({"AIRFLOW__API__BASE_URL": "http://localhost:8080", "AIRFLOW_CTX_DAG_ID": ""}) == {}


def test_commit_and_dirty_flag_stand_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    for commit, dirty in ((f"{'a' * 40}", "false"), (f"{'a' * 40}-dirty", "true")):
        monkeypatch.setattr("eo_models.run_tags.git_commit", lambda commit=commit: commit)
        tags = run_tags({})
        assert (tags["mlflow.source.git.commit"], tags["terraloop.git.dirty"]) == ("a" * 40, dirty)
    monkeypatch.setattr("eo_models.run_tags.git_commit", lambda: None)
    assert "mlflow.source.git.commit" not in run_tags({})


def test_the_dataset_is_mlflows_own_kind_and_its_source_loads(world: World) -> None:
    import mlflow

    with Registry("made-up").run("a run", {}) as run:
        run.log_dataset("made-up", world.dataset)
    found = mlflow.MlflowClient().get_run(run.id)
    assert found.data.tags["terraloop.dataset.sha256"] == world.dataset.digest
    assert found.inputs is not None
    [used] = found.inputs.dataset_inputs
    profile = json.loads(used.dataset.profile or "")
    assert (profile["num_rows"], profile["scenes_simulated"]) == (28, 28)
    counted = sum(chip.class_counts[1] for chip in world.dataset.chips("train"))
    assert profile["labelled_pixels"]["train"]["water"] == counted > 0
    schema = json.loads(used.dataset.schema or "")["mlflow_tensorspec"]
    assert json.loads(schema["features"])[0]["tensor-spec"] == {"dtype": "int16", "shape": [-1, 4, 32, 32]}
    folder = Path(mlflow.data.get_source(used.dataset).load())
    assert json.loads((folder / "manifest.json").read_text())["digest"] == world.dataset.digest
    assert ChipDataset(world.dataset, "made-up").digest == world.dataset.digest[:32]


def test_the_machines_figures_are_logged_unless_turned_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    registry = Registry("made-up")
    with registry.run("watched", {}) as watched, system_figures(watched):
        deadline = time.monotonic() + 60
        while "system/cpu_utilization_percentage" not in MlflowClient().get_run(watched.id).data.metrics:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    with registry.run("not watched", {}) as other, system_figures(other):
        time.sleep(0.5)
    assert MlflowClient().get_run(other.id).data.metrics == {}
    assert MlflowClient().get_run(watched.id).data.metrics["system/system_memory_usage_megabytes"] > 0


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://user:secret@host:5000/base", "http://host:5000/base"),
        ("postgresql+psycopg2://user:secret@host/mlflow", "postgresql+psycopg2://host/mlflow"),
        ("sqlite:////folder/mlflow.db", "sqlite:////folder/mlflow.db"),
    ],
)
def test_a_tracking_store_is_named_without_secrets(uri: str, shown: str) -> None:
    assert public_uri(uri) == shown


def test_a_card_that_is_too_long_for_the_registry_is_shortened_and_says_so() -> None:
    card = "# Model card\n\n## Use\n\nFor water.\n\n## Settings\n\n" + "x" * LONGEST
    short = shortened(card, "model-card.md of run 7")
    assert len(short) <= LONGEST
    assert short.startswith("# Model card\n\n## Use\n\nFor water.")
    assert short.endswith("Shortened: the whole card is model-card.md of run 7.\n")
    assert shortened("# Short", "") == "# Short"
