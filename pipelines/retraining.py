"""Whether a reason to train leads to a training now, later, or to none. Pure; standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

Action = Literal["train", "wait", "no-op"]

UNHURRIED: Final = frozenset({"new-data", "drift", "quality"})
"""Reasons that wait for the cool-down; people and the calendar do not."""


@dataclass(frozen=True)
class Training:
    """A training that took place.

    Attributes:
        dataset: URI of what it was trained on.
        commit: The code's version; empty where it was not known.
        time: When it ended.
    """

    dataset: str
    commit: str
    time: datetime


@dataclass(frozen=True)
class Decision:
    """What becomes of a reason.

    Attributes:
        action: Train now, wait, or do nothing.
        reason: `manual`, `schedule`, `new-data`, `drift` or `quality`.
        dataset: URI of the dataset that it is about.
        why: In words, for people.
        until: When to decide again, where the action is to wait.
    """

    action: Action
    reason: str
    dataset: str
    why: str
    until: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """For XCom."""
        return {**asdict(self), "until": None if self.until is None else self.until.isoformat()}


def find_reason(run_type: str, events: Iterable[Mapping[str, Any]]) -> tuple[str, str]:
    """Why a run of `train_model` was made, and in more words.

    Args:
        run_type: Airflow's: `manual`, `scheduled`, `asset_triggered`, ...
        events: `asset` and `extra` of the events that made it, the oldest first.

    Returns:
        The reason; of several events drift and quality go before new data, for they say more.
    """
    if run_type == "scheduled":
        return "schedule", "the calendar says so"
    if run_type != "asset_triggered":
        return "manual", "somebody asked for it"
    found = list(events)
    asked = [event["extra"] for event in found if event["asset"] == "retraining"]
    if asked:
        return str(asked[-1].get("reason", "drift")), str(asked[-1].get("why", "monitoring asks for it"))
    return "new-data", f"{len(found)} event{'s' if len(found) != 1 else ''} of new data"


def decide(
    reason: tuple[str, str],
    dataset: str | None,
    commit: str,
    last: Training | None,
    now: datetime,
    cooldown: timedelta,
    *,
    force: bool = False,
) -> Decision:
    """What becomes of a reason to train.

    Args:
        reason: What `find_reason` found.
        dataset: URI of the newest dataset; None where there is none.
        commit: The code's version now.
        last: The training before; None where there is none.
        now: The time.
        cooldown: Between two trainings that nobody asked for by hand.
        force: Train in any case.
    """
    name, why = reason
    if dataset is None:
        return Decision("no-op", name, "", f"{why}; but there is no dataset yet: run build_dataset")
    if force or last is None:
        return Decision("train", name, dataset, why)
    if (dataset, commit) == (last.dataset, last.commit):
        trained = last.time.isoformat(timespec="seconds")
        return Decision(
            "no-op", name, dataset, f"{why}; but the same dataset and code were trained on at {trained} already"
        )
    until = last.time + cooldown
    if name in UNHURRIED and now < until:
        return Decision("wait", name, dataset, f"{why}; the cool-down ends at {until.isoformat()}", until)
    return Decision("train", name, dataset, why)
