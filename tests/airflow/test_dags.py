"""Every DAG file is short, quick, whole, and reads in an environment that has Airflow alone."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra import environments

ROOT = Path(__file__).parents[2]
DAGS = ROOT / "pipelines" / "dags"
HERE = Path(__file__).parent
OUTPUTS = {"masks"}
LOOKED_BACK_AT = {"candidate"}
OURS = {"eo_data", "eo_models", "eo_serving", "infra"}
HEAVY = {"rasterio", "torch", "mlflow", "numpy", "pandas", "kubernetes", "docker", *OURS}


def airflow_python(tmp_path: Path, program: str, *arguments: str, **variables: str) -> Any:
    """What a program of these tests prints in Airflow's environment."""
    if not environments.up_to_date("airflow"):
        pytest.skip("the environment `airflow` is not there: `nox -s test-pipelines` makes it")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TERRALOOP_", "AIRFLOW"))}
    told = {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "PYTHONPATH": str(ROOT),
        "TERRALOOP_STORE": "file:///s",
        "TERRALOOP_ENDPOINT": "http://127.0.0.1:1",
        **variables,
    }
    command = [str(environments.executable("airflow", "python")), str(HERE / program), *arguments]
    done = subprocess.run(command, env={**kept, **told}, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return airflow_python(
        tmp_path_factory.mktemp("home"),
        "inspect_dags.py",
        str(DAGS),
        TERRALOOP_TRAIN_SCHEDULE="0 3 * * 0",
        TERRALOOP_MONITOR_SCHEDULE="0 4 * * *",
        TERRALOOP_APPROVAL_HOURS="24",
        TERRALOOP_INCOMING="/incoming",
    )


def test_nothing_is_wrong_with_a_file(found: Any) -> None:
    assert found["errors"] == {}
    assert set(found["dags"]) == {
        *("ingest_scenes", "build_dataset", "train_model", "deploy_model", "predict_scenes", "monitor_model"),
        *("template_dag", "template_dag_factory"),
    }


def test_files_are_short_and_quick_and_load_airflow_alone(found: Any) -> None:
    for name, one in found["files"].items():
        assert len((DAGS / name).read_text(encoding="utf-8").splitlines()) < 100, name
        assert one["seconds"] < 1.0, name
        assert not HEAVY & set(one["loaded"]), name


def test_each_says_what_it_is_and_never_catches_up(found: Any) -> None:
    for name, dag in found["dags"].items():
        assert dag["description"], name
        assert "terraloop" in dag["tags"], name
        assert dag["owner"] not in ("", "airflow"), name
        assert dag["catchup"] is False, name


def test_steps_are_tried_again(found: Any) -> None:
    for name, dag in found["dags"].items():
        for task, one in dag["tasks"].items():
            if one["kind"] == "StepOperator":
                assert one["retries"] == 3, f"{name}.{task}"
                assert "eo-" in one["doc"], f"{name}.{task}"


def test_every_asset_has_a_consumer_or_is_an_output(found: Any) -> None:
    dags = found["dags"].values()
    made = {asset for dag in dags for task in dag["tasks"].values() for asset in task["outlets"]}
    waited_for = {asset for dag in dags for asset in dag["assets"]}
    looked_at = {asset for dag in dags for task in dag["tasks"].values() for asset in task["inlets"]}
    assert made == {"scenes", "dataset", "candidate", "champion", "retraining", "masks"}
    assert made - waited_for == OUTPUTS | LOOKED_BACK_AT
    assert looked_at >= LOOKED_BACK_AT
    assert waited_for - made == {"incoming"}  # the watcher's


def test_the_way_of_a_candidate(found: Any) -> None:
    tasks = found["dags"]["train_model"]["tasks"]
    order = ["reason", "train", "evaluate", "approve", "promote", "announce"]
    assert [tasks[later]["upstream"] for later in order[1:]] == [[earlier] for earlier in order[:-1]]


SHARED = {
    "TERRALOOP_IMAGE_TRAIN": "terraloop/train:1",
    "TERRALOOP_IMAGE_SERVE": "terraloop/serve:1",
    "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    "AWS_SECRET_ACCESS_KEY": "hush",
}
USECASE = "{{ task.usecase_of(params, triggering_asset_events) }}"
LINE = ["train", "--usecase", USECASE, "--store", "file:///s", "--dataset", "file:///d", "--resume"]


def test_what_is_asked_of_docker(tmp_path: Path) -> None:
    """The rendered request; no engine is asked here."""
    found = airflow_python(
        tmp_path, "render_steps.py", TERRALOOP_STEP_MODE="docker", TERRALOOP_STEP_NETWORK="loop", **SHARED
    )
    assert "DockerOperator" in found["kind"]
    assert (found["image"], found["network"], found["remove"]) == ("terraloop/train:1", "loop", "never")
    assert found["environment"] == {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    assert found["private"] == {"AWS_SECRET_ACCESS_KEY": "hush"}
    assert found["line"] == LINE


def test_what_is_asked_of_kubernetes(tmp_path: Path) -> None:
    """The rendered pod; no cluster is asked here. Secrets come by name, never by value."""
    found = airflow_python(
        tmp_path,
        "render_steps.py",
        TERRALOOP_STEP_MODE="kubernetes",
        TERRALOOP_STEP_NAMESPACE="loop",
        TERRALOOP_STEP_SERVICE_ACCOUNT="steps",
        TERRALOOP_STEP_SECRET="store-keys",
        TERRALOOP_IMAGE_XCOM="terraloop/xcom:1",
        **SHARED,
    )
    assert (found["namespace"], found["service_account"]) == ("loop", "steps")
    step, sidecar = found["containers"]
    assert (step["image"], step["command"], step["args"]) == ("terraloop/train:1", ["eo-models"], LINE)
    assert step["env"] == {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    assert step["secrets"] == ["store-keys"]
    assert "hush" not in json.dumps(found)
    assert sidecar["image"] == "terraloop/xcom:1"
    assert "/airflow/xcom" in step["mounts"]
    assert "/airflow/xcom" in sidecar["mounts"]
