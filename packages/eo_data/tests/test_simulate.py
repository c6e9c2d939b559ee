"""The simulated scenes: deterministic, honest about what they are, and whole or absent on disk."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from eo_data.errors import UsageError
from eo_data.radiometry import choose_radiometry
from eo_data.reflectance import Reflectance
from eo_data.simulate import BANDS, COLLECTION, DEFAULT_SCENES, DEFAULT_SIZE, simulate_scene, write_scenes
from eo_data.simulate import scene as scene_module
from eo_data.simulate.ground import Ground, GroundModel
from eo_data.simulate.noise import FractalField
from eo_data.simulate.places import MAX_SIZE, place
from eo_data.simulate.recipe import Recipe, Sky, Water, draw_recipe
from eo_data.simulate.scene import IGNORE, LAND, WATER, SimulatedScene
from eo_data.simulate.spectra import SURFACE, WATER_MATERIALS, Material
from eo_data.split import place_chip
from eo_data.usecase import SplitRule, UseCase

NAMES = [band.name for band in BANDS]
GREEN, RED, NIR = (NAMES.index(name) for name in ("B03", "B04", "B08"))
SHARES = {"train": 0.5, "validation": 0.15, "holdout": 0.175, "test": 0.175}


@pytest.fixture(scope="module")
def default_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default set on disk."""
    out = tmp_path_factory.mktemp("default") / "scenes"
    ids = write_scenes(out, scenes=DEFAULT_SCENES, size=DEFAULT_SIZE, seed=0)
    assert len(ids) == len(set(ids)) == DEFAULT_SCENES
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def reflectance(scene: SimulatedScene) -> NDArray[np.float32]:
    return scene.dn.astype(np.float32) * np.float32(1e-4) + np.float32(scene.offset)


def difference(values: NDArray[np.float32], first: int, second: int) -> NDArray[np.float32]:
    """A normalised difference of two bands."""
    total: NDArray[np.float32] = np.maximum(values[first] + values[second], np.float32(1e-6))
    result: NDArray[np.float32] = (values[first] - values[second]) / total
    return result


def first_recipe(size: int, *, water: Water | None = None, sky: Sky | None = None, collar: bool = False) -> Recipe:
    """The first recipe of seed 0 that shows this."""
    for number in range(400):
        recipe = draw_recipe(number, size, 0)
        if (water in (None, recipe.water)) and (sky in (None, recipe.sky)) and recipe.collar == collar:
            return recipe
    raise AssertionError("no such recipe among 400")


def ground_of(recipe: Recipe) -> Ground:
    elevation = FractalField(recipe.rng(6), recipe.size, 2.0, longest=max(140.0, recipe.size / 1.5))
    return GroundModel(recipe, elevation).draw((0, recipe.size))


# --- determinism


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_scenes(tmp_path / name, scenes=5, size=72, seed=3)
    one = files(tmp_path / "one")
    assert one == files(tmp_path / "two")
    assert len(one) == 5 * 3 + 3


def test_another_seed_gives_other_scenes() -> None:
    assert not np.array_equal(simulate_scene(0, 40, 0).dn, simulate_scene(0, 40, 1).dn)
    assert simulate_scene(0, 40, 0).geobox != simulate_scene(0, 40, 1).geobox


def test_a_scene_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    write_scenes(tmp_path / "few", scenes=2, size=48, seed=0)
    write_scenes(tmp_path / "many", scenes=19, size=48, seed=0)
    many = files(tmp_path / "many")
    few = {name: data for name, data in files(tmp_path / "few").items() if "simulated-s0-" in name}
    assert len(few) == 6
    assert {name: many[name] for name in few} == few


def test_strips_change_nothing_but_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = simulate_scene(2, 75, 0)
    monkeypatch.setattr(scene_module, "_STRIP_PIXELS", 75 * 12)
    strips = simulate_scene(2, 75, 0)
    assert np.array_equal(whole.label, strips.label)
    assert np.abs(reflectance(whole) - reflectance(strips)).mean() < 0.004


