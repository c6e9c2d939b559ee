"""Files of a band each over HTTP and from S3: what is read of them, and what each failure is told as."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.warp
import requests

from eo_data.errors import DataRefused, TemporaryFailure
from eo_data.sources.compose import BandFile, compose
from eo_data.store import Store
from eo_data.usecase import DataSection, UseCase

from .conftest import ROOT
from .range_server import RangeServer
from .sentinel2_files import COMMON, ORIGIN, SIZE, band_pixels, write_cog, write_scene


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def server(folder: Path) -> Iterator[RangeServer]:
    with RangeServer(folder) as running:
        yield running


@pytest.fixture
def l2a() -> DataSection:
    return UseCase.load(str(ROOT / "usecases" / "water-l2a")).data


@pytest.fixture
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """GDAL gives up at once, as it does after its retries."""
    from eo_data.object_storage import gdal_options

    hasty = {**gdal_options(), "GDAL_HTTP_MAX_RETRY": "0"}
    monkeypatch.setattr("eo_data.sources.compose.gdal_options", lambda: hasty)


def offered(root: str, names: tuple[str, ...] = tuple(COMMON)) -> list[BandFile]:
    return [BandFile(name, f"{root}/{name}.{'jp2' if name == 'B04' else 'tif'}") for name in names]


def only(data: DataSection, *inputs: str) -> DataSection:
    return data.model_copy(update={"inputs": inputs})


def test_of_an_area_only_its_window_is_read(
    server: RangeServer, folder: Path, l2a: DataSection, tmp_path: Path
) -> None:
    x, y = rasterio.warp.transform("EPSG:32632", "EPSG:4326", [606_500, 607_400], [5_093_600, 5_094_400])
    target = tmp_path / "cut.tif"
    compose(offered(server.url), l2a, target, where="scene", area=(x[0], y[0], x[1], y[1]))
    with rasterio.open(target) as dataset:
        column = round((dataset.transform.c - ORIGIN[0]) / 10)
        row = round((ORIGIN[1] - dataset.transform.f) / 10)
        window = np.s_[row : row + dataset.height, column : column + dataset.width]
        bands = dict(zip(dataset.descriptions, dataset.read(), strict=True))
    for name in ("B02", "B03", "B04", "B08"):
        np.testing.assert_array_equal(bands[name], band_pixels(name)[window])
    for name in ("B02", "B03", "B08"):
        whole = (folder / f"{name}.tif").stat().st_size
        assert 0 < server.sent[f"/{name}.tif"] < whole / 8  # a hundredth of the pixels, in whole blocks, and the header
    assert {path for _, path in server.requests} == {f"/{Path(one.href).name}" for one in offered("")}


def test_the_whole_scene_over_http_is_that_of_the_disk(
    server: RangeServer, folder: Path, l2a: DataSection, tmp_path: Path
) -> None:
    server.failures["/B08.tif"] = [503]  # an overloaded server is asked again
    names = ("B02", "B03", "B08")
    compose(offered(server.url, names), only(l2a, *names), tmp_path / "http.tif", where="scene")
    with rasterio.open(tmp_path / "http.tif") as dataset:
        assert dataset.shape == (SIZE, SIZE)
        for number, name in enumerate(names, start=1):
            np.testing.assert_array_equal(dataset.read(number), band_pixels(name))


@pytest.mark.usefixtures("_no_patience")
@pytest.mark.parametrize(
    ("fault", "error", "told"),
    [
        ("absent", DataRefused, r"there is no such file \(HTTP 404\)"),
        ("forbidden", DataRefused, r"refuses access \(HTTP 403\)"),
        ("page", DataRefused, "an HTML page"),
        ("empty", DataRefused, "the file is empty"),
        ("truncated", DataRefused, "truncated or damaged"),
        ("overloaded", TemporaryFailure, "the server does not answer"),
        ("down", TemporaryFailure, "the server does not answer"),
    ],
)
def test_each_failure_names_its_address_and_what_to_do(
    tmp_path: Path, l2a: DataSection, fault: str, error: type[Exception], told: str
) -> None:
    pixels = np.random.default_rng(0).integers(1, 9999, (256, 256)).astype(np.uint16)
    good = write_cog(tmp_path / "B02.tif", pixels, 10)
    path = tmp_path / f"{fault}.tif"
    if fault == "page":
        path.write_text("<!doctype html><html><body>Please sign in</body></html>" + " " * 400)
    elif fault == "truncated":
        path.write_bytes(good.read_bytes()[:60_000])
    elif fault != "absent":
        path.write_bytes(b"" if fault == "empty" else good.read_bytes())
    (tmp_path / "out").mkdir()
    with RangeServer(tmp_path) as server:
        server.failures[f"/{fault}.tif"] = {"forbidden": [403] * 20, "overloaded": [500] * 20}.get(fault, [])
        bad = f"{server.url}/{fault}.tif"
        if fault == "down":
            bad = bad.replace(server.url, "http://127.0.0.1:9")  # nobody listens there
        bands = [BandFile("B02", f"{server.url}/B02.tif"), BandFile("B03", f"{bad}?signature=secret")]
        with pytest.raises(error, match=told) as caught:
            compose(bands, only(l2a, "B02", "B03"), tmp_path / "out" / "all.tif", where="scene")
    assert getattr(caught.value, "where", "") == bad
    assert getattr(caught.value, "fix", "")
    assert "secret" not in str(caught.value)
    assert not list((tmp_path / "out").iterdir())


def test_a_server_that_gives_files_whole_only_is_refused_saying_so(tmp_path: Path, l2a: DataSection) -> None:
    write_cog(tmp_path / "B02.tif", band_pixels("B02"), 10)
    with RangeServer(tmp_path) as server:
        server.ranges = False
        with pytest.raises(DataRefused, match="gives files whole only"):
            compose(offered(server.url, ("B02",)), only(l2a, "B02"), tmp_path / "all.tif", where="scene")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server on a real socket; its URL."""
    from moto.server import ThreadedMotoServer

    for name in ("AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    running = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    url = "http://{}:{}".format(*running.get_host_and_port())
    for name, value in {
        "AWS_ENDPOINT_URL_S3": url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    yield url
    running.stop()


def test_bands_in_s3_are_read_through_the_endpoint_that_the_store_uses(
    s3: str, folder: Path, l2a: DataSection, tmp_path: Path
) -> None:
    requests.put(f"{s3}/scenes", timeout=10).raise_for_status()  # makes the bucket
    for name in ("B02", "B11"):
        Store("s3://scenes").put_new(f"a/{name}.tif", folder / f"{name}.tif")
    compose(offered("s3://scenes/a", ("B02", "B11")), only(l2a, "B02", "B11"), tmp_path / "s3.tif", where="scene")
    with rasterio.open(tmp_path / "s3.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), band_pixels("B02"))
        assert dataset.descriptions == ("B02", "B11")
    with pytest.raises(DataRefused, match=r"B03.tif: there is no such object"):
        compose(offered("s3://scenes/a", ("B02", "B03")), only(l2a, "B02", "B03"), tmp_path / "x.tif", where="scene")


@pytest.mark.parametrize("href", ["/vsimem/secret.tif", "vrt:///etc/passwd", "ftp://127.0.0.1/B02.tif"])
def test_addresses_that_only_gdal_knows_are_refused(l2a: DataSection, tmp_path: Path, href: str) -> None:
    with pytest.raises(DataRefused, match="this address cannot be read"):
        compose([BandFile("B02", href)], only(l2a, "B02"), tmp_path / "x.tif", where="scene")
