"""`select-best` ranks by the metric that the use case names, and by what was exported, not by the last epoch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from eo_data.errors import DataRefused, UsageError
from eo_models.cli import main
from eo_models.configuration import gate_section
from eo_models.registry import Registry
from eo_models.selection import select_best

from .conftest import Pair, World, register_threshold


def fail(registry: Registry) -> None:
    """A run with the best figure of all, which does not finish."""
    with registry.run("failed", {}) as run:
        run.log_metrics({"validation_iou": 0.98})
        raise ValueError("on purpose")


def test_finished_runs_are_ranked_by_the_figure_of_what_was_registered(
    world: World, pair: Pair, tmp_path: Path
) -> None:
    registry = Registry("made-up")
    best = register_threshold(world, registry, 0.05, "network")
    # The tracking store shows the last epoch; the version is of the best one.
    registry.reopen(best.run).log_metrics({"validation_iou": 0.01}, step=16)
    with registry.run("trial without a version", {}) as trial:
        trial.log_metrics({"validation_iou": 0.42})
    with registry.run("without the metric", {}) as other:
        other.log_metrics({"loss": 0.9, "test_iou_candidate": 0.99})
    with pytest.raises(ValueError, match="on purpose"):
        fail(registry)
    result = tmp_path / "result.json"
    assert main(["select-best", "--experiment", "made-up", "--result", str(result)]) == 0
    said = json.loads(result.read_text())
    assert (said["metric"], said["run"], said["model"]) == ("validation_iou", best.run, best.uri)
    assert said["value"] == pytest.approx(0.45)
    assert [one["run"] for one in said["ranking"]] == [best.run, trial.id, pair.better.run, pair.poor.run]
    assert said["ranking"][1]["model"] is None


def test_the_metric_is_the_use_cases_and_losses_rank_upwards(make_world: Callable[..., World]) -> None:
    world = make_world(gate={"metric": "validation_loss"})
    registry = Registry("made-up")
    for loss in (0.4, 0.2, 0.3):
        with registry.run(f"loss {loss}", {}) as run:
            run.log_metrics({"validation_loss": loss, "validation_iou": loss})
    ranking = select_best(world.usecase, "made-up")["ranking"]
    assert [one["value"] for one in ranking] == [0.2, 0.3, 0.4]


def test_a_metric_that_no_version_holds_is_that_of_its_run(make_world: Callable[..., World]) -> None:
    world = make_world(gate={"metric": "validation_loss"})
    registry = Registry("made-up")
    version = register_threshold(world, registry, 0.05, "network")
    assert registry.finished_runs()[0].info.run_id == version.run
    with pytest.raises(DataRefused, match="none of 1 finished runs has the metric 'validation_loss'"):
        select_best(world.usecase, "made-up")
    registry.reopen(version.run).log_metrics({"validation_loss": 0.3})
    [one] = select_best(world.usecase, "made-up")["ranking"]
    assert (one["value"], one["model"]) == (0.3, version.uri)


def test_no_run_with_the_metric_is_an_error_that_names_it(
    make_world: Callable[..., World], capfd: pytest.CaptureFixture[str]
) -> None:
    make_world()
    with Registry("made-up").run("one", {}) as run:
        run.log_metrics({"loss": 0.9})
    assert main(["select-best", "--experiment", "made-up"]) == 3
    said = capfd.readouterr().err
    assert "none of 1 finished runs has the metric 'validation_iou'" in said
    assert "gate.metric" in said


def test_an_experiment_that_is_not_there_is_told_and_not_made(world: World) -> None:
    from mlflow import MlflowClient

    with pytest.raises(DataRefused, match="no such experiment"):
        select_best(world.usecase, "made-down")
    assert MlflowClient().get_experiment_by_name("made-down") is None


@pytest.mark.parametrize("metric", ["test_iou", "holdout_iou", "iou"])
def test_choices_are_made_on_validation_alone(metric: str, make_world: Callable[..., World]) -> None:
    world = make_world(gate={"metric": metric})
    with pytest.raises(UsageError, match=r"gate\.metric"):
        gate_section(world.usecase)