@pytest.mark.parametrize("size", [100, 1000])  # one FFT; long waves interpolated and a repeating texture
def test_a_field_is_the_same_on_any_window(size: int) -> None:
    field = FractalField(np.random.default_rng(0), size, 1.5)
    whole = field.pixels((0, size), (0, size))
    assert np.array_equal(field.pixels((30, 60), (7, size)), whole[30:60, 7:])
    fine = field.subpixels((30, 60), (0, size))
    assert np.array_equal(fine[1::3, 1::3], whole[30:60])
    assert 0.4 < whole.std() < 1.6


# --- sizes


@pytest.mark.parametrize("size", [1, 2, 17, 31, 129, 900])
def test_any_size(size: int) -> None:
    scene = simulate_scene(7, size, 0)
    assert scene.dn.shape == (13, size, size)
    assert scene.dn.dtype == np.uint16
    assert scene.label.shape == scene.geobox.shape == (size, size)
    assert scene.label.dtype == np.uint8
    assert set(np.unique(scene.label)) <= {LAND, WATER, IGNORE}


@pytest.mark.parametrize(
    ("scenes", "size", "seed", "where"),
    [(0, 64, 0, "--scenes"), (1, 0, 0, "--size"), (1, MAX_SIZE + 1, 0, "--size"), (1, 64, -1, "--seed")],
)
def test_impossible_arguments_are_refused(tmp_path: Path, scenes: int, size: int, seed: int, where: str) -> None:
    with pytest.raises(UsageError) as refusal:
        write_scenes(tmp_path / "out", scenes=scenes, size=size, seed=seed)
    assert refusal.value.where == where
    assert not (tmp_path / "out").exists()


def test_more_large_scenes_than_fit_on_land_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no room"):
        write_scenes(tmp_path / "out", scenes=100_000, size=MAX_SIZE, seed=0)
    assert not (tmp_path / "out").exists()


# --- places


@pytest.mark.parametrize(("size", "numbers"), [(MAX_SIZE, range(300)), (256, range(0, 9000, 23))])
def test_scenes_never_overlap(size: int, numbers: range) -> None:
    places = [place(number, size, 0) for number in numbers]
    side = size * 10 * 1.06 / 111_200  # degrees of latitude, turned by the grid's convergence
    for one, other in combinations(places, 2):
        north = abs(one.latitude - other.latitude)
        stretch = np.cos(np.radians(max(abs(one.latitude), abs(other.latitude))))
        assert max(north, abs(one.longitude - other.longitude) * stretch) > side


def test_scenes_are_spread_over_the_world() -> None:
    places = [place(number, DEFAULT_SIZE, 0) for number in range(DEFAULT_SCENES)]
    assert len({str(one.geobox.crs) for one in places}) > 40
    assert min(one.latitude for one in places) < -25
    assert max(one.latitude for one in places) > 55
    for one in places:
        assert one.geobox.affine.a == -one.geobox.affine.e == 10
        assert one.geobox.affine.c % 10 == one.geobox.affine.f % 10 == 0


# --- what the scenes show


def test_library_spectra_are_what_they_claim() -> None:
    ndwi, ndvi = difference(SURFACE.T, GREEN, NIR), difference(SURFACE.T, NIR, RED)
    ndsi = difference(SURFACE.T, GREEN, NAMES.index("B11"))
    assert SURFACE.shape == (len(Material), len(NAMES))
    assert (ndwi[[Material.CLEAR_WATER, Material.TURBID_WATER, Material.GREEN_WATER]] > 0.25).all()
    assert (ndvi[[Material.CROP, Material.BROADLEAF, Material.CONIFER]] > 0.7).all()
    assert (ndvi[[Material.DRY_SOIL, Material.SAND, Material.ASPHALT]] < 0.25).all()
    assert ndsi[Material.SNOW] > 0.6
    # what a plain index takes for water, and the water that it misses
    assert ndwi[Material.WET_ASPHALT] > 0
    assert ndwi[Material.VEGETATED_WATER] < 0
    assert SURFACE[Material.MOIST_SOIL].mean() < SURFACE[Material.DRY_SOIL].mean()


