"""Labels on a web server and in a bucket, read by range requests over real sockets."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from eo_data.errors import DataRefused, TemporaryFailure
from eo_data.ingest_labels import ingest_labels
from eo_data.sources.label_sources import LabelSource
from eo_data.store import Store

from .conftest import write_tiff
from .label_scenes import bring, case, ids, kept, scene
from .s3_server import s3_server, use_s3

MAP = np.random.default_rng(5).integers(0, 2, (1, 4000, 4000)).astype(np.uint8)
SHAPE = {"type": "Polygon", "coordinates": [[[-3.1, 37], [-2.9, 37], [-2.9, 39], [-3.1, 39], [-3.1, 37]]]}


def big_map(path: Path) -> Path:
    """A map of 4000 x 4000 pixels around the scenes of these tests."""
    return write_tiff(path, MAP, origin=(480_000, 4_220_000), tiled=True, blockxsize=256, blockysize=256)


@pytest.fixture
def images(tmp_path: Path, store: Store) -> Store:
    """A store with one scene."""
    scene(tmp_path / "in", "s1")
    bring(store, tmp_path / "in")
    return store


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path, list[int]]]:
    """A server that answers range requests: its address, its folder, and the bytes of each answer."""
    root, sent = tmp_path / "web", []
    root.mkdir()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._send(body=False)

        def do_GET(self) -> None:
            self._send(body=True)

        def _send(self, body: bool) -> None:
            path = root / self.path.strip("/")
            if self.path.startswith("/broken") or not path.is_file():
                self.send_response(503 if self.path.startswith("/broken") else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = path.read_bytes()
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            first = int(wanted[1]) if wanted else 0
            last = min(int(wanted[2]) if wanted and wanted[2] else len(data) - 1, len(data) - 1)
            self.send_response(206 if wanted else 200)
            if wanted:
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(last - first + 1))
            self.end_headers()
            if body:
                self.wfile.write(data[first : last + 1])
                sent.append(last - first + 1)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", root, sent
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of an S3 server on a real socket that has the bucket `maps`."""
    with s3_server() as url:
        client = use_s3(monkeypatch, url)
        client.create_bucket(Bucket="maps")
        yield client


def expected() -> Any:
    """The map under the scene: both lie on one lattice."""
    return MAP[0, 2000:2064, 2000:2064]


def test_a_map_on_a_web_server_is_read_in_parts(web: tuple[str, Path, list[int]], images: Store) -> None:
    address, root, sent = web
    size = big_map(root / "cover.tif").stat().st_size
    _, labels, _ = ingest_labels(images, case(), f"{address}/cover.tif", progress=False)
    assert np.array_equal(kept(images, labels[0])[0], expected())
    assert labels[0].source == "cover"
    assert sum(sent) < size / 4


def test_polygons_on_a_web_server(web: tuple[str, Path, list[int]], images: Store) -> None:
    address, root, _ = web
    feature = {"type": "Feature", "properties": {"class": "water"}, "geometry": SHAPE}
    (root / "drawn.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    _, labels, _ = ingest_labels(images, case(), f"{address}/drawn.geojson", progress=False)
    assert (kept(images, labels[0])[0] == 1).all()


def test_a_server_that_refuses_and_one_that_is_gone_are_told_apart(
    web: tuple[str, Path, list[int]], images: Store
) -> None:
    address, _, _ = web
    for name in ("none.tif", "none.geojson"):
        with pytest.raises(DataRefused, match="the server answers 404"):
            ingest_labels(images, case(), f"{address}/{name}", progress=False)
    for url in (f"{address}/broken.tif", "http://127.0.0.1:9/map.tif", "http://127.0.0.1:9/drawn.gpkg"):
        with pytest.raises(TemporaryFailure, match=re.escape(url)):
            ingest_labels(images, case(), url, progress=False)
    with pytest.raises(DataRefused, match=r"a shapefile is several files.*\.gpkg"):
        ingest_labels(images, case(), f"{address}/drawn.shp", progress=False)


def test_a_map_and_rasters_by_id_in_a_bucket(tmp_path: Path, bucket: Any, images: Store) -> None:
    bucket.upload_file(str(big_map(tmp_path / "cover.tif")), "maps", "2021/cover.tif")
    _, labels, _ = ingest_labels(images, case(), "s3://maps/2021/cover.tif", progress=False)
    assert np.array_equal(kept(images, labels[0])[0], expected())
    path = write_tiff(tmp_path / "s1.tif", expected()[None])
    bucket.upload_file(str(path), "maps", "drawn/labels/s1.tif")
    bucket.upload_file(str(path), "maps", "drawn/labels/s2.tif")
    scenes, labels, tally = ingest_labels(images, case(), "s3://maps/drawn/", progress=False)
    assert ids(labels) == ["s1", "s2"]
    assert tally.waiting == ["s2"]
    assert [one.id for one in scenes] == ["s1"]
    assert images.get(labels[0].key) == path.read_bytes()
    with pytest.raises(DataRefused, match=r"s3://maps/2021/none\.tif: there is no such object"):
        ingest_labels(images, case(), "s3://maps/2021/none.tif", progress=False)
    with pytest.raises(DataRefused, match="no label is found"):
        ingest_labels(images, case(), "s3://maps/elsewhere", progress=False)


def test_scenes_in_a_bucket_get_labels_from_here(tmp_path: Path, bucket: Any) -> None:
    store = Store("s3://maps/store")
    scene(tmp_path / "in", "s1")
    bring(store, tmp_path / "in")
    path = big_map(tmp_path / "cover.tif")
    _, labels, _ = ingest_labels(store, case(), str(path), progress=False)
    (tmp_path / "label.tif").write_bytes(store.get(labels[0].key))
    with rasterio.open(tmp_path / "label.tif") as dataset:
        assert np.array_equal(dataset.read(1), expected())
        assert dataset.transform == Affine(10, 0, 500_000, 0, -10, 4_200_000)


def test_secrets_of_an_address_are_neither_told_nor_kept(web: tuple[str, Path, list[int]], images: Store) -> None:
    address, _, _ = web
    signed = f"{address.replace('//', '//user:word@')}/none.tif?signature=secret"
    with pytest.raises(DataRefused) as caught:
        ingest_labels(images, case(), signed, progress=False)
    assert caught.value.where == f"{address}/none.tif"
    assert LabelSource(signed).where == f"{address}/none.tif"
    with pytest.raises(TemporaryFailure) as failed:
        ingest_labels(images, case(), "http://127.0.0.1:9/map.tif?signature=secret", progress=False)
    assert "secret" not in str(failed.value)
