"""The map of the splits: what it shows, and where."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image

from eo_data.chips import chip
from eo_data.cutting import chip_grid
from eo_data.dataset import ChipRecord, Manifest, SceneRecord
from eo_data.split_map import COLORS, LEFT_OUT, Footprints, split_map
from eo_data.store import Store
from eo_data.usecase import SPLITS, Split

from .test_chips import small_usecase, write_pairs
from .verdicts_by_hand import accept

SIZE = 128


def record(scene: str, split: Split, top: int = 0, left: int = 0, grid: GeoBox | None = None) -> ChipRecord:
    where: dict[str, float] = {}
    if grid is not None:
        x, y = chip_grid(grid, top, left, SIZE).extent.to_crs("EPSG:4326").centroid.coords[0]
        where = {"longitude": x, "latitude": y}
    return ChipRecord(
        scene=scene, shard="", index=0, top=top, left=left, split=split, cell="", valid_fraction=1.0,
        class_counts=(1, 1), **where,
    )  # fmt: skip


def manifest(chips: list[ChipRecord], lists: dict[str, str] | None = None) -> Manifest:
    scenes = tuple(
        SceneRecord(
            id=id_, uri="", collection="", pixels="", label="", grid="", radiometry="", bands=(1,), place=None,
            source_split=(lists or {}).get(id_), simulated=False,
        )
        for id_ in dict.fromkeys(one.scene for one in chips)
    )  # fmt: skip
    return Manifest(
        digest="0" * 64, chip_format=2, usecase="water", usecase_data_digest="", bands=("B02",), classes=("a", "b"),
        chip_size=SIZE, scenes=scenes, chips=tuple(chips), dropped={"reason": 1}, git_commit=None,
    )  # fmt: skip


def pixels(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def painted(picture: NDArray[np.uint8], color: str) -> NDArray[np.bool_]:
    """Where the map, below the legend, has a colour."""
    paint = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)])
    return np.asarray((picture[140:] == paint).all(axis=-1))


def middle(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean column and row."""
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())


def utm(x: float, y: float, size: int, crs: str = "EPSG:32630") -> GeoBox:
    return GeoBox((size, size), Affine(10, 0, x, 0, -10, y), crs)


def test_chips_of_a_scene_lie_where_they_lie_in_it() -> None:
    grid = utm(400_000, 4_600_000, 2 * SIZE)
    corners = {"train": (0, 0), "validation": (0, SIZE), "holdout": (SIZE, 0)}
    chips = [record("s", split, top, left, grid) for split, (top, left) in corners.items()]  # type: ignore[arg-type]
    shown = manifest(chips)
    picture = pixels(split_map(shown, Footprints.of(shown, {"s": grid}, {"s": [(SIZE, SIZE, "reason")]})))
    found = {split: middle(painted(picture, COLORS[split])) for split in ("train", "validation", "holdout")}
    left_out = middle(painted(picture, LEFT_OUT))
    across, down = found["validation"][0] - found["train"][0], found["holdout"][1] - found["train"][1]
    assert across > 100
    assert down == pytest.approx(across, rel=0.1)  # squares stay squares away from the equator too
    assert left_out == pytest.approx((found["validation"][0], found["holdout"][1]), abs=20)


def test_far_scenes_are_dots_north_up_and_east_to_the_right() -> None:
    grids = {
        "lisbon": utm(480_000, 4_290_000, SIZE, "EPSG:32629"),
        "oslo": utm(597_000, 6_640_000, SIZE, "EPSG:32632"),
        "kyiv": utm(324_000, 5_590_000, SIZE, "EPSG:32636"),
    }
    sides: dict[str, Split] = {"lisbon": "train", "oslo": "holdout", "kyiv": "test"}
    shown = manifest([record(id_, side, grid=grids[id_]) for id_, side in sides.items()])
    picture = pixels(split_map(shown, Footprints.of(shown, grids, {})))
    places = {id_: middle(painted(picture, COLORS[side])) for id_, side in sides.items()}
    assert places["lisbon"][0] < places["oslo"][0] < places["kyiv"][0]
    assert places["oslo"][1] < places["kyiv"][1] < places["lisbon"][1]


def test_what_lies_on_both_sides_of_the_180th_meridian_stays_together() -> None:
    grids = {
        "west": utm(816_000, 8_100_000, SIZE, "EPSG:32760"),
        "east": utm(184_000, 8_100_000, SIZE, "EPSG:32701"),
    }
    shown = manifest([record("west", "train", grid=grids["west"]), record("east", "test", grid=grids["east"])])
    footprints = Footprints.of(shown, grids, {})
    assert np.ptp(footprints.corners[..., 0]) > 359
    picture = pixels(split_map(shown, footprints))
    west, east = (painted(picture, COLORS[split]) for split in ("train", "test"))
    assert west.sum() > 300  # not dots at the ends of a map of the world
    assert middle(west)[0] < middle(east)[0]


def test_round_a_pole_the_map_is_polar() -> None:
    grids = {str(k): utm(x, y, 400, "EPSG:3413") for k, (x, y) in enumerate([(3e5, 0), (-3e5, 0), (0, 3e5), (0, -3e5)])}
    shown = manifest([record(str(k), split, grid=grids[str(k)]) for k, split in enumerate(SPLITS)])
    picture = pixels(split_map(shown, Footprints.of(shown, grids, {})))
    places = np.array([middle(painted(picture, COLORS[split])) for split in SPLITS])
    distances = np.hypot(*(places - places.mean(axis=0)).T)
    assert distances.min() > 0.9 * distances.max() > 50


def test_scenes_without_crs_are_bars_of_their_lists() -> None:
    chips = [record(f"a{k}", "train") for k in range(6)] + [record(f"b{k}", "validation") for k in range(2)]
    chips += [record(f"c{k}", "test") for k in range(4)]
    lists = {one.scene: "train" if one.scene[0] in "ab" else "test" for one in chips}
    shown = manifest(chips, lists)
    picture = pixels(split_map(shown, Footprints.of(shown, {}, {})))
    area = {split: painted(picture, COLORS[split]).sum() for split in SPLITS}
    assert area["train"] / area["validation"] == pytest.approx(3, rel=0.1)
    assert area["train"] / area["test"] == pytest.approx(1.5, rel=0.1)
    rows = [np.flatnonzero(painted(picture, COLORS[split]).any(axis=1)) for split in ("train", "validation", "test")]
    assert set(rows[0]) == set(rows[1])
    assert not set(rows[0]) & set(rows[2])


def test_a_dataset_has_a_map_that_its_card_shows(tmp_path: Path, store: Store) -> None:
    usecase = small_usecase()
    verdicts = accept(store, usecase, str(write_pairs(tmp_path / "source", 8)))
    folder = store.key(chip(store, usecase, verdicts, progress=False)["dataset"])
    card = store.get(f"{folder}/card.md").decode()
    assert "](map.png)" in card
    assert "at least one chip apart" in card
    picture = pixels(store.get(f"{folder}/map.png"))
    assert all(painted(picture, COLORS[split]).any() for split in SPLITS)
