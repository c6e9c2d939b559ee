"""What poisons a model is refused by file, reason and fix; a pair is stored whole or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.rpc import RPC

from eo_data.cli import main
from eo_data.errors import TemporaryFailure
from eo_data.ingest import ingest
from eo_data.scene import list_scenes
from eo_data.store import Store
from eo_data.usecase import UseCase

from .conftest import ROOT, S2_BANDS, write_tiff

WATER = UseCase.load(str(ROOT / "usecases" / "water"))
PIXELS = np.random.default_rng(0).integers(500, 3000, (13, 48, 40)).astype(np.uint16)
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


def infinite(path: Path) -> None:
    pixels = PIXELS.astype(np.float32)
    pixels[6, 47, 3] = -np.inf
    write_tiff(path, pixels, names=S2_BANDS)


def annex_link(path: Path) -> None:
    path.symlink_to("../.git/annex/objects/Xk/2W/SHA256E-s123--ab.tif/SHA256E-s123--ab.tif")


def rational(path: Path) -> None:
    write_tiff(path, PIXELS, names=S2_BANDS, crs=None)
    terms = [1.0, *[0.0] * 19]
    with rasterio.open(path, "r+") as dataset:
        dataset.rpcs = RPC(
            height_off=0, height_scale=1, lat_off=40, lat_scale=1, line_den_coeff=terms, line_num_coeff=terms,
            line_off=24, line_scale=24, long_off=-5, long_scale=1, samp_den_coeff=terms, samp_num_coeff=terms,
            samp_off=20, samp_scale=20,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "said", "fix"),
    [
        (lambda path: path.write_bytes(b""), "the file is empty", "Fetch or write"),
        (
            lambda path: path.write_text("\n<!DOCTYPE html><html><head><title> Sign\n in </title></head></html>"),
            "an HTML page, not a raster: Sign in.",
            "logged in",
        ),
        (lambda path: path.write_text("<HTML>"), "an HTML page, not a raster.", "right address"),
        (lambda path: path.write_text(LFS), "a pointer of Git LFS, not the data", "git lfs pull"),
        (
            lambda path: path.write_text("/annex/objects/SHA256E-s123--ab.tif\n"),
            "pointer of git-annex",
            "git annex get",
        ),
        (annex_link, "a pointer of git-annex, not the data", "git annex get"),
        (rational, "georeferenced by RPCs only", "gdalwarp -rpc"),
        (infinite, "1 pixels or more are infinite, first in band 7", "NaN"),
    ],
)
@pytest.mark.parametrize("kind", ["images", "labels"])
def test_what_is_no_data_is_refused_with_its_pair(
    tmp_path: Path, make: Callable[[Path], Any], said: str, fix: str, kind: str
) -> None:
    root, store = tmp_path / "source", Store(str(tmp_path / "store"))
    write_tiff(root / "images" / "good.tif", PIXELS, names=S2_BANDS)
    write_tiff(root / "images" / "bad.tif", PIXELS, names=S2_BANDS)
    write_tiff(root / "labels" / "bad.tif", PIXELS[:1] % 2)
    (bad := root / kind / "bad.tif").unlink()
    make(bad)
    result = ingest(store, WATER, str(root), progress=False)
    assert result["scenes"]["added"] == ["good"]
    assert list(result["scenes"]["refused"]) == ["bad"]
    told = result["scenes"]["refused"]["bad"]
    assert told.startswith(f"{bad}: ")
    assert said in told
    assert fix in told
    assert not [key for key in store.list("") if "bad" in key.replace(".", "/").split("/")]  # a digest may hold "bad"


@pytest.mark.parametrize("nodata", [float("inf"), float("-inf"), float("nan")])
def test_what_is_declared_as_nodata_is_no_fault(tmp_path: Path, nodata: float) -> None:
    pixels = PIXELS.astype(np.float32)
    pixels[:, :10] = nodata
    write_tiff(tmp_path / "source" / "images" / "s1.tif", pixels, names=S2_BANDS, nodata=nodata)
    store = Store(str(tmp_path / "store"))
    assert ingest(store, WATER, str(tmp_path / "source"), progress=False)["scenes"]["added"] == ["s1"]
    with list_scenes(store)[0].image(WATER.data) as image:
        assert np.array_equal(image.read_all()[1], np.arange(48)[:, None].repeat(40, 1) >= 10)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB; a skip where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root can mount a small file system")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no small file system can be mounted here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def noise(root: Path, name: str) -> None:
    pixels = np.random.default_rng(len(name)).integers(0, 65535, (13, 128, 128)).astype(np.uint16)  # 420 KB
    write_tiff(root / "images" / f"{name}.tif", pixels, names=S2_BANDS)
    write_tiff(root / "labels" / f"{name}.tif", np.zeros((1, 128, 128), np.uint8))


def test_a_full_store_ends_with_75_and_nothing_half_written_can_be_seen(
    tmp_path: Path, tiny_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source, store = tmp_path / "source", Store(str(tiny_disk / "store"))
    for name in ("a", "b", "c"):
        noise(source, name)
    flags = ["ingest", "--usecase", "water", "--store", store.uri, "--source", str(source)]
    assert main(flags) == 75
    told = capfd.readouterr().err
    assert "the store is full" in told
    assert "Make room" in told
    assert [scene.id for scene in list_scenes(store)] == ["a", "b"]
    with list_scenes(store)[1].image(WATER.data) as image:
        image.read_all()
    assert not list(tiny_disk.rglob("*#*"))
    assert store.list("batches") == []
    subprocess.run(["mount", "-o", "remount,size=4m", str(tiny_disk)], check=True)
    result = ingest(store, WATER, str(source), progress=False)
    assert result["scenes"] == {"added": ["c"], "present": ["a", "b"], "refused": {}}


def test_a_small_record_on_a_full_store_is_a_clear_failure_too(tiny_disk: Path) -> None:
    store = Store(str(tiny_disk))
    (tiny_disk / "filler").write_bytes(bytes(2**20 - 8192))
    with pytest.raises(TemporaryFailure, match="the store is full"):
        store.put_new("batches/1.json", bytes(100_000))
    assert store.list("batches") == []
