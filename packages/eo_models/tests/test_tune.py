"""Tuning: a space, trials in nested runs, pruning, going on after a kill; validation alone, nothing registered."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from eo_data.errors import DataRefused, TemporaryFailure, UsageError
from eo_data.usecase import UseCase
from eo_models import studies
from eo_models import tune as tune_module
from eo_models.cli import main
from eo_models.configuration import TrainSection, train_section
from eo_models.registry import Registry
from eo_models.search_space import present, tune_section
from eo_models.selection import select_best
from eo_models.training import train
from eo_models.tune import tune

from .conftest import World

SPACE: dict[str, Any] = {
    "learning_rate": {"low": 0.001, "high": 0.05, "log": True},
    "channels": {"low": 3, "high": 6},
    "augmentation.gain": {"low": 0, "high": 0.3},
    "convolutions": {"choices": [[1, 1, 1, 1], [2, 1, 1, 1]]},
}
SMALL: dict[str, Any] = {"epochs": 2, "patience": 2}
SEGFORMER: dict[str, Any] = {"network": "SegFormer", "tiles": {"tile": 96, "halo": 16, "blend": 16}}
Make = Callable[..., World]


@pytest.fixture
def tunable(make_world: Make) -> Make:
    """A maker of worlds with a `tune` section."""

    def make(space: dict[str, Any] | None = None, **section: Any) -> World:
        world = make_world(train=section.pop("train", SMALL), gate=section.pop("gate", None))
        sections = yaml.safe_load(world.usecase_file.read_text())
        sections["tune"] = {"space": SPACE if space is None else space, **section}
        world.usecase_file.write_text(yaml.safe_dump(sections))
        return World(UseCase.load("made-up"), world.usecase_file, world.store, world.dataset, world.database)

    return make


def runs(world: World, parent: str) -> dict[str, Any]:
    """The runs nested below one, by name."""
    from mlflow import MlflowClient

    client = MlflowClient()
    [experiment] = [e.experiment_id for e in client.search_experiments() if e.name == "made-up"]
    found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    return {run.info.run_name: run for run in found}


def spoil(world: World, *splits: str) -> None:
    """Make chips of splits unreadable."""
    for chip in world.dataset.chips(*splits):  # type: ignore[arg-type]
        for kind in ("images", "labels"):
            Path(world.store.raster_path(f"datasets/{world.dataset.digest}/chips/{chip.shard}.{kind}.npy")).write_bytes(
                b"unreadable"
            )


def test_by_command_on_validation_alone_and_the_fragment_trains_what_was_found(
    tunable: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    world = tunable(pruning=None)
    spoil(world, "holdout", "test")
    result = tmp_path / "result.json"
    flags = ["--usecase", "made-up", "--store", world.store.uri, "--dataset", world.dataset.uri, "--trials", "3"]
    assert main(["tune", *flags, "--result", str(result)]) == 0
    said, told = json.loads(result.read_text()), capfd.readouterr()
    assert said["trials"] == {"complete": 3, "pruned": 0, "failed": 0, "lost": 0, "running": 0}
    assert said["storage"] == f"sqlite:///{world.database.parent}/tuning.db"
    assert (said["metric"], said["existing"]) == ("validation_iou", False)
    assert set(said["parameters"]) == set(SPACE)

    nested = runs(world, said["run"])
    assert set(nested) == {"trial 0", "trial 1", "trial 2"}
    assert {run.info.status for run in nested.values()} == {"FINISHED"}
    values = {name: run.data.metrics["validation_iou"] for name, run in nested.items()}
    assert said["value"] == pytest.approx(max(values.values()), abs=1e-6)
    best = next(run for run in nested.values() if run.info.run_id == said["best_run"])
    assert float(best.data.params["learning_rate"]) == said["parameters"]["learning_rate"]
    assert nested["trial 0"].data.params["learning_rate"] == "0.02"  # the section as it stands comes first
    parent = MlflowClient().get_run(said["run"])
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best_validation_iou"] == pytest.approx(said["value"])
    assert Registry("made-up").versions() == []
    assert world.store.list("promotions") == []
    assert select_best(world.usecase, "made-up")["run"] == said["best_run"]

    pasted = yaml.safe_load(told.err[told.err.index("\ntrain:") :])
    assert "nothing is registered" in told.err
    assert pasted["train"] == said["train"]
    section = TrainSection.model_validate(pasted["train"])
    assert (section.learning_rate, section.epochs) == (said["parameters"]["learning_rate"], 2)
    trained = train(
        world.store, world.usecase.with_section("train", pasted["train"]), world.dataset.uri, progress=False
    )
    run = MlflowClient().get_run(trained["run"])
    assert run.data.metrics["validation_iou"] == pytest.approx(said["value"], abs=1e-4)

    assert main(["tune", *flags, "--result", str(result)]) == 0
    assert json.loads(result.read_text()) == {**said, "existing": True}


def test_unreadable_validation_chips_do_stop_it(tunable: Make) -> None:
    """The proof that the test above could fail."""
    world = tunable()
    spoil(world, "validation")
    with pytest.raises(DataRefused, match=r"chip 0 cannot be read"):
        tune(world.store, world.usecase, world.dataset.uri, trials=1)


def test_what_train_refuses_is_refused_before_there_is_a_study(
    tunable: Make, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    world = tunable(space={"learning_rate": {"low": 0.001, "high": 0.05}})
    path = Path(world.store.raster_path(f"datasets/{world.dataset.digest}/manifest.json"))
    manifest = json.loads(path.read_text())
    for chip in manifest["chips"]:
        chip["class_counts"] = [0, 0]
    path.write_text(json.dumps(manifest))
    flags = ["--usecase", "made-up", "--store", world.store.uri, "--dataset", world.dataset.uri, "--trials", "1"]
    assert main(["tune", *flags]) == 3
    assert "every label of the train split is ignored" in capfd.readouterr().err
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not installed
    segformer = world.usecase.with_section("train", {**world.usecase.values("train"), **SEGFORMER})
    with pytest.raises(UsageError, match="needs the extra 'segformer'"):
        tune(world.store, segformer, world.dataset.uri, trials=1)
    assert not (world.database.parent / "tuning.db").exists()


def test_values_of_other_code_go_into_another_study(tunable: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, str]] = []

    def note(place: str, title: str, fingerprint: str, *rest: object, **named: object) -> None:
        opened.append((title, fingerprint))
        raise UsageError("far enough")

    world = tunable()
    monkeypatch.setattr(tune_module, "open_study", note)
    for code in ("a", "a", "b"):
        monkeypatch.setattr(tune_module, "code_identity", lambda code=code: code)
        with pytest.raises(UsageError, match="far enough"):
            tune(world.store, world.usecase, world.dataset.uri)
    assert opened[0] == opened[1]
    assert opened[0][0] != opened[2][0]
    assert opened[0][1] != opened[2][1]


def test_equal_seeds_give_equal_trials_and_another_seed_others(tunable: Make, tmp_path: Path) -> None:
    world = tunable(pruning=None, train={"epochs": 1})
    found = []
    for number in range(2):
        tune(world.store, world.usecase, world.dataset.uri, trials=2, storage=f"sqlite:///{tmp_path}/{number}.db")
        found.append(trials(tmp_path / f"{number}.db"))
    assert found[0] == found[1]
    assert found[0][0]["params"] != found[0][1]["params"]
    other = world.usecase.with_section("tune", {**world.usecase.values("tune"), "seed": 7})
    tune(world.store, other, world.dataset.uri, trials=2, storage=f"sqlite:///{tmp_path}/2.db")
    assert trials(tmp_path / "2.db")[1]["params"] != found[0][1]["params"]


def trials(file: Path) -> list[dict[str, Any]]:
    """Of the only study in a file."""
    import optuna

    study = optuna.load_study(study_name=None, storage=f"sqlite:///{file}")
    return [
        {"state": t.state.name, "params": t.params, "value": t.value, "epochs": len(t.intermediate_values)}
        for t in study.get_trials()
    ]


def test_a_hopeless_trial_is_given_up_by_its_validation_figures(tunable: Make) -> None:
    world = tunable(
        space={"learning_rate": {"choices": [0.02, 1e-9]}},
        pruning={"startup": 1, "warmup": 0},
        train={"epochs": 4, "patience": 4},
        seed=1,
    )
    said = tune(world.store, world.usecase, world.dataset.uri, trials=6)
    assert said["parameters"] == {"learning_rate": 0.02}
    assert said["trials"]["pruned"] >= 1
    assert said["trials"]["complete"] + said["trials"]["pruned"] == 6
    recorded = trials(world.database.parent / "tuning.db")
    for trial, run in zip(recorded, (runs(world, said["run"])[f"trial {k}"] for k in range(6)), strict=True):
        assert (trial["state"] == "PRUNED") == (run.info.status == "KILLED")
        if trial["state"] == "PRUNED":
            assert trial["epochs"] < 4
    assert len(select_best(world.usecase, "made-up")["ranking"]) == said["trials"]["complete"]


def test_settings_that_do_not_go_together_fail_their_trial_before_training(tunable: Make) -> None:
    world = tunable(space={"convolutions": {"choices": [[1, 1, 1, 1], [4, 4, 4, 4]]}}, train={"epochs": 1}, seed=2)
    said = tune(world.store, world.usecase, world.dataset.uri, trials=4)
    assert said["parameters"] == {"convolutions": [1, 1, 1, 1]}
    assert said["trials"]["failed"] >= 1
    assert len(runs(world, said["run"])) == said["trials"]["complete"]
    hopeless = world.usecase.with_section("tune", {"space": {"convolutions": {"choices": [[4, 4, 4, 4]]}}})
    with pytest.raises(UsageError, match=r"no trial gave a value .*pixels far, 'tiles\.halo'"):
        tune(world.store, hopeless, world.dataset.uri, trials=2)


def test_a_training_that_diverges_fails_its_trial_alone(tunable: Make) -> None:
    space = {"learning_rate": {"choices": [0.02, 1e30]}}
    world = tunable(space=space, train={"epochs": 1}, pruning=None, seed=1)
    said = tune(world.store, world.usecase, world.dataset.uri, trials=4)
    assert said["parameters"] == {"learning_rate": 0.02}
    ended = [(t["state"], t["params"]["learning_rate"]) for t in trials(world.database.parent / "tuning.db")]
    assert set(ended) == {("COMPLETE", 0.02), ("FAIL", 1e30)}
    assert said["trials"]["failed"] == ended.count(("FAIL", 1e30))
    assert {run.info.status for run in runs(world, said["run"]).values()} == {"FINISHED", "FAILED"}
    hopeless = world.usecase.with_section("tune", {"space": {"learning_rate": {"choices": [1e30]}}})
    with pytest.raises(UsageError, match=r"no trial gave a value .*loss is nan in step \d+ of epoch 1\. Lower"):
        tune(world.store, hopeless, world.dataset.uri, trials=1)


KILLED = """
import sys
from eo_models import trials
from eo_models.cli import main

