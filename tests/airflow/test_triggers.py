"""The five reasons to train, each end to end under a real scheduler, and what holds them back."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.airflow.conftest import make_world

if TYPE_CHECKING:
    from pipelines.airflow_client import DagRun
    from tests.airflow.conftest import World

CLOSED = {"train", "evaluate", "promote", "announce"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An Airflow with a cool-down of seconds."""
    folder = tmp_path_factory.mktemp("patient")
    made = make_world(folder, TERRALOOP_COOLDOWN_HOURS=str(45 / 3600))
    yield made
    made.end()
    shutil.rmtree(folder, ignore_errors=True)


def dataset() -> str:
    """A dataset that was never seen."""
    return f"file:///s/datasets/{time.time_ns()}"


def new_data(world: World, name: str) -> DagRun:
    """Bring a batch that leads to a dataset of this name; the run of `train_model` that follows."""
    ingest = world.start_run("ingest_scenes", source="file:///scenes")
    assert world.finish(ingest)["run"] == "success"
    build = world.follow(ingest, "build_dataset")
    assert world.finish(build)["run"] == "success"
    assert world.client.xcom(build, "chip")["dataset"] == name
    return world.follow(build, "train_model")


def rest(world: World) -> None:
    """Let the cool-down pass."""
    time.sleep(float(world.told["TERRALOOP_COOLDOWN_HOURS"]) * 3600 + 1)


def test_by_hand(world: World) -> None:
    world.plan()
    run = world.start_run("train_model", dataset=dataset())
    assert world.finish(run)["run"] == "success"
    decision = world.client.xcom(run, "reason")
    assert (decision["action"], decision["reason"]) == ("train", "manual")
    again = world.start_run("train_model", dataset=decision["dataset"])
    assert {task for task, state in world.finish(again).items() if state == "skipped"} == CLOSED | {"reason"}
    assert world.client.xcom(again, "reason")["action"] == "no-op"
    assert len(world.calls("train")) == 1
    forced = world.start_run("train_model", dataset=decision["dataset"], force=True)
    assert world.finish(forced)["train"] == "success"


def test_new_data_waits_out_the_cool_down_and_is_not_lost(world: World) -> None:
    rest(world)
    first, second, third = dataset(), dataset(), dataset()
    world.plan(chip={"result": {"dataset": first}})
    run = new_data(world, first)
    assert world.finish(run)["train"] == "success"
    world.plan(chip={"result": {"dataset": second}})
    waiting = new_data(world, second)
    world.eventually(lambda: world.states(waiting).get("reason") == "deferred", "it does not wait")
    decision = world.client.xcom(waiting, "reason")
    assert (decision["action"], decision["reason"], decision["dataset"]) == ("wait", "new-data", second)
    world.plan(chip={"result": {"dataset": third}})
    another = new_data(world, third)
    states = [world.finish(waiting), world.finish(another)]
    assert [state["run"] for state in states] == ["success", "success"]
    trained = [call["argv"][call["argv"].index("--dataset") + 1] for call in world.calls("train")]
    assert set(trained) == {third}  # the newest: what came meanwhile is in it


def test_ten_identical_events_lead_to_one_training(world: World) -> None:
    rest(world)
    name = dataset()
    world.plan(chip={"result": {"dataset": name}})
    first = new_data(world, name)
    runs = [new_data(world, name) for _ in range(9)]
    assert world.finish(first)["train"] == "success"
    for run in runs:
        assert world.finish(run)["run"] == "success"
    kept = [world.client.xcom(run, "reason")["action"] for run in runs]
    assert kept == ["no-op"] * 9
    assert len(world.calls("train")) == 1


@pytest.mark.parametrize(
    ("monitored", "reason"),
    [
        ({"drifted": [{"begin": "x"}], "reasons": ["B03 drifted in 3 of 5 windows"]}, "drift"),
        ({"quality": {"fresh": 0.4, "holdout": 0.8, "dropped": True}, "reasons": ["IoU fell to 0.4"]}, "quality"),
    ],
)
def test_what_monitoring_finds(world: World, monitored: dict[str, Any], reason: str) -> None:
    """Labels that came later are scored; where the report asks for it, a training on the newest dataset follows."""
    rest(world)
    name = dataset()
    world.plan(chip={"result": {"dataset": name}}, train={"exit": 3})
    build = world.start_run("build_dataset")
    assert world.finish(build)["run"] == "success"
    assert world.finish(world.follow(build, "train_model"))["run"] == "failed"  # it was not trained on
    world.plan(monitor={"result": {"retrain": True, **monitored}})
    run = world.start_run("monitor_model")
    assert world.finish(run)["run"] == "success"
    (scored,) = world.calls("evaluate")
    assert "--fresh" in scored["argv"]
    assert scored["argv"][scored["argv"].index("--model") + 1] == "models:/water@champion"
    train = world.follow(run, "train_model")
    assert world.finish(train)["train"] == "success"
    decision = world.client.xcom(train, "reason")
    assert (decision["action"], decision["reason"], decision["dataset"]) == ("train", reason, name)
    assert monitored["reasons"][0] in decision["why"]


