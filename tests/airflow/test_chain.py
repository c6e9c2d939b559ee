"""From scenes to a deployed model under a real scheduler: what follows from what, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from pipelines.airflow_client import AirflowRefused

if TYPE_CHECKING:
    from tests.airflow.conftest import World


def fresh(name: str) -> dict[str, Any]:
    """A plan under which `chip` makes a dataset that was never seen."""
    return {"chip": {"result": {"dataset": f"file:///s/datasets/{name}-{time.time_ns()}"}}}


def test_every_dag_is_known_and_whole(world: World) -> None:
    assert world.client.import_errors() == {}
    for dag in ("ingest_scenes", "build_dataset", "train_model", "deploy_model", "predict_scenes", "monitor_model"):
        assert world.client.known(dag)


def test_scenes_lead_to_a_deployed_champion(world: World) -> None:
    world.plan(**fresh("chain"))
    ingest = world.start_run("ingest_scenes", source="file:///scenes", labels="file:///labels")
    assert world.finish(ingest) == {
        "source": "success",
        "simulated": "success",
        "simulate": "skipped",
        "ingest": "success",
        "validate": "success",
        "report_quarantined": "skipped",
        "run": "success",
    }
    (called,) = world.calls("ingest")
    assert called["argv"][1:9] == [
        *("--usecase", "water", "--store", world.told["TERRALOOP_STORE"]),
        *("--source", "file:///scenes", "--labels", "file:///labels"),
    ]
    dataset = world.follow(ingest, "build_dataset")
    assert world.finish(dataset)["chip"] == "success"
    assert "file:///scenes#batch#verdicts" in world.calls("chip")[0]["argv"]
    train = world.follow(dataset, "train_model")
    states = world.finish(train)
    assert states == dict.fromkeys(("reason", "train", "evaluate", "promote", "announce", "run"), "success")
    assert world.client.xcom(train, "reason")["reason"] == "new-data"
    deploy = world.follow(train, "deploy_model")
    assert world.finish(deploy) == {"deploy": "success", "run": "success"}
    (called,) = world.calls("deploy")
    assert "--endpoint" in called["argv"]
    assert "--model" not in called["argv"]  # the empty parameter is left to the command


def test_a_chain_keeps_to_its_use_case(world: World) -> None:
    """Another one than the deployment's, all along; and datasets of the two are not mistaken for each other."""
    world.plan(**fresh("another"))
    ingest = world.start_run("ingest_scenes", source="file:///scenes", usecase="water-hls")
    world.finish(ingest)
    dataset = world.follow(ingest, "build_dataset")
    world.finish(dataset)
    train = world.follow(dataset, "train_model")
    assert world.finish(train)["run"] == "success"
    world.finish(world.follow(train, "deploy_model"))
    for verb in ("ingest", "validate", "chip", "train", "evaluate", "promote", "deploy"):
        (called,) = world.calls(verb)
        assert called["argv"][called["argv"].index("--usecase") + 1] == "water-hls", verb
    other = world.start_run("train_model")  # of `water`: its newest dataset is another
    world.finish(other)
    assert world.client.xcom(other, "reason")["dataset"] != world.client.xcom(dataset, "chip")["dataset"]


def test_results_keep_their_types(world: World) -> None:
    """Numbers, nulls, quotes and letters of any kind, and a warning printed after the result."""
    strange = {
        "number": 3,
        "real": 0.5,
        "nothing": None,
        "yes": True,
        "text": 'it\'s "quoted" {{ 7 }} ü 水',
        "list": [1, None],
    }
    world.plan(predict={"result": strange, "late": "Exception ignored in: <function>"})
    run = world.start_run("predict_scenes", scenes=["a", "b c'\""])
    states = world.finish(run)
    assert (states["predict[0]"], states["predict[1]"]) == ("success", "success")
    assert sorted(call["argv"][-3] for call in world.calls("predict")) == ["a", "b c'\""]
    for index in (0, 1):
        found = world.client.xcom(run, "predict", index)
        assert {key: found[key] for key in strange} == strange
        assert json.dumps(found["number"]) == "3"


def test_a_step_says_what_it_says_in_the_tasks_log(world: World) -> None:
    world.plan(deploy={"says": "forty-two"})
    run = world.start_run("deploy_model")
    assert world.finish(run)["deploy"] == "success"
    lines = world.log(run, "deploy").splitlines()
    assert "deploy: 100%" in lines  # of a line that is written over what stands in the end
    assert "deploy: 50%" not in lines
    assert "deploy says forty-two" in lines


def test_a_step_sees_its_task_and_none_of_airflows_secrets(world: World) -> None:
    world.plan()
    run = world.start_run("deploy_model", model="models:/water/7")
    world.finish(run)
    (called,) = world.calls("deploy")
    variables = called["variables"]
    assert variables["AIRFLOW_CTX_DAG_ID"] == "deploy_model"
    assert variables["AIRFLOW_CTX_DAG_RUN_ID"] == run.run
    assert variables["AIRFLOW__API__BASE_URL"] == world.client.url
    left = {key for key in variables if key.startswith(("AIRFLOW__", "_AIRFLOW", "AIRFLOW_HOME"))}
    assert left == {"AIRFLOW__API__BASE_URL"}
    assert called["argv"][called["argv"].index("--model") + 1] == "models:/water/7"


