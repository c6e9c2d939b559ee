"""What becomes of a reason to train, as a pure function."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipelines.retraining import Training, decide, find_reason

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
LAST = Training("file:///s/datasets/one", "c0ffee", NOW - timedelta(hours=1))


def event(asset: str, **extra: Any) -> dict[str, Any]:
    return {"asset": asset, "extra": extra}


@pytest.mark.parametrize(
    ("run_type", "events", "reason"),
    [
        ("manual", [], "manual"),
        ("operator_triggered", [], "manual"),
        ("scheduled", [], "schedule"),
        ("asset_triggered", [event("dataset")], "new-data"),
        ("asset_triggered", [event("retraining", reason="drift", why="B03")], "drift"),
        ("asset_triggered", [event("retraining", reason="quality", why="IoU"), event("dataset")], "quality"),
    ],
)
def test_reasons(run_type: str, events: list[dict[str, Any]], reason: str) -> None:
    found, why = find_reason(run_type, events)
    assert found == reason
    assert why


def test_the_first_training_needs_no_patience() -> None:
    assert decide(("new-data", "x"), "file:///d", "c0ffee", None, NOW, DAY).action == "train"


def test_without_a_dataset_there_is_nothing_to_train_on() -> None:
    decision = decide(("drift", "x"), None, "c0ffee", None, NOW, DAY)
    assert (decision.action, decision.dataset) == ("no-op", "")
    assert "build_dataset" in decision.why


@pytest.mark.parametrize("reason", ["manual", "schedule", "new-data", "drift", "quality"])
def test_the_same_dataset_and_code_are_not_trained_on_twice(reason: str) -> None:
    decision = decide((reason, "x"), LAST.dataset, LAST.commit, LAST, NOW + 3 * DAY, DAY)
    assert decision.action == "no-op"
    assert "already" in decision.why
    assert decide((reason, "x"), LAST.dataset, LAST.commit, LAST, NOW, DAY, force=True).action == "train"


@pytest.mark.parametrize(
    ("reason", "action"),
    [("manual", "train"), ("schedule", "train"), ("new-data", "wait"), ("drift", "wait"), ("quality", "wait")],
)
def test_the_cool_down_is_for_what_happens_by_itself(reason: str, action: str) -> None:
    decision = decide((reason, "x"), "file:///s/datasets/two", LAST.commit, LAST, NOW, DAY)
    assert decision.action == action
    assert decision.until == (LAST.time + DAY if action == "wait" else None)
    later = decide((reason, "x"), "file:///s/datasets/two", LAST.commit, LAST, LAST.time + DAY, DAY)
    assert later.action == "train"


def test_other_code_is_a_reason() -> None:
    assert decide(("schedule", "x"), LAST.dataset, "decaf", LAST, NOW, DAY).action == "train"
