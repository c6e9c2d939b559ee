"""What the training scenes of a dataset look like: the reference that new scenes are compared with.

`references/<usecase>/<dataset digest>.json`, written by `chip`, never edited.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from eo_data.digests import json_digest
from eo_data.store import Store
from eo_data.usecase import DataSection, UseCase

COMPARED: Final = ("q02", "q50", "q98")
ALL: Final = "all"

_MIDDLE: Final = (0.05, 0.95)
_TO_SIGMA: Final = 1 / 3.29
"""A normal distribution's standard deviation, over the range of its middle 90 %."""


class Spread(BaseModel):
    """Where one quantile of one band lies among the scenes of a group, reflectance x 10000.

    Attributes:
        median: Its median.
        spread: The range of its middle 90 % over 3.29: what a standard deviation would be without outliers. Scenes
            have long tails (cloud, snow, sun glint), which a median absolute deviation does not see.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    median: float
    spread: float


class Group(BaseModel):
    """The scenes of one platform and month, of one platform, or all: how many, and `q02_<band>` and so on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    quantiles: dict[str, Spread]


class Reference(BaseModel):
    """`references/<usecase>/<dataset digest>.json`.

    Attributes:
        dataset: Digest of the dataset whose training scenes these are.
        reads: Digest of bands and radiometry: scenes that are read otherwise cannot be compared.
        groups: `all`, `<platform>` and `<platform>/<month>`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    usecase: str
    dataset: str
    reads: str
    created: str
    groups: dict[str, Group]


def write_reference(store: Store, usecase: UseCase, dataset_digest: str, rows: Sequence[dict[str, Any]]) -> str:
    """Write a dataset's reference unless it is there.

    Args:
        store: Where to.
        usecase: The dataset's.
        dataset_digest: The dataset's digest.
        rows: Feature rows (`Verdict.features`) of the scenes with at least one chip in the training split.

    Returns:
        Its URI.
    """
    key = reference_key(usecase, dataset_digest)
    if not store.exists(key):
        reference = Reference(
            usecase=usecase.name,
            dataset=dataset_digest,
            reads=reads_digest(usecase.data),
            created=datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            groups=make_groups(rows, quantile_columns(usecase.data)),
        )
        store.put_json_new(key, reference.model_dump(mode="json"))
    return store.resolve(key)


def newest_reference(store: Store, usecase: UseCase) -> Reference | None:
    """The reference written last for scenes that are read as the use case reads them now; None without one."""
    found = [store.get_record(key, Reference) for key in store.list(f"references/{usecase.name}")]
    same = [reference for reference in found if reference.reads == reads_digest(usecase.data)]
    return max(same, key=lambda reference: (reference.created, reference.dataset), default=None)


def reference_key(usecase: UseCase, dataset_digest: str) -> str:
    """Where a dataset's reference lies."""
    return f"references/{usecase.name}/{dataset_digest}.json"


def reads_digest(data: DataSection) -> str:
    """The digest of what quantiles depend on: input bands and radiometry."""
    return json_digest(
        {"bands": [band.name for band in data.input_bands], "reflectance": data.reflectance.model_dump(mode="json")}
    )


def quantile_columns(data: DataSection) -> list[str]:
    """The columns of feature rows that are compared."""
    return [f"{quantile}_{band.name}" for band in data.input_bands for quantile in COMPARED]


def group_names(row: dict[str, Any]) -> list[str]:
    """The groups of a scene, the most specific first."""
    platform, month = row.get("platform"), row.get("month")
    narrow = [] if platform is None else [platform] if month is None else [f"{platform}/{month:02d}", platform]
    return [*narrow, ALL]


def make_groups(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> dict[str, Group]:
    """Every group of the rows; rows without quantiles have no part in any."""
    members: dict[str, list[list[float]]] = {}
    for row in rows:
        values = [row.get(column) for column in columns]
        if None not in values:
            for name in group_names(row):
                members.setdefault(name, []).append(values)  # type: ignore[arg-type]
    return {name: _group(np.array(members[name]), columns) for name in sorted(members)}


def _group(values: Any, columns: Sequence[str]) -> Group:
    median = np.median(values, axis=0)
    low, high = np.quantile(values, _MIDDLE, axis=0)
    spread = (high - low) * _TO_SIGMA
    return Group(
        n=len(values),
        quantiles={
            column: Spread(median=round(float(m), 2), spread=round(float(s), 2))
            for column, m, s in zip(columns, median, spread, strict=True)
        },
    )