def test_pure_pixels_look_like_their_material() -> None:
    clear = [draw_recipe(number, 96, 0) for number in range(64)]
    indices: dict[str, list[float]] = {"water": [], "leaves": []}
    for recipe in (recipe for recipe in clear if recipe.sky is Sky.CLEAR and not recipe.collar):
        ground, values = ground_of(recipe), reflectance(simulate_scene(recipe.number, 96, 0))
        water = ground.fractions[Material.CLEAR_WATER] == 1
        leaves = ground.fractions[Material.BROADLEAF] == 1
        if water.sum() > 60:
            indices["water"].append(float(np.median(difference(values, GREEN, NIR)[water])))
        if leaves.sum() > 60 and recipe.summer > 0.6:
            indices["leaves"].append(float(np.median(difference(values, NIR, RED)[leaves])))
    assert len(indices["water"]) >= 2
    assert len(indices["leaves"]) >= 2
    assert min(indices["water"]) > 0.05
    assert min(indices["leaves"]) > 0.5


def test_edge_pixels_are_mixtures_and_the_label_is_the_majority() -> None:
    recipe = first_recipe(160, water=Water.RIVER, sky=Sky.CLEAR)
    scene, ground = simulate_scene(recipe.number, 160, 0), ground_of(recipe)
    ninths = np.rint(ground.water * 9).astype(int)
    assert np.allclose(ground.fractions.sum(axis=0), 1, atol=1e-5)
    assert np.allclose(ground.fractions[:WATER_MATERIALS].sum(axis=0), ninths / 9, atol=1e-5)
    assert np.array_equal(scene.label == WATER, ninths >= 5)
    assert set(range(10)) == set(np.unique(ninths))
    nir = reflectance(scene)[NIR]
    steps = [nir[np.isin(ninths, few)].mean() for few in ([0], [1, 2, 3, 4], [5, 6, 7, 8], [9])]
    assert steps == sorted(steps, reverse=True)
    assert steps[0] > steps[3] + 0.05


def test_no_data_is_ignored_and_nothing_else_is_zero() -> None:
    recipe = first_recipe(150, sky=Sky.CLEAR, collar=True)
    scene = simulate_scene(recipe.number, 150, 0)
    outside = (scene.dn == 0).any(axis=0)
    assert np.array_equal(outside, (scene.dn == 0).all(axis=0))
    assert np.array_equal(outside, scene.label == IGNORE)
    assert 0.05 < outside.mean() < 0.6
    edge = outside.sum(axis=1)
    assert edge.min() < edge.max()  # turned, not upright
    whole = simulate_scene(first_recipe(150, sky=Sky.CLEAR).number, 150, 0)
    assert whole.dn.min() > 0
    assert IGNORE not in whole.label


def test_opaque_cloud_is_ignored_and_shadow_is_labelled() -> None:
    recipe = first_recipe(200, sky=Sky.OVERCAST)
    scene = simulate_scene(recipe.number, 200, 0)
    hidden = scene.label == IGNORE
    assert scene.cloud_cover == pytest.approx(100 * hidden.mean(), abs=0.01)
    assert scene.cloud_cover > 40
    assert np.median(reflectance(scene)[1][hidden]) > 0.4
    broken = first_recipe(200, sky=Sky.BROKEN)
    under, clear = (scene_module._render(replace(broken, sky=sky)) for sky in (Sky.BROKEN, Sky.CLEAR))
    seen = under.label != IGNORE
    assert np.array_equal(under.label[seen], clear.label[seen])
    darker = reflectance(under)[NIR] < 0.6 * reflectance(clear)[NIR]
    assert (darker & seen).mean() > 0.02


