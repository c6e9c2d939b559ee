"""The request log: numbers of what was sent, never a pixel, and never in the way."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eo_data.errors import DataRefused, TemporaryFailure
from eo_data.store import Store
from eo_serving.call import Call
from eo_serving.configuration import RequestLogging
from eo_serving.input_sample import MOST, PROBABILITIES, InputSample
from eo_serving.invocation import Invocation, answer
from eo_serving.request_log import RequestLog
from eo_serving.request_records import RequestRecord, log_prefix, make_record, read_records, to_parquet
from eo_serving.service import Service

S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
INPUTS = [1, 2, 3, 7, 11, 12]
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def sampled(service: Service, body: bytes, kind: str = "image/tiff", query: str = "") -> Any:
    sample = InputSample(2)
    answer(Invocation(kind, None, query, body), service, Call(sample=sample))
    return sample.statistics()


def record(service: Service, body: bytes, time: datetime = NOON, **changes: Any) -> RequestRecord:
    made = make_record(
        sampled(service, body), time=time, model="water/1", digest="d", sensor="s2",
        content_type="image/tiff", bands=("B02",), classes=("land", "water"),
    )  # fmt: skip
    return replace(made, **changes)


@pytest.fixture
def scene() -> NDArray[np.uint16]:
    pixels = np.random.default_rng(3).integers(1, 6000, (13, 60, 60)).astype(np.uint16)
    pixels[:, :, :15] = 0
    return pixels


def test_the_numbers_are_those_of_the_pixels(service: Service, scene: NDArray[Any], tiff: Any, decode: Any) -> None:
    body = tiff(scene, names=S2, nodata=0)
    found = sampled(service, body)
    assert (found.shape, found.images, found.sampled, found.valid_fraction) == ((60, 60), 1, 60 * 45, 0.75)
    for place, values in zip(INPUTS, found.quantiles, strict=True):
        wanted = np.quantile(scene[place, :, 15:], PROBABILITIES, method="nearest")
        np.testing.assert_allclose(values, wanted, atol=8)  # one place of the sorted 2700, of values up to 6000
    mask = decode(answer(Invocation("image/tiff", None, "", body), service).body).pixels[0]
    assert found.class_fractions[1] == pytest.approx((mask == 1).sum() / (mask != 255).sum(), abs=1e-5)


def test_a_large_raster_is_thinned(service: Service, tiff: Any) -> None:
    pixels = np.random.default_rng(4).integers(1, 6000, (13, 700, 600)).astype(np.uint16)
    found = sampled(service, tiff(pixels, names=S2))
    assert MOST / 2 < found.sampled < 2 * MOST
    for place, values in zip(INPUTS, found.quantiles, strict=True):
        np.testing.assert_allclose(values[1:-1], np.quantile(pixels[place], PROBABILITIES[1:-1]), atol=150)


def test_tensors_count_too(service: Service, scene: NDArray[Any]) -> None:
    from eo_serving.raster_answers import npy_file

    found = sampled(service, npy_file(np.stack([scene, scene])), "application/x-npy")
    assert (found.images, found.shape, found.crs, found.bounds) == (2, (60, 60), None, None)
    assert found.valid_fraction == pytest.approx(0.75, abs=0.02)


def test_a_raster_without_data(service: Service, tiff: Any) -> None:
    found = sampled(service, tiff(np.zeros((13, 20, 20), np.uint16), names=S2))
    assert (found.sampled, found.valid_fraction, found.quantiles, found.class_fractions) == (0, 0.0, (), (0.0, 0.0))


def test_where_and_when(service: Service, scene: NDArray[Any], tiff: Any) -> None:
    made = record(service, tiff(scene, names=S2, tags={"TIFFTAG_DATETIME": "2026:07:14 10:00:00"}))
    assert made.month == 7
    assert (made.west, made.north) == (-3.0, 37.95)  # 500000 E 4200000 N of UTM 30
    nowhere = record(service, tiff(scene, names=S2, crs=None, transform=None))
    assert (nowhere.month, nowhere.west, nowhere.north) == (None, None, None)


def test_what_is_written_is_read(service: Service, scene: NDArray[Any], tiff: Any, tmp_path: Any) -> None:
    store, body = Store(str(tmp_path)), tiff(scene, names=S2)
    wanted = [record(service, body, NOON + timedelta(minutes=n)) for n in range(5)]
    log = RequestLog(store, "water", RequestLogging())
    for one in wanted:
        log.note(lambda one=one: one)  # type: ignore[misc]
    log.close()
    assert (log.written, log.lost) == (5, 0)
    (key,) = store.list(log_prefix("water"))
    assert key.startswith("monitoring/requests/water/2026-06-01/120000-")
    assert len(store.get(key)) < scene.nbytes / 5  # numbers, not pixels
    found = read_records(store, "water", NOON, NOON + timedelta(days=1))
    assert [one.time for one in found] == [one.time for one in wanted]
    assert (found[0].bands, found[0].month, found[0].height) == (("B02",), None, 60)
    np.testing.assert_allclose(found[0].quantiles, wanted[0].quantiles, rtol=1e-6)
    assert len(read_records(store, "water", NOON + timedelta(minutes=2), NOON + timedelta(minutes=4))) == 2
    assert read_records(store, "water", NOON + timedelta(days=1), NOON + timedelta(days=9)) == []


def test_what_was_gathered_is_written_after_a_while(service: Service, scene: Any, tiff: Any, tmp_path: Any) -> None:
    store, one = Store(str(tmp_path)), record(service, tiff(scene, names=S2))
    log = RequestLog(store, "water", RequestLogging(flush_seconds=0.2))
    log.note(lambda: one)
    end = time.monotonic() + 30
    while not store.list(log_prefix("water")):
        assert time.monotonic() < end
        time.sleep(0.05)
    log.close()


class Stuck(Store):
    """A store that does not take anything until it is let go."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.asked, self.go = threading.Event(), threading.Event()

    def put_new(self, key: str, data: Any) -> bool:
        self.asked.set()
        assert self.go.wait(60)
        raise TemporaryFailure("no answer")


def test_a_store_that_hangs_holds_nobody_up(service: Service, scene: Any, tiff: Any, tmp_path: Any) -> None:
    store, one = Stuck(str(tmp_path)), record(service, tiff(scene, names=S2))
    log = RequestLog(store, "water", RequestLogging(flush_seconds=0.01, queue=10))
    log.note(lambda: one)
    assert store.asked.wait(30)
    for _ in range(25):
        log.note(lambda: one)
    assert log.lost == 15  # ten wait, one is being written
    store.go.set()
    log.close()
    assert (log.written, log.lost) == (0, 26)


def test_a_file_that_is_none_is_named(service: Service, scene: Any, tiff: Any, tmp_path: Any) -> None:
    store = Store(str(tmp_path))
    store.put_new(f"{log_prefix('water')}/2026-06-01/120000-x.parquet", b"no parquet")
    with pytest.raises(DataRefused, match="no Parquet file"):
        read_records(store, "water", NOON, NOON + timedelta(days=1))
    other = Store(str(tmp_path / "other"))
    import io

    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(to_parquet([record(service, tiff(scene, names=S2))])))
    stream = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"terraloop.format": "9"}), stream)
    other.put_new(f"{log_prefix('water')}/2026-06-01/120000-x.parquet", stream.getvalue())
    with pytest.raises(DataRefused, match="format '9', this release reads 1"):
        read_records(other, "water", NOON, NOON + timedelta(days=1))
