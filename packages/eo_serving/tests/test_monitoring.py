"""`monitor`: drift is told from chance and from other months, and asks for a retraining only when it stays."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eo_data.dataset import ChipRecord, Manifest, SceneRecord, Statistics
from eo_data.errors import DataRefused, UsageError
from eo_data.store import Store
from eo_data.usecase import UseCase
from eo_serving.configuration import MonitorSection
from eo_serving.drift import Unit, compare
from eo_serving.input_sample import PROBABILITIES
from eo_serving.monitoring import DriftReport, Window, decide, monitor
from eo_serving.request_records import RequestRecord, log_prefix, to_parquet

NOW = datetime(2026, 7, 10, 12, tzinfo=UTC)
BANDS = ("green", "nir")
CLASSES = ("land", "water")


def units(
    random: np.random.Generator, count: int, gain: float = 1.0, month: int | None = None, water: float = 0.3
) -> list[Unit]:
    """Made-up requests: each has a brightness of its own, as scenes have."""
    found = []
    for _ in range(count):
        levels = random.normal((1200, 2500), (250, 500)) * gain
        values = np.sort(random.normal(levels[:, None], 300, (2, 400)), axis=1)
        quantiles = np.quantile(values, PROBABILITIES, axis=1).T
        share = float(np.clip(random.normal(water, 0.1), 0, 1))
        found.append(Unit(tuple(map(tuple, quantiles.tolist())), (1 - share, share), month))
    return found


def compared(reference: list[Unit], window: list[Unit], **limits: Any) -> Any:
    section = MonitorSection(**limits)
    return compare(reference, window, sensor="made-up", bands=BANDS, classes=CLASSES, section=section)


def test_brighter_requests_are_drift_and_the_bands_are_named() -> None:
    random = np.random.default_rng(0)
    (found,) = compared(units(random, 120), units(random, 40, gain=1.4))
    assert found.status == "compared"
    assert set(found.drifted) == set(BANDS)
    assert all(feature.shift > 0.2 and feature.adjusted < 0.01 for feature in found.features[:2])


def test_more_water_is_drift_of_the_class() -> None:
    random = np.random.default_rng(1)
    (found,) = compared(units(random, 120), units(random, 40, water=0.6))
    assert found.drifted == ("share of water",)
    assert found.features[-1].shift == pytest.approx(0.3, abs=0.05)


def test_pixels_of_one_request_are_no_witnesses() -> None:
    """Two very bright requests hold as many pixels as one likes: they are two."""
    random = np.random.default_rng(2)
    (found,) = compared(units(random, 120), units(random, 2, gain=1.3), min_requests=2)
    assert found.drifted == ()


def test_false_alarms_are_as_rare_as_stated() -> None:
    """Windows of what was trained on: at alpha 0.05 and any shift, some twentieth may be called drift."""
    random = np.random.default_rng(3)
    reference = units(random, 150)
    alarms = [
        bool(compared(reference, units(random, 30), alpha=0.05, psi=0, class_shift=0, permutations=199)[0].drifted)
        for _ in range(200)
    ]
    assert sum(alarms) <= 20  # 10 are expected; more than 20 come once in a thousand


def test_one_band_in_one_month_of_six_is_found() -> None:
    """More is compared at once than 999 permutations can tell apart after the correction: more are made."""
    random = np.random.default_rng(8)
    months = range(1, 7)
    reference = [unit for month in months for unit in units(random, 40, month=month)]
    window = [unit for month in months for unit in units(random, 25, month=month)]
    window = [
        replace(unit, quantiles=(unit.quantiles[0], tuple(1.5 * value for value in unit.quantiles[1])))
        if unit.month == 3 else unit
        for unit in window
    ]  # fmt: skip
    found = compared(reference, window)
    assert {stratum.month: stratum.drifted for stratum in found if stratum.drifted} == {3: ("nir",)}


def test_each_month_is_compared_with_its_own() -> None:
    random = np.random.default_rng(4)
    reference = units(random, 60, month=6) + units(random, 60, gain=1.5, month=1)
    window = units(random, 30, gain=1.5, month=1) + units(random, 30, month=6) + units(random, 30, gain=2, month=3)
    january, march, june = compared(reference, window)
    assert [(s.month, s.status, s.drifted) for s in (january, march, june)] == [
        (1, "compared", ()), (3, "no reference", ()), (6, "compared", ()),
    ]  # fmt: skip
    (swapped,) = compared(reference, units(random, 30, gain=1.5, month=6))
    assert swapped.drifted
    (unsaid,) = compared(reference, units(random, 15) + units(random, 15, gain=1.5))
    assert (unsaid.month, unsaid.reference, unsaid.drifted) == (None, 120, ())


def test_few_requests_say_nothing() -> None:
    random = np.random.default_rng(5)
    (found,) = compared(units(random, 60), units(random, 19, gain=3))
    assert (found.status, found.features) == ("not enough", ())


def windows(*drifted: bool) -> list[Window]:
    random = np.random.default_rng(6)
    reference = units(random, 60)
    bad, good = compared(reference, units(random, 30, gain=1.5)), compared(reference, units(random, 30))
    assert bad[0].drifted
    assert not good[0].drifted
    return [Window(begin=NOW, end=NOW, requests=30, strata=bad if one else good) for one in drifted]


@pytest.mark.parametrize(
    ("drifted", "retrain"),
    [
        ((False,) * 5, False),
        ((False, False, True, False, False), False),
        ((True, False, True, False, False), False),
        ((True, False, True, False, True), True),
    ],
)
def test_one_bad_window_is_no_reason(drifted: tuple[bool, ...], retrain: bool) -> None:
    found, reasons = decide(windows(*drifted), None, MonitorSection(), NOW, None)
    assert found is retrain
    assert bool(reasons) is retrain


def test_after_a_retraining_there_is_peace_for_a_while() -> None:
    bad = windows(True, True, True)
    found, reasons = decide(bad, None, MonitorSection(windows=3), NOW, NOW - timedelta(hours=71))
    assert (found, len(reasons)) == (False, 2)
    assert "none until 2026-07-10 13:00" in reasons[1]
    assert decide(bad, None, MonitorSection(windows=3), NOW, NOW - timedelta(hours=73))[0]


# The step, on a store with a champion, its dataset and a log.


def brightness(random: np.random.Generator, gain: float = 1.0) -> NDArray[np.int16]:
    levels = random.normal(1500, 300, 6)[:, None, None] * gain
    return np.clip(random.normal(levels, 200, (6, 32, 32)), 1, 30_000).astype(np.int16)


@pytest.fixture
def world(registry: Any, tmp_path: Any, water: UseCase, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store whose champion, version 2, was trained on forty made-up scenes."""
    from eo_data.model.ledger import Ledger

    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.tracking)
    store, random, files = Store(str(tmp_path / "store")), np.random.default_rng(7), registry.versions[2]
    Ledger(store, "water").append(
        after=0, version=2, model_digest=files.digest, description_digest=files.description_digest, reason="bootstrap"
    )
    digest = files.description.dataset_digest
    scenes, chips = [], []
    for number in range(40):
        name = f"scene-{number:02d}"
        images, labels = np.stack([brightness(random)] * 2), np.zeros((2, 32, 32), np.uint8)
        labels[:, :16] = 1
        for kind, array in (("images", images), ("labels", labels)):
            from eo_serving.raster_answers import npy_file

            store.put_new(f"datasets/{digest}/chips/{name}.0.{kind}.npy", npy_file(array))
        scenes.append(
            SceneRecord(
                id=name,
                uri=store.resolve(f"scenes/made-up/{name}"),
                collection="made-up",
                pixels="p",
                label="l",
                grid="g",
                radiometry="r",
                bands=(1,),
                place=None,
                source_split=None,
                simulated=True,
            )
        )
        chips += [
            ChipRecord(
                scene=name,
                shard=f"{name}.0",
                index=index,
                top=0,
                left=32 * index,
                split="train",
                cell=name,
                valid_fraction=1.0,
                class_counts=(512, 512),
            )
            for index in range(2)
        ]
    manifest = Manifest(
        digest=digest, chip_format=2, usecase="water", usecase_data_digest="u",
        bands=tuple(band.name for band in water.data.input_bands), classes=("land", "water"), chip_size=32,
        scenes=tuple(scenes), chips=tuple(chips), dropped={}, git_commit=None,
    )  # fmt: skip
    statistics = Statistics(mean=(0.0,) * 6, std=(1.0,) * 6, pixels=1, class_counts=(1, 1))
    store.put_json_new(f"datasets/{digest}/statistics.json", statistics.model_dump(mode="json"))
    store.put_json_new(f"datasets/{digest}/manifest.json", manifest.model_dump(mode="json"))
    return store