fit_members = trials.fit_members
calls = []

def stand_still(*arguments, **named):  # the second trial never ends
    calls.append(1)
    if len(calls) == 2:
        sys.stderr.write("second trial\\n")
        sys.stderr.flush()
        import time
        time.sleep(600)
    return fit_members(*arguments, **named)

trials.fit_members = stand_still
sys.exit(main(sys.argv[1:]))
"""


def test_killed_it_goes_on_and_only_the_running_trial_is_lost(
    tunable: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    world = tunable(train={"epochs": 1}, pruning=None)
    flags = ["--usecase", "made-up", "--store", world.store.uri, "--dataset", world.dataset.uri, "--trials", "3"]
    command = [sys.executable, "-c", KILLED, "tune", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        assert process.stderr is not None
        assert any("second trial" in line for line in process.stderr)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    file = world.database.parent / "tuning.db"
    before = trials(file)
    assert [trial["state"] for trial in before] == ["COMPLETE", "RUNNING"]

    with sqlite3.connect(file) as connection:  # an hour later
        changed = connection.execute("update trial_heartbeats set heartbeat = datetime(heartbeat, '-1 hour')").rowcount
    assert changed == 2
    said = tune(world.store, world.usecase, world.dataset.uri, trials=3)
    assert said["trials"] == {"complete": 3, "pruned": 0, "failed": 0, "lost": 1, "running": 0}
    after = trials(file)
    assert after[0] == before[0]
    assert [trial["state"] for trial in after] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert len({json.dumps(trial["params"]) for trial in after}) == 4  # what was drawn is not drawn again
    statuses = {name: run.info.status for name, run in runs(world, said["run"]).items()}
    assert statuses == {"trial 0": "FINISHED", "trial 1": "KILLED", "trial 2": "FINISHED", "trial 3": "FINISHED"}
    assert MlflowClient().get_run(said["run"]).info.status == "FINISHED"


def test_right_after_a_kill_the_lost_trial_still_counts_as_running(tunable: Make, empty_database: Path) -> None:
    world = tunable(train={"epochs": 1}, pruning=None)
    url = studies.storage_url(world.store, None)
    tune(world.store, world.usecase, world.dataset.uri, trials=1)
    import optuna

    optuna.load_study(study_name=None, storage=url).ask()
    said = tune(world.store, world.usecase, world.dataset.uri, trials=2)
    assert said["trials"] == {"complete": 2, "pruned": 0, "failed": 0, "lost": 0, "running": 1}

    shutil.copy(empty_database, world.database)  # the tracking store is set up anew, the study is still there
    again = tune(world.store, world.usecase, world.dataset.uri, trials=3)
    assert again["trials"]["complete"] == 3
    assert again["run"] != said["run"]
    assert set(runs(world, again["run"])) == {"trial 3"}


def test_no_further_trial_begins_when_the_time_is_up(tunable: Make) -> None:
    world = tunable(train={"epochs": 1})
    started = time.monotonic()
    said = tune(world.store, world.usecase, world.dataset.uri, trials=500, timeout=3)
    assert 1 <= said["trials"]["complete"] < 100
    assert time.monotonic() - started < 60


def test_a_loss_is_minimised(tunable: Make) -> None:
    world = tunable(
        space={"learning_rate": {"choices": [0.02, 1e-9]}}, gate={"metric": "validation_loss"}, pruning=None, seed=1
    )
    said = tune(world.store, world.usecase, world.dataset.uri, trials=4)
    losses = {trial["params"]["learning_rate"]: trial["value"] for trial in trials(world.database.parent / "tuning.db")}
    assert set(losses) == {0.02, 1e-9}
    assert said["value"] == min(losses.values())
    assert said["parameters"]["learning_rate"] == 0.02


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({}, "no search space is declared"),
        ({"space": {"speed": {"choices": [1]}}}, "tune.space.speed: train has no such setting"),
        ({"space": {"augmentation.pasta": {"choices": [1]}}}, "augmentation.pasta: train has no such setting"),
        ({"space": {"dropout": {"low": 0, "high": 1.5}}}, "tune.space.dropout: 1.5: Input should be less than 1"),
        ({"space": {"network": {"low": 0, "high": 1}}}, "this setting is no number: give choices"),
        ({"space": {"network": {"choices": ["U-Net", "W-Net"]}}}, 'tune.space.network: "W-Net"'),
        ({"space": {"channels": {"low": 2.5, "high": 8}}}, "a whole number, the ends are not"),
        ({"space": {"dropout": {"low": 0.5, "high": 0.1}}}, "low 0.5 is not below high 0.1"),
        ({"space": {"dropout": {"low": 0, "high": 0.1, "log": True}}}, "low is above 0 where log is true"),
        ({"space": {"dropout": {"choices": []}}}, "tune.space.dropout"),
        ({"space": SPACE, "trails": 3}, "tune.trails"),
    ],
)
def test_a_space_that_cannot_be_is_told_by_its_path_before_anything_starts(
    world: World, section: dict[str, Any], told: str
) -> None:
    usecase = world.usecase.with_section("tune", section)
    with pytest.raises(UsageError) as refusal:
        tune(world.store, usecase, world.dataset.uri)
    assert told in str(refusal.value)
    assert not (world.database.parent / "tuning.db").exists()


def test_flags_that_cannot_be_and_a_study_of_something_else(
    tunable: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    world = tunable(train={"epochs": 1})
    flags = ["tune", "--usecase", "made-up", "--store", world.store.uri, "--dataset"]
    junk = tmp_path / "junk.db"
    junk.write_bytes(b"this is no database at all, and longer than a header" * 40)
    for more, told in (
        (["--trials", "0"], "--trials: 0 is no number above 0"),
        (["--timeout", "-1"], "--timeout: -1 is no number above 0"),
        (["--storage", "nonsense"], "--storage: this names no database"),
        (["--storage", "postgresql+asyncnothing://x/y"], "--storage: this names no database"),
        (["--storage", f"sqlite:///{junk}"], "cannot be opened (file is not a database)"),
        (["--storage", "sqlite:////proc/none/tuning.db"], "cannot be opened"),
    ):
        assert main([*flags, world.dataset.uri, *more]) == 2, more
        said = capfd.readouterr().err
        assert told in said
        assert "Traceback" not in said
    assert main([*flags, "datasets/none"]) == 3
    assert "there is no such object" in capfd.readouterr().err
    with sqlite3.connect(world.database) as connection:
        assert connection.execute("select count(*) from runs").fetchone() == (0,)

    tune(world.store, world.usecase, world.dataset.uri, trials=1, name="mine")
    changed = world.usecase.with_section("train", {**world.usecase.values("train"), "epochs": 2})
    with pytest.raises(UsageError, match="the study 'mine' is of another dataset, train section"):
        tune(world.store, changed, world.dataset.uri, trials=1, name="mine")


def test_without_optuna_the_extra_is_named(tunable: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    world = tunable()
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r"Install eo-models\[tuning\]"):
        tune(world.store, world.usecase, world.dataset.uri)


def test_the_shipped_space_holds_the_shipped_section() -> None:
    water = UseCase.load(str(Path(__file__).parents[3] / "usecases" / "water"))
    now = present(tune_section(water), train_section(water))
    assert now is not None
    assert set(now) == {"learning_rate", "channels", "class_balance", "augmentation.paste"}
    assert now["channels"] == 8


def test_where_the_study_is_kept(world: World, monkeypatch: pytest.MonkeyPatch, unused_port: int) -> None:
    assert studies.storage_url(world.store, "postgresql://u:secret@h/d") == "postgresql://u:secret@h/d"
    assert "secret" not in studies.shown("postgresql://u:secret@h/d")
    assert studies.storage_url(world.store, None) == f"sqlite:///{world.database.parent}/tuning.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{unused_port}")
    beside = Path(world.store.raster_path("x")).parent.parent
    assert studies.storage_url(world.store, None) == f"sqlite:///{beside}/tuning.db"


def test_a_registry_that_does_not_answer_is_temporary(
    tunable: Make, monkeypatch: pytest.MonkeyPatch, unused_port: int
) -> None:
    world = tunable()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{unused_port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TemporaryFailure, match="did not answer"):
        tune(world.store, world.usecase, world.dataset.uri, trials=1)
    assert not (world.database.parent / "tuning.db").exists()
