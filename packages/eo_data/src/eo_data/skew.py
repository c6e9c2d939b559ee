"""Value skew: accepted scenes whose quantiles are unlike those of the training scenes. Reported, never refused.

`monitoring/skew/<usecase>/<suite>/<batch>-<reference>.json` holds every scene's greatest distance, for the trigger
that watches for drift.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from eo_data.digests import SHORT
from eo_data.references import Group, Reference, group_names, newest_reference, reference_key
from eo_data.store import Store
from eo_data.usecase import UseCase

log = logging.getLogger(__name__)

LEAST_SCENES: Final = 8
"""A group of fewer scenes tells no spread."""

LEAST_SPREAD: Final = 100.0
"""Reflectance x 10000: scenes that differ by less than 0.01 are alike however much the training scenes agree."""


def report_skew(
    store: Store, usecase: UseCase, suite: str, batch: str, rows: Sequence[dict[str, Any]]
) -> tuple[dict[str, str] | None, str | None]:
    """Compare accepted scenes with the newest reference and write the report.

    Args:
        store: Where references lie and the report goes.
        usecase: Whose reference, and whose `expectations.max_skew`.
        suite: The suite by which they were accepted.
        batch: What names them together.
        rows: Their feature rows.

    Returns:
        What is unlike, by id, and the report's URI; None for both where there is nothing to compare with.
    """
    reference = newest_reference(store, usecase)
    if reference is None or not any(group.n >= LEAST_SCENES for group in reference.groups.values()):
        log.info("validate: no reference of at least %d training scenes yet: no value skew is looked for", LEAST_SCENES)
        return None, None
    most = usecase.data.expectations.max_skew
    scenes = {str(row["scene_id"]): compare(row, reference) for row in rows}
    skew = {
        scene_id: f"{found['column']} is {found['value']:g}, {found['distance']:.1f} spreads from the "
        f"{found['median']:g} of training scenes ({found['group']}, n {found['n']})"
        for scene_id, found in scenes.items()
        if found is not None and found["distance"] > most
    }
    key = f"monitoring/skew/{usecase.name}/{suite}/{batch}-{reference.dataset[:SHORT]}-{most:g}.json"
    store.put_json_new(
        key,
        {
            "usecase": usecase.name,
            "suite": suite,
            "batch": batch,
            "reference": store.resolve(reference_key(usecase, reference.dataset)),
            "created": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "max_skew": most,
            "skewed": sorted(skew),
            "scenes": scenes,
        },
    )
    for scene_id, said in skew.items():
        log.warning("unlike the training scenes: %s: %s", scene_id, said)
    return skew, store.resolve(key)


def compare(row: dict[str, Any], reference: Reference) -> dict[str, Any] | None:
    """The quantile that lies farthest from the scene's group, in robust standard deviations.

    Returns:
        `group`, its `n`, `column`, `value`, `median` and `distance`; None where no group is great enough or the row
        has no quantiles.
    """
    name = next((n for n in group_names(row) if n in reference.groups and _tells(reference.groups[n])), None)
    if name is None:
        return None
    group = reference.groups[name]
    distances = {
        column: abs(row[column] - known.median) / max(known.spread, LEAST_SPREAD)
        for column, known in group.quantiles.items()
        if row.get(column) is not None
    }
    if not distances:
        return None
    column = max(distances, key=lambda c: (distances[c], c))
    return {
        "group": name,
        "n": group.n,
        "column": column,
        "value": row[column],
        "median": group.quantiles[column].median,
        "distance": round(distances[column], 3),
    }


def _tells(group: Group) -> bool:
    return group.n >= LEAST_SCENES
