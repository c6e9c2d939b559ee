"""Ingest: strange files are refused by name, what is kept is what was given."""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from eo_data import decoding
from eo_data.errors import DataRefused
from eo_data.features import feature_row
from eo_data.ingest import ingest
from eo_data.scene import Scene, list_scenes
from eo_data.store import Store
from eo_data.usecase import UseCase

from .conftest import ROOT, S2_BANDS, write_tiff

WATER = UseCase.load(str(ROOT / "usecases" / "water"))
PIXELS = np.random.default_rng(0).integers(500, 3000, (13, 48, 40)).astype(np.uint16)
UTM = Affine(10, 0, 500_000, 0, -10, 4_200_000)


def write(path: Path, pixels: Any = PIXELS, **how: Any) -> Path:
    return write_tiff(path, pixels, **{"names": S2_BANDS[: len(pixels)], **how})


def brought(tmp_path: Path, make: Callable[[Path], Any]) -> tuple[dict[str, str], Store]:
    """Ingest one strange scene beside a good one; what was refused, and the store."""
    root = tmp_path / "source"
    write(root / "images" / "good.tif")
    make(root / "images" / "strange.tif")
    store = Store(str(tmp_path / "store"))
    scenes = ingest(store, WATER, str(root), progress=False)["scenes"]
    assert "good" in scenes["added"]
    assert set(scenes["added"]) | set(scenes["refused"]) == {"good", "strange"}
    return scenes["refused"], store


def header(path: Path, **fields: int) -> None:
    """A small TIFF whose header claims something else."""
    tags = {"width": 256, "height": 257, "bands": 277}
    write_tiff(path, PIXELS[:1], crs=None)
    data = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, entry)
        for name, value in fields.items():
            if tag == tags[name]:
                struct.pack_into("<HII", data, entry + 2, 4, 1, value)  # one LONG
    path.write_bytes(data)


def control_points(path: Path) -> None:
    points = [GroundControlPoint(row, col, -5 + col / 1e3, 40 - row / 1e3) for row in (0, 48) for col in (0, 40)]
    write(path, crs=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "r+") as dataset:
            dataset.gcps = points, rasterio.CRS.from_epsg(4326)


def sparse(path: Path) -> None:
    write(path)
    shape = {"width": 200_000, "height": 200_000, "count": 13}
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint16", crs="EPSG:32630", transform=UTM, SPARSE_OK=True, tiled=True,
        blockxsize=4096, blockysize=4096, compress="deflate", BIGTIFF="YES", **shape,
    ):  # fmt: skip
        pass


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_bytes(b"II*\0"), "truncated or damaged"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)), "no GeoTIFF"),
        (lambda path: path.write_text('<VRTDataset rasterXSize="1" rasterYSize="1"/>'), "no GeoTIFF"),
        (lambda path: header(path, bands=0), "truncated or damaged"),
        (lambda path: header(path, bands=900), "truncated or damaged"),
        (lambda path: header(path, bands=60_000), "claims 60000 bands of 48 x 40 pixels"),
        (lambda path: header(path, width=0), "truncated or damaged"),
        (lambda path: header(path, width=2_000_000_000), "claims 1 bands of 48 x 2000000000 pixels"),
        (lambda path: header(path, height=2_000_000_000), "claims 1 bands of 2000000000 x 40 pixels"),
        (lambda path: header(path, width=100_000, height=100_000), "claims 1 bands of 100000 x 100000 pixels"),
        (
            lambda path: header(path, width=2_000_000_000, height=2_000_000_000),
            "claims 1 bands of 2000000000 x 2000000000",
        ),
        (sparse, "claims 13 bands of 200000 x 200000 pixels"),
        (lambda path: write(path, crs=None), "no CRS, no place and no list"),
        (control_points, "4 ground control points only. Bring it on a grid with gdalwarp"),
        (lambda path: write(path, transform=Affine.identity()), "no transform that places it"),
        (lambda path: write(path, crs="EPSG:4326", transform=Affine.identity()), "no transform that places it"),
        (lambda path: write(path, transform=Affine(0, 0, 5e5, 0, 0, 4.2e6)), "no transform that places it"),
        (
            lambda path: write(path, transform=UTM @ Affine.rotation(30)),
            "rotated or sheared. Bring it north up with gdal",
        ),
        (lambda path: write(path, transform=UTM @ Affine.scale(-1, 1)), "mirrored"),
        (lambda path: write(path, transform=Affine(10, 0, float("nan"), 0, -10, 0)), "no transform that places it"),
        (lambda path: write(path, transform=Affine(10, 0, float("inf"), 0, -10, 0)), "no transform that places it"),
        (lambda path: write(path, crs='LOCAL_CS["a desk",UNIT["metre",1]]', transform=UTM), "neither geographic nor"),
        (lambda path: write(path, crs="EPSG:4978", transform=UTM), "neither geographic nor"),
        (lambda path: write(path, crs="EPSG:4326", transform=Affine(10, 0, 500, 0, -10, 900)), "not lie on Earth"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(tmp_path: Path, make: Callable[[Path], Any], said: str) -> None:
    refused, store = brought(tmp_path, make)
    assert said in refused["strange"]
    assert "strange.tif" in refused["strange"]
    assert not [key for key in store.list("") if "strange" in key]


HALF = np.zeros((48, 40), np.uint8)
HALF[:24] = 255


def masked(path: Path, mask: NDArray[np.uint8] = HALF) -> None:
    write(path)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)