def asked(store: Store, water: UseCase, day: int, gain: float = 1.0, count: int = 30) -> None:
    """Requests of a window, `day` windows before the newest."""
    random = np.random.default_rng(100 + day)
    records = []
    for number in range(count):
        pixels = np.sort(brightness(random, gain).reshape(6, -1), axis=1)
        quantiles = np.quantile(pixels, PROBABILITIES, axis=1).T
        records.append(
            RequestRecord(
                time=NOW - timedelta(days=day, minutes=number + 1),
                model="water/2",
                digest="d",
                sensor="s",
                month=None,
                content_type="image/tiff",
                height=32,
                width=32,
                images=1,
                west=None,
                south=None,
                east=None,
                north=None,
                sampled=1024,
                valid_fraction=1.0,
                bands=tuple(band.name for band in water.data.input_bands),
                quantiles=tuple(map(tuple, quantiles.tolist())),
                classes=("land", "water"),
                class_fractions=(0.5, 0.5),
            )
        )
    when = records[-1].time
    store.put_new(f"{log_prefix('water')}/{when:%Y-%m-%d}/{when:%H%M%S}-x-{day}.parquet", to_parquet(records))


def test_requests_as_trained_on_ask_for_nothing(world: Store, water: UseCase) -> None:
    for day in range(5):
        asked(world, water, day)
    result = monitor(water, world, now=NOW)
    assert (result["retrain"], result["reasons"], result["drifted"]) == (False, [], [])
    assert (result["requests"], result["champion"], result["quality"]) == (150, "models:/water/2", None)
    report = world.get_record(world.key(result["report"]), DriftReport)
    assert [window.strata[0].status for window in report.windows] == ["compared"] * 5
    page = world.get(world.key(result["page"])).decode()
    assert "No retraining" in page
    assert page.count("<svg ") == 6  # one per band
    lines = re.findall(r'<polyline [^>]*points="([^"]*)"', page)
    assert len(lines) == 12
    for line in lines:  # shares only grow, so the drawing only rises
        down = [float(point.split(",")[1]) for point in line.split()]
        assert down == sorted(down, reverse=True)
        assert max(down) - min(down) > 50


