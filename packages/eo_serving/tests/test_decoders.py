"""Rasters are decoded by processes of their own: same answers, and only the decoder dies of a bad one."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eo_data.errors import DataRefused
from eo_data.usecase import UseCase
from eo_serving.decoders import DecoderDied, Decoders
from eo_serving.invocation import Answer, Invocation, answer
from eo_serving.problem import OutOfTime, TooLarge
from eo_serving.raster_bodies import RasterBody, open_body
from eo_serving.service import Service

S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    pool = Decoders()
    yield pool
    pool.stop()


@pytest.fixture
def sent(service: Service, tiff: Any) -> RasterBody:
    return RasterBody(tiff(scene(40, 50), names=S2), service.data, service.serve.limits)


def scene(height: int, width: int) -> Any:
    return np.random.default_rng(0).integers(1, 6000, (13, height, width)).astype(np.uint16)


def ask(service: Service, body: bytes, pool: Decoders, accept: str | None = None, query: str = "") -> Answer:
    return answer(Invocation("image/tiff", accept, query, body), service, None, pool.open_body)


def children(name: str = "eo_serving.decoder_process") -> list[int]:
    """Processes of this one that decode."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                if int(status[1]) == os.getpid() and status[0] != "Z" and name in (entry / "cmdline").read_text():
                    found.append(int(entry.name))
            except OSError:
                continue
    return sorted(found)


@pytest.mark.parametrize(
    "creation",
    [
        {},
        {"crs": None, "transform": None},
        {"compress": "deflate", "tiled": True, "blockxsize": 64, "blockysize": 64},
        {"interleave": "band", "nodata": 7},
        {"bigtiff": "yes", "compress": "lzw", "predictor": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("accept", ["image/tiff", "image/tiff; band=probability", "image/png", "application/x-npy"])
def test_answers_are_those_of_decoding_in_process(
    service: Service, tiff: Any, decoders: Decoders, creation: dict[str, Any], accept: str
) -> None:
    body = tiff(scene(300, 270), names=S2, **creation)
    apart, here = ask(service, body, decoders, accept), answer(Invocation("image/tiff", accept, "", body), service)
    assert (apart.body, dict(apart.headers)) == (here.body, dict(here.headers))


def test_refusals_are_those_of_decoding_in_process(service: Service, tiff: Any, decoders: Decoders) -> None:
    truncated = tiff(scene(200, 200), names=S2)[:5000]
    for body in (b"junk", truncated, tiff(np.zeros((13, 1, 20_000), np.uint8), names=S2, sparse_ok=True)):
        with pytest.raises((DataRefused, TooLarge)) as here:
            answer(Invocation("image/tiff", None, "", body), service)
        with pytest.raises(type(here.value)) as apart:
            ask(service, body, decoders)
        assert (apart.value.what, apart.value.where, apart.value.fix) == (
            here.value.what,
            here.value.where,
            here.value.fix,
        )


def test_a_decoder_is_used_again(service: Service, sent: RasterBody) -> None:
    pool = Decoders()
    before = children()
    for _ in range(3):
        ask(service, sent.content, pool)
    with pytest.raises(DataRefused):
        ask(service, b"junk", pool)
    ask(service, sent.content, pool)
    assert len(set(children()) - set(before)) == 1
    pool.stop()
    assert children() == before


def test_calls_at_the_same_time(service: Service, sent: RasterBody, decoders: Decoders) -> None:
    wanted = answer(Invocation("image/tiff", None, "", sent.content), service).body
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(ask(service, sent.content, decoders).body)) for _ in "1234"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [wanted] * 4


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGXCPU])
def test_a_dead_decoder_is_one_refused_request(service: Service, sent: RasterBody, number: signal.Signals) -> None:
    pool = Decoders()
    before = children()
    with pytest.raises(DecoderDied, match="cannot be decoded within"), pool.open_body(sent) as image:  # noqa: PT012
        (pid,) = set(children()) - set(before)
        os.kill(pid, number)
        image.read(0, 0, 10, 10)
    assert children() == before
    assert (
        ask(service, sent.content, pool).body == answer(Invocation("image/tiff", None, "", sent.content), service).body
    )
    pool.stop()


