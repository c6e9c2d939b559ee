"""The request log's records: what a row says, how rows become Parquet, and how they are read again.

```
monitoring/requests/<usecase>/<YYYY-MM-DD>/<HHMMSS>-<process>-<number>.parquet
```
"""

from __future__ import annotations

import io
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from eo_data.errors import DataRefused
from eo_serving.input_sample import PROBABILITIES, InputStatistics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from eo_data.store import Store

FORMAT: Final = 1
"""Of a record; raised when a column changes meaning."""

_DEGREES: Final = 2
"""Decimals of a footprint's degrees, about a kilometre: where roughly, not which field."""
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_TAKEN: Final = re.compile(r"(\d{4})[:-](\d{2})")


@dataclass(frozen=True)
class RequestRecord:
    """One request that was answered.

    Attributes:
        time: When it was answered, UTC.
        model: `<name>/<version>` that answered.
        digest: Its model digest.
        sensor: The use case's sensor.
        month: In which the raster says that it was taken, 1 to 12; None where it does not say.
        content_type: Of the body.
        height: Pixels.
        width: Pixels.
        images: How many came together.
        west: Footprint in degrees, to two places; None without a CRS. West above east is across the 180th meridian.
        south: See west.
        east: See west.
        north: See west.
        sampled: Pixels that the quantiles are of.
        valid_fraction: Share with data in every band.
        bands: The input bands.
        quantiles: Per band at `PROBABILITIES`, reflectance x 10000; empty without data.
        classes: The classes.
        class_fractions: Of pixels with data.
    """

    time: datetime
    model: str
    digest: str
    sensor: str
    month: int | None
    content_type: str
    height: int
    width: int
    images: int
    west: float | None
    south: float | None
    east: float | None
    north: float | None
    sampled: int
    valid_fraction: float
    bands: tuple[str, ...]
    quantiles: tuple[tuple[float, ...], ...]
    classes: tuple[str, ...]
    class_fractions: tuple[float, ...]


def make_record(
    statistics: InputStatistics,
    *,
    time: datetime,
    model: str,
    digest: str,
    sensor: str,
    content_type: str,
    bands: Sequence[str],
    classes: Sequence[str],
    taken: str | None = None,
) -> RequestRecord:
    """A record of what was seen.

    Args:
        statistics: What was seen.
        time: When.
        model: Who answered.
        digest: Its digest.
        sensor: The use case's.
        content_type: Of the body.
        bands: Names of the input bands.
        classes: Names of the classes.
        taken: When a STAC item says that it was taken; else the raster is asked.
    """
    west, south, east, north = _degrees(statistics)
    return RequestRecord(
        time=time, model=model, digest=digest, sensor=sensor, month=_month(taken or statistics.taken),
        content_type=content_type, height=statistics.shape[0], width=statistics.shape[1], images=statistics.images,
        west=west, south=south, east=east, north=north, sampled=statistics.sampled,
        valid_fraction=statistics.valid_fraction, bands=tuple(bands), quantiles=statistics.quantiles,
        classes=tuple(classes), class_fractions=statistics.class_fractions,
    )  # fmt: skip


def log_prefix(usecase: str) -> str:
    """Where a use case's records lie."""
    return f"monitoring/requests/{usecase}"


def to_parquet(records: Sequence[RequestRecord]) -> bytes:
    """Records as one Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([asdict(record) for record in records], schema=_schema())
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd")
    return stream.getvalue()


def read_records(store: Store, usecase: str, since: datetime, until: datetime) -> list[RequestRecord]:
    """The records of a span, in the order of time.

    Args:
        store: Where they lie.
        usecase: Whose.
        since: From when, included.
        until: Up to when, not included.

    Raises:
        DataRefused: If a file is none of this release.
    """
    found = []
    for key in store.list(log_prefix(usecase)):
        day = key.split("/")[-2]
        # A file is of the day on which it was begun; its last record may be of the next.
        if _DATE.fullmatch(day) and key.endswith(".parquet") and _near(day, since, until):
            found += [record for record in _read(store, key) if since <= record.time < until]
    return sorted(found, key=lambda record: record.time)


def _read(store: Store, key: str) -> Iterator[RequestRecord]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(store.get(key)))
        said = (table.schema.metadata or {}).get(b"terraloop.format", b"").decode()
        if said != str(FORMAT) or not table.schema.equals(_schema()):
            raise DataRefused(
                f"the request log's file is of format '{said}', this release reads {FORMAT}",
                where=store.resolve(key),
                fix="Read it with the release that wrote it, or move it away",
            )
        rows = table.to_pylist()
    except pa.ArrowInvalid as error:
        raise DataRefused("this is no Parquet file", where=store.resolve(key), fix="Move it away") from error
    for row in rows:
        lists = {key: tuple(row[key]) for key in ("bands", "classes", "class_fractions")}
        yield RequestRecord(**{**row, **lists, "quantiles": tuple(map(tuple, row["quantiles"]))})


def _near(day: str, since: datetime, until: datetime) -> bool:
    begin = datetime.fromisoformat(day).replace(tzinfo=UTC)
    return begin < until and begin + timedelta(days=2) > since


@lru_cache(maxsize=1)
def _schema() -> pa.Schema:
    import pyarrow as pa

    number, text = pa.float32(), pa.string()
    columns: dict[str, Any] = {
        "time": pa.timestamp("us", tz="UTC"), "model": text, "digest": text, "sensor": text,
        "month": pa.int8(), "content_type": text, "height": pa.int32(), "width": pa.int32(), "images": pa.int32(),
        "west": number, "south": number, "east": number, "north": number, "sampled": pa.int32(),
        "valid_fraction": number, "bands": pa.list_(text), "quantiles": pa.list_(pa.list_(number)),
        "classes": pa.list_(text), "class_fractions": pa.list_(number),
    }  # fmt: skip
    says = {"terraloop.format": str(FORMAT), "terraloop.probabilities": " ".join(map(str, PROBABILITIES))}
    return pa.schema(list(columns.items()), metadata=says)


def _month(taken: str | None) -> int | None:
    found = _TAKEN.match(taken or "")
    month = int(found[2]) if found else 0
    return month if 1 <= month <= 12 else None


def _degrees(statistics: InputStatistics) -> tuple[float | None, float | None, float | None, float | None]:
    from pyproj.exceptions import ProjError

    if statistics.crs is None or statistics.bounds is None:
        return None, None, None, None
    try:
        bounds = _transformer(statistics.crs).transform_bounds(*statistics.bounds)
    except ProjError:
        return None, None, None, None
    rounded = [round(float(value), _DEGREES) for value in bounds]
    return (rounded[0], rounded[1], rounded[2], rounded[3]) if all(map(_finite, rounded)) else (None,) * 4


def _finite(value: float) -> bool:
    return abs(value) <= 360


@lru_cache(maxsize=64)
def _transformer(crs: str) -> Any:
    from pyproj import Transformer

    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
