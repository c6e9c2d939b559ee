"""An S3 prefix as a source, and a bucket as the store: the same scenes, contents and batches as a folder gives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from eo_data.errors import DataRefused, TemporaryFailure, UsageError
from eo_data.ingest import ingest
from eo_data.object_storage import gdal_options
from eo_data.scene import Scene, list_scenes
from eo_data.sources.prefix import PrefixListing, PrefixSource
from eo_data.store import Store
from eo_data.usecase import UseCase

from .conftest import ROOT, S2_BANDS, water_scene, write_tiff
from .s3_server import s3_server, use_s3

WATER = UseCase.load(str(ROOT / "usecases" / "water"))
HLS = UseCase.load(str(ROOT / "usecases" / "water-hls"))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture
def client(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    return use_s3(monkeypatch, server)


@pytest.fixture
def bucket(client: Any, request: pytest.FixtureRequest) -> str:
    name = f"b{abs(hash(request.node.name)) % 10**10}"
    client.create_bucket(Bucket=name)
    return name


def upload(client: Any, bucket: str, root: Path, prefix: str) -> None:
    for path in sorted(root.rglob("*")):
        if path.is_file():
            client.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(root).as_posix()}")


def test_a_prefix_gives_what_a_folder_gives(
    client: Any, bucket: str, make_folder: Callable[[int], Path], tmp_path: Path
) -> None:
    folder = make_folder(4)
    (folder / "labels" / "s02.tif").unlink()
    (folder / "items").mkdir()
    (folder / "items" / "s01.json").write_text('{"collection": "elsewhere", "properties": {"platform": "sentinel-2b"}}')
    upload(client, bucket, folder, "deep/pairs")
    local = ingest(Store(str(tmp_path / "a")), WATER, str(folder), progress=False)
    remote_store = Store(str(tmp_path / "b"))
    remote = ingest(remote_store, WATER, f"s3://{bucket}/deep/pairs", progress=False)
    assert remote["scenes"]["added"] == ["s00", "s01", "s02", "s03"]
    assert remote["labels"]["added"] == ["s00", "s01", "s03"]
    assert remote["batch"].rpartition("/")[2] == local["batch"].rpartition("/")[2]
    keys = [key for key in Store(str(tmp_path / "a")).list("") if not key.startswith("sources/")]
    assert [key for key in remote_store.list("") if not key.startswith("sources/")] == keys
    with Scene.find(remote_store, "s01").image(WATER.data) as image:
        expected = water_scene(1)[0][[1, 2, 3, 7, 11, 12]]
        assert np.array_equal(image.read_all()[0], expected)
    again = ingest(remote_store, WATER, f"s3://{bucket}/deep/pairs/", progress=False)
    assert again["scenes"]["present"] == ["s00", "s01", "s02", "s03"]
    assert again["batch"] == remote["batch"]


def test_a_bucket_holds_what_a_folder_holds(
    client: Any, bucket: str, make_folder: Callable[[int], Path], tmp_path: Path
) -> None:
    folder = make_folder(2)
    local = ingest(Store(str(tmp_path / "a")), WATER, str(folder), progress=False)
    store = Store(f"s3://{bucket}/store")
    stored = ingest(store, WATER, str(folder), progress=False)
    assert stored["batch"] == f"s3://{bucket}/store/batches/{local['batch'].rpartition('/')[2]}"
    assert store.list("") == Store(str(tmp_path / "a")).list("")
    with rasterio.Env(**gdal_options()), rasterio.open(Scene.find(store, "s00").raster_path) as dataset:
        assert np.array_equal(dataset.read(), water_scene(0)[0])
    assert ingest(store, WATER, str(folder), progress=False)["scenes"]["present"] == ["s00", "s01"]


def test_lists_in_a_bucket_name_their_pairs(client: Any, bucket: str, tmp_path: Path) -> None:
    root = tmp_path / "lists"
    for name in ("x/a", "x/b"):
        write_tiff(root / f"{name}.tif", np.ones((7, 32, 32), np.int16), crs=None)
    (root / "train.csv").write_text("image,label\nx/a.tif,x/b.tif\n../secret.tif,\n/x/a.tif,\nx/gone.tif,\n")
    upload(client, bucket, root, "lists")
    source = PrefixSource(f"s3://{bucket}/lists", HLS.data)
    found = {candidate.id: candidate for candidate in source.candidates()}
    assert found["a"].where == f"s3://{bucket}/lists/x/a.tif"
    assert found["a"].label == f"s3://{bucket}/lists/x/b.tif"
    assert [c.id for c in found.values() if "outside the prefix" in str(c.fault)] == [
        "train.csv, line 3",
        "train.csv, line 4",
    ]
    with pytest.raises(DataRefused, match=r"lists/x/gone\.tif: there is no such object"):
        source.fetch(found["gone"], tmp_path)


def test_an_object_that_changed_since_it_was_listed_is_not_taken(client: Any, bucket: str, tmp_path: Path) -> None:
    for name in ("changed", "gone"):
        client.put_object(Bucket=bucket, Key=f"images/{name}.tif", Body=b"II*\0 first")
    source = PrefixSource(f"s3://{bucket}", WATER.data)
    changed, gone = source.candidates()
    client.put_object(Bucket=bucket, Key="images/changed.tif", Body=b"II*\0 other")
    client.delete_object(Bucket=bucket, Key="images/gone.tif")
    for candidate in (changed, gone):
        with pytest.raises(DataRefused, match=rf"images/{candidate.id}\.tif: the object has gone or changed"):
            source.fetch(candidate, tmp_path)


def test_a_reissued_object_is_fetched_again(client: Any, bucket: str, store: Store, tmp_path: Path) -> None:
    for seed in (1, 2):
        root = tmp_path / str(seed)
        write_tiff(root / "images" / "s1.tif", water_scene(seed, 32)[0], names=S2_BANDS)
        upload(client, bucket, root, "p")
        assert ingest(store, WATER, f"s3://{bucket}/p", progress=False)["scenes"]["added"] == ["s1"]
    assert len(list_scenes(store)) == 2


def test_a_large_file_goes_to_a_bucket_in_parts(
    client: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eo_data.store._IN_ONE_PIECE", 2**20)
    data = np.random.default_rng(0).bytes(12 * 2**20)
    (tmp_path / "big.tif").write_bytes(data)
    store = Store(f"s3://{bucket}")
    assert store.put_new("big.tif", tmp_path / "big.tif") is True
    assert store.put_new("big.tif", tmp_path / "big.tif") is False
    assert store.get("big.tif") == data
    assert "-" in client.head_object(Bucket=bucket, Key="big.tif")["ETag"]  # how S3 marks an upload in parts


@pytest.mark.parametrize(
    ("uri", "kind", "said"),
    [
        ("s3://", UsageError, "names no bucket"),
        ("s3://no-such-bucket/pairs", UsageError, "no such bucket"),
        ("s3://{bucket}/empty", DataRefused, "no image is found"),
    ],
)
def test_a_prefix_that_offers_nothing_says_why(
    client: Any, bucket: str, uri: str, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        PrefixSource(uri.format(bucket=bucket), WATER.data).candidates()


LISTING = b"""<?xml version="1.0"?><ListBucketResult><Name>b</Name><Prefix></Prefix><IsTruncated>false</IsTruncated>
<Contents><Key>images/s1.tif</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"1"</ETag>
<Size>1000</Size></Contents></ListBucketResult>"""


class _DiesHalfWay(BaseHTTPRequestHandler):
    """Lists an object of 1000 bytes, sends 500 of it, then nothing."""

    def do_GET(self) -> None:
        listing = "list-type" in self.path
        body = LISTING if listing else bytes(500)
        self.send_response(200)
        self.send_header("content-length", str(len(body) if listing else 1000))
        self.send_header("etag", '"1"')
        self.send_header("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_server_that_dies_half_way_leaves_nothing_and_may_be_asked_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _DiesHalfWay)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    use_s3(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    try:
        with pytest.raises(TemporaryFailure, match=r"s3://b/images/s1\.tif: the source"):
            ingest(store, WATER, "s3://b", progress=False)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert store.list("") == []


def test_a_pattern_of_the_top_lists_the_top_only(client: Any, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("a.tif", "deep/b.tif"):
        client.put_object(Bucket=bucket, Key=key, Body=b"-")
    assert PrefixListing(f"s3://{bucket}").find("*/*.tif") == ["deep/b.tif"]
    monkeypatch.setattr("obstore.list", lambda *_: pytest.fail("the whole bucket is listed"))
    assert PrefixListing(f"s3://{bucket}").find("*.tif") == ["a.tif"]