def test_the_offset_of_the_processing_baseline_is_all_that_differs() -> None:
    recipe = first_recipe(90, sky=Sky.CLEAR)
    old, new = (scene_module._render(replace(recipe, with_offset=flag)) for flag in (False, True))
    assert (old.offset, old.baseline) == (0.0, "02.09")
    assert (new.offset, new.baseline) == (-0.1, "04.00")
    lit = old.dn > 1  # below, the darkest measurement is clipped
    assert (new.dn.astype(int) - old.dn)[lit].min() == (new.dn.astype(int) - old.dn)[lit].max() == 1000
    assert np.allclose(reflectance(old)[lit], reflectance(new)[lit], atol=1e-6)


# --- on disk


def read(path: Path) -> tuple[NDArray[np.generic], GeoBox, dict[str, object], dict[str, str], tuple[str, ...]]:
    with rasterio.open(path) as source:
        grid = GeoBox(source.shape, source.transform, str(source.crs))
        return source.read(), grid, dict(source.profile), source.tags(), source.descriptions


@pytest.mark.parametrize("number", [0, 1, 5])
def test_files_hold_the_scene_on_its_grid(default_set: Path, number: int) -> None:
    scene = simulate_scene(number, DEFAULT_SIZE, 0)
    pixels, grid, profile, tags, descriptions = read(default_set / "images" / f"{scene.id}.tif")
    assert scene.id == f"simulated-s0-{number:04d}"
    assert np.array_equal(pixels, scene.dn)
    assert grid == scene.geobox
    assert list(descriptions) == NAMES
    assert (profile["dtype"], profile["nodata"]) == ("uint16", 0)
    assert tags["SIMULATED"] == "YES"
    label, grid, profile, tags, _ = read(default_set / "labels" / f"{scene.id}.tif")
    assert np.array_equal(label[0], scene.label)
    assert grid == scene.geobox
    assert (profile["dtype"], profile["nodata"]) == ("uint8", IGNORE)
    assert tags["SIMULATED"] == "YES"


def test_larger_files_are_tiled(tmp_path: Path) -> None:
    (scene_id,) = write_scenes(tmp_path, scenes=1, size=300, seed=0)
    for folder in ("images", "labels"):
        *_, profile, _, _ = read(tmp_path / folder / f"{scene_id}.tif")
        assert (profile["tiled"], profile["blockxsize"], profile["blockysize"]) == (True, 256, 256)


