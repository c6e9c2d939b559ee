"""The table of steps is whole and consistent."""

from __future__ import annotations

import dataclasses

import pytest

from pipelines.steps import BY_VERB, STEPS, Feed, arguments

RESULTS = {
    "simulate": {"source": "file:///sim"},
    "ingest": {"batch": "file:///s/batches/1.json"},
    "train": {"model": "models:/water/2"},
    "chip": {"dataset": "file:///s/datasets/d"},
}


def test_steps_stand_in_the_order_of_the_loop() -> None:
    verbs = [step.verb for step in STEPS]
    assert verbs == ["simulate", "ingest", "validate", "chip", "train", "evaluate", "promote", "deploy", "predict"]


def test_a_step_is_fed_by_earlier_ones_only() -> None:
    for position, step in enumerate(STEPS):
        earlier = {each.verb for each in STEPS[:position]}
        assert {feed.step for feed in step.feeds.values()} <= earlier


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        BY_VERB["train"].verb = "fit"  # type: ignore[misc]
    with pytest.raises(TypeError):
        BY_VERB["fit"] = BY_VERB["train"]  # type: ignore[index]


def test_results_feed_flags() -> None:
    line = arguments(BY_VERB["evaluate"], usecase="water", store="file:///s", results=RESULTS, given={})
    assert line == [
        *("evaluate", "--usecase", "water", "--store", "file:///s"),
        *("--model", "models:/water/2", "--dataset", "file:///s/datasets/d"),
    ]


def test_what_the_caller_gives_goes_before_what_a_result_feeds() -> None:
    line = arguments(
        BY_VERB["ingest"], usecase="water", store="file:///s", results={}, given={"--source": "s3://scenes"}
    )
    assert line[-2:] == ["--source", "s3://scenes"]


def test_settings_that_are_not_given_are_left_out() -> None:
    line = arguments(
        BY_VERB["deploy"], usecase="water", store="file:///s", results={}, given={"--endpoint": "http://127.0.0.1:1"}
    )
    assert line[-2:] == ["--endpoint", "http://127.0.0.1:1"]
    assert "--model" not in line


def test_a_training_goes_on_from_what_a_killed_one_left() -> None:
    line = arguments(BY_VERB["train"], usecase="water", store="file:///s", results=RESULTS, given={})
    assert line[-3:] == ["--dataset", "file:///s/datasets/d", "--resume"]


def test_simulate_has_no_store() -> None:
    line = arguments(BY_VERB["simulate"], usecase="water", store="file:///s", results={}, given={"--out": "/sim"})
    assert line == ["simulate", "--usecase", "water", "--out", "/sim"]


def test_a_flag_that_a_step_does_not_take_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="step chip takes no --colour"):
        arguments(BY_VERB["chip"], usecase="water", store="file:///s", results={}, given={"--colour": "red"})


def test_a_missing_result_is_a_mistake() -> None:
    assert BY_VERB["validate"].feeds["--batch"] == Feed("ingest", "batch")
    with pytest.raises(KeyError, match="ingest"):
        arguments(BY_VERB["validate"], usecase="water", store="file:///s", results={}, given={})