def test_a_decoder_that_hangs_is_ended(service: Service, sent: RasterBody, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eo_serving.decoders._LATE", 0.2)
    pool = Decoders()
    before = children()
    with pytest.raises(OutOfTime, match="decoding did not end"), pool.open_body(sent, 0.1) as image:  # noqa: PT012
        (pid,) = set(children()) - set(before)
        os.kill(pid, signal.SIGSTOP)
        image.read(0, 0, 10, 10)
    assert children() == before


def test_processor_time_is_bounded(service: Service, sent: RasterBody) -> None:
    """Decoding the same rows for ever is ended by the kernel."""
    pool = Decoders()
    with pytest.raises((DecoderDied, OutOfTime)), pool.open_body(sent, 0.5) as image:  # noqa: PT012
        while True:
            image.read(0, 0, 40, 50)


def test_memory_is_bounded(service: Service, tiff: Any) -> None:
    """A window of 3000 x 3000 x 6 floats is more than this decoder may take; the next raster is answered."""
    pool = Decoders(memory=200 * 2**20)
    body = tiff(np.ones((13, 3000, 3000), np.uint8), names=S2, compress="deflate", tiled=True)
    sent = RasterBody(body, service.data, service.serve.limits)
    with pytest.raises((DataRefused, TooLarge)), pool.open_body(sent) as image:
        image.read(0, 0, 3000, 3000)
    small = tiff(scene(30, 30), names=S2)
    assert ask(service, small, pool).body == answer(Invocation("image/tiff", None, "", small), service).body
    pool.stop()


def test_a_decoder_can_write_no_file(service: Service, sent: RasterBody) -> None:
    pool = Decoders()
    with pool.open_body(sent):
        pid = next(iter(children()))
        limits = Path(f"/proc/{pid}/limits").read_text()
    pool.stop()
    rows = {line[:25].strip(): line[25:].split()[:2] for line in limits.splitlines()}
    assert rows["Max file size"] == ["0", "0"]
    assert rows["Max core file size"] == ["0", "0"]
    assert rows["Max open files"] == ["64", "64"]
    assert rows["Max address space"][0] != "unlimited"


LIAR = """
import sys, json, time
from multiprocessing.connection import Connection
control = Connection(int(sys.argv[3]))
control.recv_bytes()
control.send_bytes({answer!r})
time.sleep(60)
"""


@pytest.mark.parametrize(
    "said",
    [
        b"junk",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"refused": 1}',
        b'{"shape": [-1, 5], "crs": null, "transform": null, "radiometry": [1, 0, null, "x"]}',
        b'{"shape": [5, 5], "crs": "junk", "transform": null, "radiometry": [1, 0, null, "x"]}',
        b'{"shape": [5, 5], "crs": null, "transform": null, "radiometry": [-1, 0, null, "x"]}',
        b'{"shape": [99999, 5], "crs": null, "transform": null, "radiometry": [1, 0, null, "x"]}',
        bytes(2**20 + 1),
    ],
    ids=range(11),
)
def test_a_decoder_that_was_taken_over_is_not_believed(
    sent: RasterBody, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    script = tmp_path / "liar"
    script.write_text(f"#!{sys.executable}\n{LIAR.format(answer=said)}")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    pool = Decoders()
    with pytest.raises((DataRefused, TooLarge)), pool.open_body(sent):
        pytest.fail("it was believed")
    assert children("liar") == []


def test_opening_in_this_process_checks_the_same(service: Service, water: UseCase, tiff: Any) -> None:
    body = RasterBody(tiff(np.zeros((13, 1, 20_000), np.uint8), names=S2), water.data, service.serve.limits)
    with pytest.raises(TooLarge), open_body(body):
        pytest.fail("it was opened")