def with_alpha(path: Path) -> None:
    write(path, np.concatenate([PIXELS, HALF[None].astype(np.uint16)]), names=S2_BANDS)
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.gray, *[ColorInterp.undefined] * 12, ColorInterp.alpha]


def as_float(path: Path, nodata: float, missing: float) -> None:
    write(path, np.where(HALF == 255, PIXELS, missing).astype(np.float32), nodata=nodata)


@pytest.mark.parametrize(
    ("make", "fault", "invalid"),
    [
        (lambda path: write(path, PIXELS[:, :1, :1]), "", 0.0),
        (lambda path: write(path, PIXELS[::-1], names=S2_BANDS[::-1]), "", 0.0),
        (lambda path: write(path, BIGTIFF="YES"), "", 0.0),
        (lambda path: write(path, ENDIANNESS="BIG"), "", 0.0),
        (lambda path: write(path, interleave="band", tiled=True, blockxsize=16, blockysize=16), "", 0.0),
        (lambda path: write(path, crs="EPSG:4326", transform=Affine(1e-4, 0, 179.999, 0, -1e-4, -17)), "", 0.0),
        (lambda path: write(path, crs="EPSG:32630+5773", transform=UTM), "", 0.0),
        (lambda path: write(path, names=()), "", 0.0),
        (lambda path: write(path, np.where(HALF == 255, PIXELS, 0).astype(np.uint16)), "", 0.5),  # the use case's 0
        (lambda path: write(path, np.where(HALF == 255, PIXELS, 7).astype(np.uint16), nodata=7), "", 0.5),
        (lambda path: as_float(path, float("nan"), float("nan")), "", 0.5),
        (lambda path: as_float(path, -3.4028234663852886e38, -3.4028234663852886e38), "", 0.5),
        (lambda path: as_float(path, -9999, float("nan")), "", 0.5),
        (masked, "", 0.5),
        (with_alpha, "", 0.5),
        (lambda path: write(path, PIXELS[:1].astype(np.uint8), names=()), "1 bands without descriptions, but 13", None),
        (lambda path: write(path, PIXELS[:3]), "band B04 is missing", None),
        (lambda path: write(path, PIXELS.astype(np.complex64)), "complex values", None),
        (lambda path: write(path, PIXELS.astype(np.complex64), dtype="complex_int16"), "complex values", None),
    ],
)
def test_what_can_be_kept_is_read_right_or_its_fault_is_a_feature(
    tmp_path: Path, make: Callable[[Path], Any], fault: str, invalid: float | None
) -> None:
    refused, store = brought(tmp_path, make)
    assert refused == {}
    row = feature_row(store, Scene.find(store, "strange"), None, WATER.data)
    assert row["bands_fault"].startswith(fault)
    assert bool(row["bands_fault"]) == bool(fault)
    assert row["invalid_fraction"] == invalid
    json_values = [value for value in row.values() if isinstance(value, float)]
    assert np.isfinite(json_values).all()


def test_reflectance_hides_what_a_mask_hides(tmp_path: Path) -> None:
    for name, make in (("mask", masked), ("alpha", with_alpha)):
        _, store = brought(tmp_path / name, make)
        with Scene.find(store, "strange").image(WATER.data) as image:
            pixels, valid = image.read_all()
            part, part_valid = image.read(20, 10, 10, 20)
        expected = PIXELS[[1, 2, 3, 7, 11, 12]].astype(np.float32)
        assert np.array_equal(valid, HALF == 255)
        assert np.array_equal(pixels, np.where(valid, expected, 0))
        assert np.array_equal(part, pixels[:, 20:30, 10:30])
        assert np.array_equal(part_valid, valid[20:30, 10:30])


def contents(store: Store) -> list[str]:
    return [scene.content for scene in list_scenes(store)]


def rewritten(tmp_path: Path, make: Callable[[Path], Any], name: str) -> str:
    """The content hash of a scene as `make` writes it."""
    make(tmp_path / name / "images" / "s1.tif")
    store = Store(str(tmp_path / name / "store"))
    ingest(store, WATER, str(tmp_path / name), progress=False)
    (content,) = contents(store)
    return content