def test_items_are_stac_and_say_what_the_files_are(default_set: Path) -> None:
    for path in sorted((default_set / "items").iterdir()):
        content = json.loads(path.read_text())
        item = pystac.Item.from_dict(content, preserve_dict=True)
        assert (item.id, content["stac_version"], item.collection_id) == (path.stem, "1.1.0", COLLECTION)
        assert item.datetime is not None
        assert item.datetime.year in (2020, 2021, 2022, 2023)
        assert item.properties["terraloop:simulated"] is True
        assert "Simulated" in item.properties["title"]
        assert {item.properties[key] for key in ("platform", "constellation")} == {"simulated"}
        assert item.properties["instruments"] == ["msi"]
        assert 0 <= item.properties["eo:cloud_cover"] <= 100
        for link in item.links:
            assert (path.parent / str(link.target)).resolve().is_file()
        with rasterio.open(path.parent / item.assets["image"].href) as source:
            assert item.properties["proj:code"] == str(source.crs)
            assert item.properties["proj:shape"] == list(source.shape)
            assert item.properties["proj:transform"] == list(source.transform)[:6]
            to_degrees = Transformer.from_crs(source.crs, "EPSG:4326", always_xy=True)
            longitude, latitude = to_degrees.transform(*source.xy(source.height // 2, source.width // 2))
        assert item.bbox is not None
        assert item.bbox[0] < longitude < item.bbox[2]
        assert item.bbox[1] < latitude < item.bbox[3]
        assert (path.parent / item.assets["label"].href).is_file()
        assert (item.assets["image"].roles, item.assets["label"].roles) == (["data"], ["labels"])
        image = content["assets"]["image"]
        assert (image["data_type"], image["nodata"]) == ("uint16", 0)
        assert [band["name"] for band in image["bands"]] == NAMES
        assert image["bands"][1]["eo:common_name"] == "blue"
        expected = {"04.00": -0.1, "02.09": 0.0}[item.properties["s2:processing_baseline"]]
        rule = choose_radiometry(Reflectance(), asset=image, properties=item.properties)
        assert (rule.scale, rule.offset, rule.source) == (0.0001, expected, "stac")


def test_the_collection_lists_every_item(default_set: Path) -> None:
    collection = pystac.Collection.from_file(str(default_set / "collection.json"))
    assert collection.id == COLLECTION
    assert len(list(collection.get_items())) == DEFAULT_SCENES


def test_both_processing_baselines_and_many_seasons(default_set: Path) -> None:
    items = [json.loads(path.read_text())["properties"] for path in (default_set / "items").iterdir()]
    assert Counter(item["s2:processing_baseline"] for item in items) == {"02.09": 96, "04.00": 96}
    assert len({item["datetime"][5:7] for item in items}) == 12
    assert sum(item["eo:cloud_cover"] > 50 for item in items) >= 6


def test_every_side_of_a_split_has_eight_cells_with_water(default_set: Path) -> None:
    """By a plain split of cells of our own, whatever the salt, and by the product's rule for `water`."""
    wet: dict[str, GeoBox] = {}
    for path in sorted((default_set / "labels").iterdir()):
        label, grid, *_ = read(path)
        if (label == WATER).any():
            wet[path.stem] = grid
    assert 0.72 < len(wet) / DEFAULT_SCENES < 0.88
    cells = {cell_of(grid) for grid in wet.values()}
    assert len(cells) == len(wet)
    for salt in ("terraloop-water", "another", "third"):
        sides = Counter(side_of(cell, salt) for cell in cells)
        assert min(sides[side] for side in SHARES) >= 8, (salt, sides)
    rule: SplitRule = UseCase.load("water").data.split
    placements = [place_chip(rule, grid) for grid in wet.values()]
    assert None not in placements  # a chip that touches two sides would be left out
    sides = Counter(placement.split for placement in placements if placement)
    assert min(sides[side] for side in SHARES) >= 8, sides


def cell_of(grid: GeoBox) -> tuple[str, int, int]:
    """The one cell that holds a grid, widened by half its size: sides are at least a scene apart."""
    box = grid.pad(64, 64).boundingbox
    corners = [box.left, box.right, box.right, box.left], [box.top, box.top, box.bottom, box.bottom]
    latitudes = Transformer.from_crs(str(grid.crs), "EPSG:4326", always_xy=True).transform(*corners)[1]
    (crs,) = {"EPSG:6931" if latitude > 60 else "EPSG:6933" for latitude in latitudes}
    xs, ys = Transformer.from_crs(str(grid.crs), crs, always_xy=True).transform(*corners)
    (cell,) = {(crs, int(x // 5120), int(y // 5120)) for x, y in zip(xs, ys, strict=True)}
    return cell


def side_of(cell: tuple[str, int, int], salt: str) -> str:
    number = int(hashlib.blake2b(f"{salt}:{cell}".encode(), digest_size=4).hexdigest(), 16) / 2**32
    bounds = np.cumsum(list(SHARES.values()))
    return list(SHARES)[int(np.searchsorted(bounds, number, side="right"))]


# --- folders: again, interrupted, foreign


def test_a_second_run_touches_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ids = write_scenes(out, scenes=3, size=32, seed=0)
    before = {path: path.stat().st_mtime_ns for path in [out, *out.rglob("*")]}
    calls: list[tuple[int, int]] = []
    again = write_scenes(out, scenes=3, size=32, seed=0, progress=lambda done, wanted: calls.append((done, wanted)))
    assert again == ids
    assert calls == []
    assert {path: path.stat().st_mtime_ns for path in [out, *out.rglob("*")]} == before


def test_progress_counts_the_scenes(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    write_scenes(tmp_path, scenes=3, size=16, seed=0, progress=lambda done, wanted: calls.append((done, wanted)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("name", ["notes.txt", "images/mine.tif", "items/readme.json"])
def test_a_foreign_folder_is_refused_and_untouched(tmp_path: Path, name: str) -> None:
    stranger = tmp_path / name
    stranger.parent.mkdir(exist_ok=True)
    stranger.write_text("mine")
    with pytest.raises(UsageError, match=name.rpartition("/")[2]) as refusal:
        write_scenes(tmp_path, scenes=1, size=16, seed=0)
    assert refusal.value.fix
    assert files(tmp_path) == {name: b"mine"}


def test_a_folder_that_only_looks_alike_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "simulated-s0-0000.tif").write_text("mine")
    with pytest.raises(UsageError, match="not made"):
        write_scenes(tmp_path, scenes=1, size=16, seed=0)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="not made"):
        write_scenes(tmp_path / "file", scenes=1, size=16, seed=0)


def test_another_set_is_refused_and_untouched(tmp_path: Path) -> None:
    write_scenes(tmp_path, scenes=2, size=16, seed=0)
    before = files(tmp_path)
    with pytest.raises(UsageError, match="another simulated set"):
        write_scenes(tmp_path, scenes=3, size=16, seed=0)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"mine\.txt"):
        write_scenes(tmp_path, scenes=2, size=16, seed=0)
    assert files(tmp_path) == before | {"mine.txt": b"mine"}


def stop_after(count: int, out: Path, *, scenes: int, size: int, seed: int) -> None:
    """Simulate until so many scenes are done, then fail."""

    def fail(done: int, _: int) -> None:
        if done == count:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        write_scenes(out, scenes=scenes, size=size, seed=seed, progress=fail)


def test_an_interrupted_set_is_finished(tmp_path: Path) -> None:
    write_scenes(tmp_path / "whole", scenes=4, size=32, seed=0)
    out = tmp_path / "out"
    stop_after(2, out, scenes=4, size=32, seed=0)
    (out / "images" / "simulated-s0-0002.tif.partial").write_bytes(b"half")
    assert not (out / "simulation.json").exists()
    kept = out / "images" / "simulated-s0-0000.tif"
    before = kept.stat().st_mtime_ns
    write_scenes(out, scenes=4, size=32, seed=0)
    assert kept.stat().st_mtime_ns == before
    assert files(out) == files(tmp_path / "whole")


def test_an_interrupted_set_leaves_nothing_in_another_one(tmp_path: Path) -> None:
    write_scenes(tmp_path / "whole", scenes=2, size=32, seed=5)
    out = tmp_path / "out"
    stop_after(3, out, scenes=4, size=16, seed=0)
    write_scenes(out, scenes=2, size=32, seed=5)
    assert files(out) == files(tmp_path / "whole")


def test_a_missing_file_is_written_again(tmp_path: Path) -> None:
    write_scenes(tmp_path, scenes=2, size=32, seed=0)
    before = files(tmp_path)
    (tmp_path / "labels" / "simulated-s0-0001.tif").unlink()
    write_scenes(tmp_path, scenes=2, size=32, seed=0)
    assert files(tmp_path) == before


def test_a_killed_run_shows_nothing_half_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    call = "import sys, pathlib; from eo_data.simulate import write_scenes; "
    call += "write_scenes(pathlib.Path(sys.argv[1]), scenes=400, size=64, seed=0)"
    process = subprocess.Popen([sys.executable, "-c", call, str(out)])
    try:
        while not list(out.glob("items/*.json")):
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "simulation.json").exists()
    shown = sorted(path for path in out.rglob("*") if path.suffix in (".tif", ".json"))
    assert shown
    for path in shown:
        if path.suffix == ".json":
            json.loads(path.read_text())
            continue
        scene = simulate_scene(int(path.stem[-4:]), 64, 0)
        expected = scene.dn if path.parent.name == "images" else scene.label[None]
        assert np.array_equal(read(path)[0], expected)
