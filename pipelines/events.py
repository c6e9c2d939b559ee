"""What the events that made a run say. Used within tasks."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset


def triggering(context: Any) -> list[dict[str, Any]]:
    """`asset`, `extra` and `time` of the events that made this run, the oldest first; none for a run by hand."""
    found = [
        {"asset": event.asset.name, "extra": dict(event.extra or {}), "time": event.timestamp}
        for events in (context.get("triggering_asset_events") or {}).values()
        for event in events
    ]
    return sorted(found, key=lambda event: event["time"])


def usecase_of(params: Any, events: Any) -> str:
    """The use case of a run: the one that its events are about, else its parameter.

    Args:
        params: The run's parameters.
        events: The context's `triggering_asset_events`.
    """
    named = [
        str(event.extra["usecase"])
        for found in (events or {}).values()
        for event in found
        if (event.extra or {}).get("usecase")
    ]
    return named[-1] if named else str(params["usecase"])


def newest(context: Any, asset: Asset, **wanted: Any) -> dict[str, Any] | None:
    """The newest event of one of the task's inlets whose extra holds these values; None where there is none.

    Returns:
        Its `extra` and `time`.
    """
    for event in context["inlet_events"][asset].ascending(False).limit(100):
        extra = dict(event.extra or {})
        if all(extra.get(key) == value for key, value in wanted.items()):
            return {"extra": extra, "time": event.timestamp}
    return None