def test_the_content_is_pixels_grid_and_radiometry_not_how_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = rewritten(tmp_path, write, "plain")
    assert (
        rewritten(tmp_path, lambda p: write(p, compress="lzw", tiled=True, blockxsize=16, blockysize=16), "lzw")
        == plain
    )
    assert rewritten(tmp_path, lambda p: write(p, ENDIANNESS="BIG", interleave="band"), "big") == plain
    changed = PIXELS.copy()
    changed[12, 47, 39] += 1
    others = [
        rewritten(tmp_path, lambda p: write(p, changed), "pixel"),
        rewritten(tmp_path, lambda p: write(p, transform=UTM @ Affine.translation(1, 0)), "moved"),
        rewritten(tmp_path, lambda p: write(p, crs="EPSG:32631"), "zone"),
        rewritten(tmp_path, lambda p: write(p, nodata=0), "nodata"),
        rewritten(tmp_path, lambda p: write(p, names=S2_BANDS[::-1]), "names"),
        rewritten(tmp_path, lambda p: masked(p, HALF[::-1]), "masked otherwise"),
        rewritten(tmp_path, masked, "masked"),
    ]
    assert len({plain, *others}) == 8
    monkeypatch.setattr(decoding, "STRIP_BYTES", 13 * 40 * 2 * 5)  # five rows at a time
    assert rewritten(tmp_path, write, "strips") == plain
    assert rewritten(tmp_path, masked, "strips-masked") == others[-1]


def test_a_scene_whose_item_came_later_is_another_content(tmp_path: Path) -> None:
    root, store = tmp_path / "source", Store(str(tmp_path / "store"))
    write(root / "images" / "s1.tif")
    ingest(store, WATER, str(root), progress=False)
    (root / "items").mkdir()
    for baseline in ("04.00", "02.09"):
        item = {"properties": {"s2:processing_baseline": baseline}}
        (root / "items" / "s1.json").write_text(json.dumps(item))
        assert ingest(store, WATER, str(root), progress=False)["scenes"]["added"] == ["s1"]
        with Scene.find(store, "s1").image(WATER.data) as image:
            assert image.radiometry.source == "stac-baseline"
            assert image.read(0, 0, 1, 1)[0][0, 0, 0] == PIXELS[1, 0, 0] - (1000 if baseline == "04.00" else 0)
    assert len(contents(store)) == 3


def test_a_row_too_long_for_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "STRIP_BYTES", 13 * 40 * 2 - 1)
    write(tmp_path / "source" / "images" / "s1.tif")
    with pytest.raises(DataRefused, match="claims 13 bands of 48 x 40 pixels"):
        ingest(Store(str(tmp_path / "store")), WATER, str(tmp_path / "source"), progress=False)


def test_the_files_are_kept_byte_by_byte(tmp_path: Path) -> None:
    root = tmp_path / "source"
    image, label = write(root / "images" / "s1.tif"), root / "labels" / "s1.tif"
    write_tiff(label, HALF[None] // 255)
    store = Store(str(tmp_path / "store"))
    ingest(store, WATER, str(root), progress=False)
    assert Path(Scene.find(store, "s1").raster_path).read_bytes() == image.read_bytes()
    (key,) = [key for key in store.list("labels") if key.endswith(".tif")]
    assert store.get(key) == label.read_bytes()
    assert store.get_json(key.replace("label.tif", "label.json"))["values"] == {"0": 24 * 40, "1": 24 * 40}


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"pixels": np.zeros((1, 48, 41), np.uint8)}, "size 48 x 41, the image has 48 x 40"),
        ({"crs": "EPSG:32631"}, "CRS EPSG:32631, the image has EPSG:32630"),
        ({"crs": None}, "CRS none"),
        ({"transform": UTM @ Affine.translation(0.01, 0)}, "a shifted or scaled grid"),
        ({"transform": UTM @ Affine.scale(1, -1)}, "a shifted or scaled grid"),
        ({"transform": Affine(0, 0, 5e5, 0, 0, 4.2e6)}, "no transform that places it"),
    ],
)
def test_a_label_on_another_grid_is_refused_with_its_scene(tmp_path: Path, how: dict[str, Any], said: str) -> None:
    root = tmp_path / "source"
    write(root / "images" / "good.tif")
    write(root / "images" / "s1.tif")
    write_tiff(root / "labels" / "s1.tif", how.pop("pixels", np.zeros((1, 48, 40), np.uint8)), **how)
    result = ingest(Store(str(tmp_path / "store")), WATER, str(root), progress=False)
    assert result["scenes"]["added"] == ["good"]
    assert said in result["scenes"]["refused"]["s1"]
    assert "labels/s1.tif" in result["scenes"]["refused"]["s1"]
    assert result["labels"] == {"added": [], "present": [], "refused": {}}  # said once


def test_a_label_off_by_a_rounding_error_fits(tmp_path: Path) -> None:
    root = tmp_path / "source"
    write(root / "images" / "s1.tif")
    write_tiff(root / "labels" / "s1.tif", np.zeros((1, 48, 40), np.uint8), transform=UTM @ Affine.translation(1e-5, 0))
    assert ingest(Store(str(tmp_path / "store")), WATER, str(root), progress=False)["labels"]["added"] == ["s1"]
