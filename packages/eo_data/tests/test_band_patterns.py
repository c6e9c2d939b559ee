"""Patterns with a band: several files are one scene, JP2 as well as TIFF, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray

from eo_data.ingest import ingest
from eo_data.scene import Scene
from eo_data.sources.candidate import Candidate
from eo_data.sources.folder import FolderSource
from eo_data.store import Store
from eo_data.usecase import UseCase

from .conftest import write_tiff

RED_NIR = np.random.default_rng(0).integers(500, 3000, (2, 64, 48)).astype(np.uint16)
PLACE = Affine(10, 0, 500_000, 0, -10, 4_200_000)


def usecase(image: str, label: str = "labels/{id}.tif", **data: Any) -> UseCase:
    sections: dict[str, Any] = {
        "data": {
            "sensor": "two bands",
            "bands": [{"name": "B04", "common_name": "red"}, {"name": "B08", "common_name": "nir"}, {"name": "B11"}],
            "inputs": ["B04", "B08"],
            "folders": [{"image": image, "label": label}],
            "classes": [
                {"name": "land", "color": "#d9c9a3", "label_values": [0]},
                {"name": "water", "color": "#1f6fd1", "label_values": [1]},
            ],
            "split": {"salt": "test"},
            **data,
        }
    }
    return UseCase("bands", sections)


def write_jp2(path: Path, pixels: NDArray[np.uint16], transform: Affine = PLACE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG", dtype="uint16", count=bands, height=height, width=width, crs="EPSG:32630",
        transform=transform, QUALITY="100", REVERSIBLE="YES", BLOCKXSIZE=32, BLOCKYSIZE=32,
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
    return path


def offered(root: Path, case: UseCase) -> dict[str, Candidate]:
    return {candidate.id: candidate for candidate in FolderSource(str(root), case.data).candidates()}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{id}/{band}.tif", ["s_1/B04.tif", "s_1/B08.tif"]),
        ("images/{id}_{band}.tif", ["images/s_1_B4.tif", "images/s_1_B8.tif"]),
        ("{id}/{id}_SR_{band}.TIF", ["s_1/s_1_SR_red.TIF", "s_1/s_1_SR_nir.TIF"]),
        ("{id}.SAFE/*/{id}/T*_{band}_*.tif", ["s_1.SAFE/g/s_1/T9_2020_B04_10m.tif", "s_1.SAFE/g/s_1/T9_B08_10m.tif"]),
    ],
)
def test_a_scene_of_several_files_is_one_raster(tmp_path: Path, store: Store, pattern: str, names: list[str]) -> None:
    for name, band in zip(names, RED_NIR, strict=True):
        write_tiff(tmp_path / name, band[None], transform=PLACE)
        write_tiff((tmp_path / name).with_name(f"other_{Path(name).name}"), band[None])  # of no scene, or another
    for stray in (tmp_path / names[0]).parent.glob("other_*"):
        stray.unlink()
    write_tiff(tmp_path / "labels" / "s_1.tif", RED_NIR[:1] % 2, transform=PLACE)
    case = usecase(pattern)
    result = ingest(store, case, str(tmp_path), progress=False)
    assert result["scenes"]["added"] == result["labels"]["added"] == ["s_1"]
    scene = Scene.find(store, "s_1")
    with rasterio.open(scene.raster_path) as dataset:
        assert dataset.driver == "GTiff"
        assert np.array_equal(dataset.read(), RED_NIR)
        assert dataset.transform == PLACE
    with scene.image(case.data) as image:
        assert np.array_equal(image.read_all()[0], RED_NIR)
    assert ingest(store, case, str(tmp_path), progress=False)["scenes"]["present"] == ["s_1"]


def test_a_scene_that_lacks_a_band_is_not_whole(tmp_path: Path, store: Store) -> None:
    for name in ("a/B04", "a/B08", "b/B04", "b/SCL"):
        write_tiff(tmp_path / f"{name}.tif", RED_NIR[:1])
    scenes = ingest(store, usecase("{id}/{band}.tif"), str(tmp_path), progress=False)["scenes"]
    assert scenes["added"] == ["a"]
    assert "no file of band B08 (found: B04, SCL)" in scenes["refused"]["b"]
    assert f"{tmp_path}/b/{{band}}.tif" in scenes["refused"]["b"]


def test_of_a_band_at_several_resolutions_the_finest_counts(tmp_path: Path, store: Store) -> None:
    for band, name in zip(RED_NIR, ("B04", "B08"), strict=True):
        write_tiff(tmp_path / "s1" / "R60m" / f"T_{name}_60m.tif", band[None, ::6, ::6], step=60)
        write_tiff(tmp_path / "s1" / "R10m" / f"T_{name}_10m.tif", band[None])
        write_tiff(tmp_path / "s1" / "R20m" / f"T_{name}_20m.tif", band[None, ::2, ::2], step=20)
    case = usecase("{id}/*/*_{band}_*.tif")
    assert ingest(store, case, str(tmp_path), progress=False)["scenes"]["added"] == ["s1"]
    with rasterio.open(Scene.find(store, "s1").raster_path) as dataset:
        assert np.array_equal(dataset.read(), RED_NIR)


@pytest.mark.parametrize(
    ("names", "bands", "said"),
    [
        (["s1/R1/T_B04_a.tif", "s1/R1/T_red_b.tif", "s1/R1/T_B08_a.tif"], 1, "stands twice: also in"),
        (["s1/R1/T_B04_a.tif", "s1/R1/T_B08_a.tif"], 2, "a band's file has one band, this one has 2"),
    ],
)
def test_it_must_be_clear_which_file_is_the_band(
    tmp_path: Path, store: Store, names: list[str], bands: int, said: str
) -> None:
    for name in names:
        write_tiff(tmp_path / name, RED_NIR[:bands])
    for band in ("B04", "B08"):
        write_tiff(tmp_path / "good" / "R1" / f"T_{band}_a.tif", RED_NIR[:1])
    scenes = ingest(store, usecase("{id}/*/*_{band}_*.tif"), str(tmp_path), progress=False)["scenes"]
    assert scenes["added"] == ["good"]
    assert said in scenes["refused"]["s1"]
    assert str(tmp_path / "s1") in scenes["refused"]["s1"]


def test_a_band_that_changes_changes_the_scenes_fingerprint(tmp_path: Path) -> None:
    for band in ("B04", "B08"):
        write_tiff(tmp_path / "s1" / f"{band}.tif", RED_NIR[:1])
    before = offered(tmp_path, usecase("{id}/{band}.tif"))["s1"].fingerprint
    other = usecase("{id}/{band}.tif", inputs=["B08", "B04"])
    assert offered(tmp_path, other)["s1"].fingerprint != before  # another use case composes another image
    write_tiff(tmp_path / "s1" / "B08.tif", RED_NIR[1:])
    assert offered(tmp_path, usecase("{id}/{band}.tif"))["s1"].fingerprint != before


def test_a_jp2_is_stored_as_a_geotiff(tmp_path: Path, store: Store) -> None:
    write_jp2(tmp_path / "images" / "s1.jp2", RED_NIR)
    write_tiff(tmp_path / "labels" / "s1.tif", RED_NIR[:1] % 2)
    case = usecase("images/{id}.jp2")
    result = ingest(store, case, str(tmp_path), progress=False)
    assert result["scenes"]["added"] == result["labels"]["added"] == ["s1"]
    scene = Scene.find(store, "s1")
    with rasterio.open(scene.raster_path) as dataset:
        assert dataset.driver == "GTiff"
        assert np.array_equal(dataset.read(), RED_NIR)
    assert scene.band_names == ("B04", "B08")


def test_a_jp2_per_band_is_one_geotiff(tmp_path: Path, store: Store) -> None:
    for band, name in zip(RED_NIR, ("B04", "B08"), strict=True):
        write_jp2(
            tmp_path / "s1.SAFE" / "GRANULE" / "L1" / "IMG_DATA" / "R10m" / f"T33_2021_{name}_10m.jp2", band[None]
        )
    case = usecase("{id}.SAFE/GRANULE/*/IMG_DATA/*/*_{band}_*.jp2")
    assert ingest(store, case, str(tmp_path), progress=False)["scenes"]["added"] == ["s1"]
    with rasterio.open(Scene.find(store, "s1").raster_path) as dataset:
        assert np.array_equal(dataset.read(), RED_NIR)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_jp2_is_refused_by_name(tmp_path: Path, store: Store, kept: float) -> None:
    write_jp2(tmp_path / "images" / "good.jp2", RED_NIR)
    path = write_jp2(tmp_path / "images" / "bad.jp2", RED_NIR)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    scenes = ingest(store, usecase("images/{id}.jp2"), str(tmp_path), progress=False)["scenes"]
    assert scenes["added"] == ["good"]
    assert scenes["refused"]["bad"].startswith(f"{path}: ")
    assert "truncated or damaged" in scenes["refused"]["bad"] or "the file is empty" in scenes["refused"]["bad"]


def test_a_jp2_whose_bands_nobody_can_tell_is_refused(tmp_path: Path, store: Store) -> None:
    write_jp2(tmp_path / "images" / "good.jp2", RED_NIR)
    write_jp2(tmp_path / "images" / "one.jp2", RED_NIR[:1])
    scenes = ingest(store, usecase("images/{id}.jp2"), str(tmp_path), progress=False)["scenes"]
    assert scenes["added"] == ["good"]
    assert "1 bands without descriptions, but 3 or 2 are needed" in scenes["refused"]["one"]


LANDSAT: dict[str, Any] = {
    "bands": [{"name": f"B{number}"} for number in range(1, 8)],
    "inputs": ["B2", "B3", "B4", "B5"],
    "reflectance": {"scale": 0.0000275, "offset": -0.2, "nodata": 0},
}


def test_a_real_landsat_scene_is_brought_from_its_bands(test_data: Path, store: Store) -> None:
    root = test_data / "scenes" / "landsat-c2-l2"
    case = usecase("{id}/*_SR_{band}.TIF", **LANDSAT)
    assert ingest(store, case, str(root), progress=False)["scenes"]["added"] == ["LC08_L2SP_005009_20150710"]
    scene = Scene.find(store, "LC08_L2SP_005009_20150710")
    with scene.image(case.data) as image:
        values = image.values(0, 0, 512, 512)
    folder = root / scene.id
    for number, band in enumerate(("B2", "B3", "B4", "B5")):
        with rasterio.open(next(folder.glob(f"*_SR_{band}.TIF"))) as dataset:
            assert np.array_equal(values[number], dataset.read(1))
            assert scene.properties["proj:transform"] == pytest.approx(list(dataset.transform[:6]))


def test_real_sentinel2_bands_at_10_m_are_one_scene(test_data: Path, store: Store) -> None:
    root = test_data / "scenes" / "sentinel-2-l2a-cogs"
    bands = [{"name": "B02"}, {"name": "B03"}, {"name": "B04"}]
    case = usecase("{id}/{band}.tif", bands=bands, inputs=["B02", "B03", "B04"])
    assert ingest(store, case, str(root), progress=False)["scenes"]["added"] == ["S2A_29RKH_20200219_0_L2A"]
    with Scene.find(store, "S2A_29RKH_20200219_0_L2A").image(case.data) as image:
        values = image.values(0, 0, *image.shape)
    for number, name in enumerate(("B02", "B03", "B04")):
        with rasterio.open(root / "S2A_29RKH_20200219_0_L2A" / f"{name}.tif") as dataset:
            assert np.array_equal(values[number], dataset.read(1))
