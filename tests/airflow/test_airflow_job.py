"""The main job as runs of DAGs: its report, its failures in a step's own words, and that it can be repeated."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from pipelines.airflow_client import AirflowClient
from pipelines.airflow_job import AirflowJob
from pipelines.main_job import Job
from pipelines.report import table
from pipelines.runner import StepFailed, StepRefusedData

if TYPE_CHECKING:
    from tests.airflow.conftest import World


def job(world: World, **changes: Any) -> tuple[AirflowJob, list[str]]:
    said: list[str] = []
    what = Job(
        **{
            "usecase": "water",
            "store": world.told["TERRALOOP_STORE"],
            "scenes": None,
            "simulated": "/simulated",
            "endpoint": "http://127.0.0.1:1",
            **changes,
        }
    )
    return AirflowJob(what, world.client, announce=said.append, watch=lambda: None), said


def test_the_whole_job_and_again(world: World) -> None:
    name = f"file:///s/datasets/{time.time_ns()}"
    world.plan(chip={"result": {"dataset": name}})
    first, said = job(world)
    found = first.run()
    assert found["scenes"] == {"accepted": 2, "refused": {}}
    assert found["dataset"]["uri"] == name
    assert (found["champion"], found["gate"]["verdict"]) == ("models:/water/2", "promoted")
    assert found["endpoint"] == "http://127.0.0.1:1/invocations"
    assert found["mask"]["scene"] == "a"
    assert list(found["seconds"]) == [
        *("simulate", "ingest", "validate", "chip", "train", "evaluate", "promote", "deploy", "predict", "total"),
    ]
    assert set(found["runs"]) == {"ingest_scenes", "build_dataset", "train_model", "deploy_model", "predict_scenes"}
    assert "IoU on test" in table({"project": "p", "body": "embedded", **found})
    assert any(line.startswith("train_model / train success") for line in said)
    assert len(world.calls("deploy")) == 1
    again, said = job(world)  # nothing is new: the training is asked for by hand, and finds what is there
    assert again.run()["dataset"]["uri"] == name
    assert any("it is asked for by hand" in line for line in said)


def test_a_refused_candidate_is_an_honest_end(world: World) -> None:
    refused = {"gate": {"verdict": "refused", "reasons": ["too few"]}, "champion": "models:/water/1", "entry": None}
    world.plan(
        chip={"result": {"dataset": f"file:///s/datasets/{time.time_ns()}"}}, promote={"exit": 4, "result": refused}
    )
    work, _ = job(world, scenes="file:///scenes")
    found = work.run()
    assert (found["gate"]["verdict"], found["champion"]) == ("refused", "models:/water/1")
    assert len(world.calls("deploy")) == 1  # the endpoint is asked all the same whether it answers rightly
    assert world.calls("simulate") == []


def test_the_candidate_can_be_served_whatever_the_gate_said(world: World) -> None:
    world.plan(chip={"result": {"dataset": f"file:///s/datasets/{time.time_ns()}"}})
    work, _ = job(world, serve="candidate")
    work.run()
    for verb in ("deploy", "predict"):
        argv = world.calls(verb)[-1]["argv"]
        assert argv[argv.index("--model") + 1] == "models:/water/2"


def test_a_failed_step_is_told_in_its_own_words(world: World) -> None:
    world.plan(validate={"exit": 3, "says": "wrong bands in every scene"})
    work, _ = job(world, scenes="file:///scenes")
    with pytest.raises(StepRefusedData, match="wrong bands in every scene") as failure:
        work.run()
    assert (failure.value.verb, failure.value.exit_code) == ("validate", 3)


def test_an_airflow_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.airflow_job.PATIENCE", 1.0)
    what = Job("water", "file:///s", None, "/simulated", "http://127.0.0.1:1")
    work = AirflowJob(what, AirflowClient("http://127.0.0.1:9", "admin", "x"), lambda line: None, lambda: None)
    with pytest.raises(StepFailed, match=r"Airflow does not answer at http://127\.0\.0\.1:9"):
        work.run()


@pytest.mark.parametrize("dag", ["template_dag", "template_dag_factory"])
def test_templates_run(world: World, dag: str) -> None:
    world.plan()
    states = world.finish(world.start_run(dag, source="file:///scenes"))
    assert set(states.values()) == {"success"}
    assert "file:///scenes#batch" in world.calls("validate")[0]["argv"]