def test_nothing_found_asks_for_nothing(world: World) -> None:
    world.plan(monitor={"result": {"reasons": ["B03 drifted in 1 of 5 windows, 3 are needed"]}})
    run = world.start_run("monitor_model", dataset=dataset())
    states = world.finish(run)
    assert (states["monitor"], states["ask"], states["run"]) == ("success", "skipped", "success")
    assert "1 of 5 windows" in world.log(run, "ask")
    time.sleep(3)
    assert world.client.caused(run, "train_model") is None


@pytest.fixture(scope="module")
def careful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An Airflow with a watched folder, a calendar, and somebody who must approve."""
    folder = tmp_path_factory.mktemp("careful")
    (folder / "incoming").mkdir()
    made = make_world(
        folder,
        TERRALOOP_COOLDOWN_HOURS="0",
        TERRALOOP_APPROVAL_HOURS=str(45 / 3600),
        TERRALOOP_TRAIN_SCHEDULE="* * * * *",
        TERRALOOP_INCOMING=str(folder / "incoming"),
    )
    yield made
    made.end()
    shutil.rmtree(folder, ignore_errors=True)


def approve(world: World, run: DagRun, option: str) -> None:
    """Answer as a person does, through the API that the page uses."""
    world.eventually(lambda: world.states(run).get("approve") == "awaiting_input", "nobody is asked")
    time.sleep(2)  # nobody answers at once
    path = f"{run.path}/taskInstances/approve/-1/hitlDetails"
    world.client._ask("PATCH", path, {"chosen_options": [option], "params_input": {}})


def scheduled(world: World) -> list[DagRun]:
    """Runs of `train_model` that the calendar made, the newest first."""
    from pipelines.airflow_client import DagRun

    found = world.client._ask("GET", "dags/train_model/dagRuns?run_type=scheduled&order_by=-run_after")["dag_runs"]
    return [DagRun("train_model", one["dag_run_id"]) for one in found]


def test_files_that_arrive_are_ingested_and_a_person_approves(careful: World) -> None:
    name = dataset()
    careful.plan(chip={"result": {"dataset": name}})
    incoming = Path(careful.told["TERRALOOP_INCOMING"])
    (incoming / "scene.tif").write_bytes(b"x" * 100)

    def arrived() -> list[dict[str, Any]]:
        found = careful.client._ask("GET", "dags/ingest_scenes/dagRuns?order_by=-run_after")["dag_runs"]
        return list(found)

    run = careful.eventually(arrived, "the file is not seen")[0]
    assert run["run_type"] == "asset_triggered"
    from pipelines.airflow_client import DagRun

    ingest = DagRun("ingest_scenes", run["dag_run_id"])
    assert careful.finish(ingest)["run"] == "success"
    (called,) = careful.calls("ingest")
    assert called["argv"][called["argv"].index("--source") + 1] == str(incoming)
    build = careful.follow(ingest, "build_dataset")
    careful.finish(build)
    train = careful.follow(build, "train_model")
    approve(careful, train, "Approve")
    states = careful.finish(train)
    assert set(states.values()) == {"success"}, states
    (called,) = careful.calls("promote")
    assert called["argv"][called["argv"].index("--approved-by") + 1] == "admin"


@pytest.mark.parametrize("answer", ["Reject", None])
def test_without_approval_nothing_is_promoted(careful: World, answer: str | None) -> None:
    """A no, or no answer in time."""
    careful.plan()
    run = careful.start_run("train_model", dataset=dataset())
    if answer is not None:
        approve(careful, run, answer)
    states = careful.finish(run)
    assert (states["approve"], states["promote"], states["run"]) == ("success", "skipped", "success")
    assert careful.calls("promote") == []


def test_the_calendar(careful: World) -> None:
    run = careful.eventually(lambda: scheduled(careful), "the calendar makes no run", patience=150)[0]
    careful.eventually(lambda: careful.client.xcom(run, "reason"), "nothing is decided")
    decision = careful.client.xcom(run, "reason")
    assert decision["reason"] == "schedule"
    assert decision["action"] in {"train", "no-op"}
