"""`eo-serving monitor`: are requests still what the champion was trained on, and is it still as good; retrain or not.

```
monitoring/drift/<usecase>/<time>.json, .html      a report; the JSON is written last
```
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict

from eo_data.errors import UsageError
from eo_data.model.files import fetch_model
from eo_data.store import Store
from eo_data.usecase import UseCase
from eo_serving.configuration import MonitorSection
from eo_serving.drift import StratumDrift, Unit, compare, summary
from eo_serving.drift_reference import reference_units
from eo_serving.request_records import RequestRecord, read_records

log = logging.getLogger(__name__)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Window(_Record):
    """A span of time.

    Attributes:
        begin: Its begin, UTC, included.
        end: Its end, not included.
        requests: All requests in it.
        strata: What was found.
    """

    begin: datetime
    end: datetime
    requests: int
    strata: tuple[StratumDrift, ...]

    @property
    def drifted(self) -> bool:
        """Whether anything drifted."""
        return any(stratum.drifted for stratum in self.strata)


class Quality(_Record):
    """The champion on scenes that came after its dataset, against its own holdout.

    Attributes:
        evaluation: URI of the evaluation that says so.
        fresh: Pooled IoU on fresh scenes.
        fresh_high: Upper bound of its 95 % interval.
        holdout: Pooled IoU on its holdout.
        dropped: Whether even the upper bound is below the holdout, and by more than is allowed.
    """

    evaluation: str
    fresh: float
    fresh_high: float
    holdout: float
    dropped: bool


class DriftReport(_Record):
    """A report.

    Attributes:
        usecase: Whose.
        time: When it was made.
        champion: `models:/<name>/<version>`.
        digest: Its model digest.
        dataset: Digest of the dataset that it was trained on: the reference.
        reference: Scenes of the reference.
        windows: The newest last.
        quality: None where no fresh scene was evaluated.
        retrain: Whether to train anew.
        reasons: Why; or why not, where something speaks for it.
        section: The limits.
    """

    usecase: str
    time: datetime
    champion: str
    digest: str
    dataset: str
    reference: int
    windows: tuple[Window, ...]
    quality: Quality | None
    retrain: bool
    reasons: tuple[str, ...]
    section: MonitorSection


class _FreshFigures(BaseModel):
    """What is read of `fresh.json`, which `eo-models evaluate --fresh` writes."""

    class Scores(BaseModel):
        scenes: int
        pooled: dict[str, dict[str, Any]]
        intervals: dict[str, dict[str, Any]]

    fresh: Scores
    holdout: Scores | None


def monitor(
    usecase: UseCase, store: Store, since: datetime | None = None, now: datetime | None = None
) -> dict[str, Any]:
    """Compare the newest windows of the request log with the champion's training split, and write a report.

    Args:
        usecase: Whose log, champion and limits.
        store: Where they lie.
        since: Nothing before is looked at.
        now: The end of the newest window; the present if None.

    Returns:
        The step's result: `report`, `page`, `champion`, `requests`, `drifted` (by window: what, where), `quality`,
        `retrain` and `reasons`.

    Raises:
        DataRefused: If there is no champion, or its dataset is not in the store.
        UsageError: If `since` is in the future.
    """
    section, now = usecase.section("monitor", MonitorSection), now or datetime.now(UTC)
    if since is not None and since >= now:
        raise UsageError(f"{since.isoformat()} is not in the past", where="--since", fix="Give an earlier time")
    champion = fetch_model(f"models:/{usecase.name}@champion", store)
    reference = reference_units(store, champion.description.dataset_digest)
    spans = _spans(section, now, since)
    records = read_records(store, usecase.name, spans[0][0], now)
    windows = tuple(_window(usecase, section, reference, records, *span) for span in spans)
    quality = _quality(store, champion.digest, section)
    retrain, reasons = decide(windows, quality, section, now, _last_retraining(store, usecase.name))
    report = DriftReport(
        usecase=usecase.name, time=now, champion=champion.uri, digest=champion.digest,
        dataset=champion.description.dataset_digest, reference=len(reference), windows=windows, quality=quality,
        retrain=retrain, reasons=reasons, section=section,
    )  # fmt: skip
    newest = window_units(_asked(usecase, records, *spans[-1]))
    return _publish(store, report, reference, newest)


def decide(
    windows: Sequence[Window],
    quality: Quality | None,
    section: MonitorSection,
    now: datetime,
    last: datetime | None,
) -> tuple[bool, tuple[str, ...]]:
    """Whether to train anew, and why.

    Args:
        windows: The newest last.
        quality: The champion on fresh scenes.
        section: How many of how many windows must drift, and for how long nothing follows a retraining.
        now: The present.
        last: When a report asked for a retraining before; None if none did.
    """
    reasons = []
    drifted = [window for window in windows if window.drifted]
    if len(drifted) >= section.needed:
        what = sorted({name for window in drifted for stratum in window.strata for name in stratum.drifted})
        reasons.append(f"drift in {len(drifted)} of {len(windows)} windows: {', '.join(what)}")
    if quality is not None and quality.dropped:
        reasons.append(
            f"quality: IoU {quality.fresh:.3f} on fresh scenes, {quality.holdout:.3f} on the holdout it was promoted by"
        )
    if reasons and last is not None and now - last < timedelta(hours=section.cooldown_hours):
        until = last + timedelta(hours=section.cooldown_hours)
        return False, (
            *reasons,
            f"but a retraining was asked for at {last:%Y-%m-%d %H:%M}: none until {until:%Y-%m-%d %H:%M}",
        )
    return bool(reasons), tuple(reasons)


def report_prefix(usecase: str) -> str:
    """Where a use case's reports lie."""
    return f"monitoring/drift/{usecase}"