@pytest.mark.parametrize(
    ("code", "words"), [(2, "was called wrongly"), (3, "refused the data"), (1, "failed unexpectedly")]
)
def test_what_does_not_help_to_try_again_is_tried_once(world: World, code: int, words: str) -> None:
    world.plan(deploy={"exit": code, "says": "this very thing"})
    run = world.start_run("deploy_model")
    assert world.finish(run) == {"deploy": "failed", "run": "failed"}
    assert len(world.calls("deploy")) == 1
    log = world.log(run, "deploy")
    assert words in log
    assert f"(exit code {code}): deploy: error: this very thing" in log


def test_what_is_out_of_reach_is_tried_again(world: World) -> None:
    world.plan(deploy={"exit": 75, "times": 1})
    run = world.start_run("deploy_model")
    assert world.finish(run) == {"deploy": "success", "run": "success"}
    assert len(world.calls("deploy")) == 2


def test_a_refusal_by_the_gate_ends_a_green_run(world: World) -> None:
    refused = {"gate": {"verdict": "refused", "reasons": ["too few cells"]}, "entry": None}
    world.plan(**fresh("refused"), promote={"exit": 4, "says": "too few cells", "result": refused})
    run = world.start_run("train_model", dataset=f"file:///d/{time.time_ns()}")
    states = world.finish(run)
    assert (states["promote"], states["announce"], states["run"]) == ("skipped", "skipped", "success")
    assert world.client.xcom(run, "promote")["gate"] == refused["gate"]
    assert "promote refused the candidate: too few cells" in world.log(run, "promote")
    time.sleep(3)
    assert world.client.caused(run, "deploy_model") is None


def test_a_champion_that_stays_is_not_deployed_again(world: World) -> None:
    world.plan(promote={"result": {"gate": {"verdict": "no-op", "reasons": ["judged before"]}, "entry": None}})
    run = world.start_run("train_model", dataset=f"file:///d/{time.time_ns()}")
    states = world.finish(run)
    assert (states["promote"], states["announce"], states["run"]) == ("success", "skipped", "success")
    assert "the champion stays: judged before" in world.log(run, "announce")


def test_scenes_that_are_refused_are_named_and_the_others_go_on(world: World) -> None:
    quarantined = {f"s{n}": f"reason {n}" for n in range(3)}
    accepted = [f"s{n}" for n in range(3, 10)]
    world.plan(**fresh("quarantine"), validate={"result": {"accepted": accepted, "quarantined": quarantined}})
    run = world.start_run("ingest_scenes", source="file:///scenes")
    states = world.finish(run)
    assert (states["report_quarantined"], states["run"]) == ("success", "success")
    assert world.client.xcom(run, "report_quarantined") == quarantined
    assert "quarantined: s2: reason 2" in world.log(run, "report_quarantined")
    dataset = world.follow(run, "build_dataset")
    assert world.finish(dataset)["run"] == "success"
    world.finish(world.follow(dataset, "train_model"))
    predict = world.start_run("predict_scenes")  # of the newest batch
    states = world.finish(predict)
    assert sum(state == "success" for task, state in states.items() if task.startswith("predict[")) == 7


@pytest.mark.parametrize(
    ("dag", "conf", "words"),
    [
        ("ingest_scenes", {"source": "nonsense"}, "Invalid input for param source"),
        ("ingest_scenes", {"usecase": "No Such Name"}, "Invalid input for param usecase"),
        ("train_model", {"force": "maybe"}, "Invalid input for param force"),
        ("deploy_model", {"model": "water/3"}, "Invalid input for param model"),
        ("predict_scenes", {"scenes": "a"}, "Invalid input for param scenes"),
    ],
)
def test_the_form_refuses_what_cannot_be_meant(world: World, dag: str, conf: dict[str, Any], words: str) -> None:
    with pytest.raises(AirflowRefused, match=words):
        world.start_run(dag, **conf)


def test_a_killed_scheduler(world: World) -> None:
    """The run is whole after a restart, and each step has had one effect."""
    world.plan(train={"sleep": 3})
    run = world.start_run("train_model", dataset=f"file:///d/{time.time_ns()}")
    world.eventually(lambda: world.calls("train"), "train is not called")
    world.kill("airflow-scheduler")
    (first,) = world.calls("train")
    world.eventually(lambda: not _alive(first["pid"]), "the step does not end")
    world.start("airflow-scheduler")
    world.eventually(lambda: world.client.state(run) == "success", "the run does not end", patience=300)
    assert len(world.calls("train")) == 2  # nobody was there to hear the first one's result: it is asked for again
    assert [len(world.calls(verb)) for verb in ("evaluate", "promote")] == [1, 1]


def test_a_killed_step_is_tried_again(world: World) -> None:
    world.plan(train={"sleep": 4})
    run = world.start_run("train_model", dataset=f"file:///d/{time.time_ns()}")
    (first,) = world.eventually(lambda: world.calls("train"), "train is not called")
    os.kill(first["pid"], signal.SIGKILL)
    world.eventually(lambda: world.client.state(run) == "success", "the run does not end")
    assert len(world.calls("train")) == 2
    assert "was ended by signal 9" in world.log(run, "train", 1)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