def test_drift_that_stays_asks_once(world: Store, water: UseCase) -> None:
    for day in range(5):
        asked(world, water, day, gain=1.3 if day < 3 else 1.0)
    first = monitor(water, world, now=NOW)
    assert first["retrain"]
    assert "drift in 3 of 5 windows: B02, B03" in first["reasons"][0]
    assert [one["what"]["month any"][0] for one in first["drifted"]] == ["B02"] * 3
    again = monitor(water, world, now=NOW + timedelta(minutes=5))
    assert not again["retrain"]
    assert "none until" in again["reasons"][-1]
    assert monitor(water, world, since=NOW - timedelta(days=1), now=NOW + timedelta(minutes=1))["retrain"] is False


def test_a_drop_in_quality_asks_too(world: Store, water: UseCase, registry: Any) -> None:
    digest = registry.versions[2].digest

    def fresh(name: str, iou: float, high: float, scenes: int) -> None:
        def scores(value: float, top: float, count: int) -> dict[str, Any]:
            return {"scenes": count, "pooled": {"model": {"iou": value}}, "intervals": {"model": {"high": top}}}

        document = {"fresh": scores(iou, high, scenes), "holdout": scores(0.8, 0.85, 30), "format": 1}
        world.put_json_new(f"evaluations/{digest}/{name}/fresh-1/fresh.json", document)

    fresh("a", 0.79, 0.83, 10)
    assert monitor(water, world, now=NOW)["retrain"] is False
    fresh("b", 0.6, 0.7, 20)
    result = monitor(water, world, now=NOW + timedelta(minutes=1))
    assert (result["retrain"], result["quality"]["dropped"]) == (True, True)
    assert "IoU 0.600 on fresh scenes, 0.800 on the holdout" in result["reasons"][0]


def test_no_request_is_no_drift(world: Store, water: UseCase) -> None:
    result = monitor(water, world, now=NOW)
    assert (result["requests"], result["retrain"], result["reasons"]) == (0, False, [])
    assert "no request" in world.get(world.key(result["page"])).decode()


def test_what_cannot_be_monitored(world: Store, water: UseCase, registry: Any, tmp_path: Any) -> None:
    with pytest.raises(UsageError, match="not in the past"):
        monitor(water, world, since=NOW + timedelta(days=1), now=NOW)
    empty = Store(str(tmp_path / "empty"))
    with pytest.raises(DataRefused):
        monitor(water, empty, now=NOW)
    with pytest.raises(DataRefused, match="no such object"):
        monitor(water, registry.store, now=NOW)  # a champion whose dataset is gone


@pytest.mark.parametrize(
    ("values", "says"),
    [({"needed": 6}, "only 5 windows"), ({"alpha": 0.0001}, "cannot give a p-value"), ({"psy": 1}, "psy")],
)
def test_limits_that_cannot_be_meant(water: UseCase, values: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        water.with_section("monitor", values).section("monitor", MonitorSection)


def test_a_request_of_other_bands_is_left_out(world: Store, water: UseCase) -> None:
    asked(world, water, 0)
    asked(world, water, 1)
    like = water_record(world, water)
    narrow = replace(like, bands=("red",), quantiles=like.quantiles[:1], time=NOW - timedelta(hours=1))
    world.put_new(f"{log_prefix('water')}/2026-07-10/110000-y-1.parquet", to_parquet([narrow]))
    assert monitor(water, world, now=NOW)["requests"] == 60


def water_record(store: Store, water: UseCase) -> RequestRecord:
    from eo_serving.request_records import read_records

    return read_records(store, "water", NOW - timedelta(days=1), NOW)[0]


def test_a_time_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    from eo_serving.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["monitor", "--usecase", "water", "--store", "s", "--since", "tomorrow"])
    assert ended.value.code == 2
    assert "'tomorrow' is no time, such as 2026-06-01T00:00Z" in capsys.readouterr().err