def _spans(section: MonitorSection, now: datetime, since: datetime | None) -> list[tuple[datetime, datetime]]:
    length = timedelta(hours=section.window_hours)
    spans = [(now - (number + 1) * length, now - number * length) for number in reversed(range(section.windows))]
    kept = [(max(begin, since), end) for begin, end in spans if end > since] if since is not None else spans
    return kept or spans[-1:]


def _window(
    usecase: UseCase,
    section: MonitorSection,
    reference: Sequence[Unit],
    records: Sequence[RequestRecord],
    begin: datetime,
    end: datetime,
) -> Window:
    data, own = usecase.data, _asked(usecase, records, begin, end)
    bands = tuple(band.name for band in data.input_bands)
    strata = compare(
        reference, window_units(own), sensor=data.sensor, bands=bands, classes=[one.name for one in data.classes],
        section=section,
    )  # fmt: skip
    return Window(begin=begin, end=end, requests=len(own), strata=strata)


def _asked(usecase: UseCase, records: Sequence[RequestRecord], begin: datetime, end: datetime) -> list[RequestRecord]:
    """Requests of a window; what an earlier use case with other bands was asked says nothing here."""
    bands = tuple(band.name for band in usecase.data.input_bands)
    return [record for record in records if begin <= record.time < end and record.bands == bands]


def window_units(records: Sequence[RequestRecord]) -> list[Unit]:
    """A unit per request."""
    return [Unit(record.quantiles, record.class_fractions, record.month) for record in records]


def _quality(store: Store, digest: str, section: MonitorSection) -> Quality | None:
    """Of the champion's evaluations on fresh scenes the one with the most: datasets grow."""
    keys = [key for key in store.list(f"evaluations/{digest}") if key.endswith("/fresh.json")]
    found = [(record, key) for key in keys if (record := store.get_record(key, _FreshFigures)).holdout is not None]
    if not found:
        return None
    record, key = max(found, key=lambda pair: (pair[0].fresh.scenes, pair[1]))
    assert record.holdout is not None  # noqa: S101 - only such were kept
    fresh, holdout = (scores.pooled["model"]["iou"] for scores in (record.fresh, record.holdout))
    high = record.fresh.intervals["model"]["high"]
    if None in (fresh, holdout, high):
        return None
    dropped = fresh < holdout - section.quality_drop and high < holdout
    return Quality(evaluation=store.resolve(key), fresh=fresh, fresh_high=high, holdout=holdout, dropped=dropped)


def _last_retraining(store: Store, usecase: str) -> datetime | None:
    for key in reversed([key for key in store.list(report_prefix(usecase)) if key.endswith(".json")]):
        report = store.get_record(key, DriftReport)
        if report.retrain:
            return report.time
    return None


def _publish(store: Store, report: DriftReport, reference: Sequence[Unit], newest: Sequence[Unit]) -> dict[str, Any]:
    from eo_serving.drift_page import drift_page

    key = f"{report_prefix(report.usecase)}/{report.time.astimezone(UTC):%Y%m%dT%H%M%S%fZ}"
    store.put_new(f"{key}.html", drift_page(report, reference, newest))
    store.put_json_new(f"{key}.json", report.model_dump(mode="json"))
    log.info("monitor: %s", "; ".join(report.reasons) or "nothing speaks for a retraining")
    return {
        "report": store.resolve(f"{key}.json"),
        "page": store.resolve(f"{key}.html"),
        "champion": report.champion,
        "requests": sum(window.requests for window in report.windows),
        "drifted": [
            {"begin": window.begin.isoformat(), "end": window.end.isoformat(), "what": dict(summary(window.strata))}
            for window in report.windows
            if window.drifted
        ],
        "quality": None if report.quality is None else report.quality.model_dump(mode="json"),
        "retrain": report.retrain,
        "reasons": list(report.reasons),
    }
