"""The loader gives what rasterio gives, in an order that the seed alone decides, in bounded memory, or says why not."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from eo_data.errors import DataRefused, UsageError
from eo_data.loader import ChipList, RasterPair, RasterSource, grid_chips, jittered_chips

from .conftest import write_tiff
from .loader_data import DATA, check_equal, make_loader, places, write_pair


def loader_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("chip-loader")]


def both_kinds(source: RasterSource) -> list[ChipList]:
    return [grid_chips(source.grids, 48), grid_chips(source.grids, 32, tiles=2), jittered_chips(source.grids, 40)]


@pytest.mark.parametrize("own_decoding", [True, False])
def test_every_chip_of_rasters_with_different_tiles_equals_rasterios(tmp_path: Path, own_decoding: bool) -> None:
    pairs = [
        write_pair(tmp_path, "a", (200, 330), nodata=0, least=0),
        write_pair(tmp_path, "b", (150, 130), blockxsize=32, blockysize=128, interleave="pixel", compress="zstd"),
        write_pair(tmp_path, "c", (70, 90), tiled=False, predictor=1, compress="lzw"),
    ]
    source = RasterSource(pairs, DATA, own_decoding=own_decoding)
    assert source.decoders == ["tiles" if own_decoding else "gdal"] * 3
    for chips in both_kinds(source):
        seen = []
        for minibatch in make_loader(source, chips, minibatch=7):
            check_equal(pairs, minibatch, chips.size)
            seen += [place.number for place in minibatch.chips]
        assert sorted(seen) == list(range(len(chips)))


@pytest.mark.parametrize(
    "kind",
    [
        {"dtype": "int16", "nodata": -5, "least": -5},
        {"dtype": "float32", "predictor": 1, "nodata": float("nan")},
        {"dtype": "float32", "predictor": 3, "nodata": 7, "least": 5},
        {"dtype": "uint16", "nodata": 0.5},
        {"dtype": "uint16", "NBITS": 12, "predictor": 1, "nodata": 3},
    ],
    ids=["signed", "float with NaN", "float", "nodata that no pixel can be", "12 bits"],
)
def test_values_of_every_type_become_reflectance_as_radiometry_says(tmp_path: Path, kind: dict[str, Any]) -> None:
    pairs = [write_pair(tmp_path, "a", (100, 120), **kind)]
    source = RasterSource(pairs, DATA)
    for minibatch in make_loader(source, grid_chips(source.grids, 64)):
        check_equal(pairs, minibatch, 64)


def test_what_an_internal_mask_hides_has_no_data(tmp_path: Path) -> None:
    pair = write_pair(tmp_path)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(pair.image, "r+") as dataset:
        hidden = np.full(dataset.shape, 255, np.uint8)
        hidden[20:90, 30:200] = 0
        dataset.write_mask(hidden)
    source = RasterSource([pair], DATA)
    assert source.decoders == ["gdal"]
    hidden_pixels = 0
    for minibatch in make_loader(source, grid_chips(source.grids, 50)):
        check_equal([pair], minibatch, 50)
        hidden_pixels += int((~minibatch.valid).sum())
    assert hidden_pixels == 70 * 170 + 20 * 200  # and what lies beyond the raster's right edge


def test_radiometry_is_that_of_the_file_and_normalisation_leaves_no_data_at_zero(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, nodata=0, least=0)
    pair = RasterPair(pair.image, pair.label, asset={"raster:scale": 0.0000275, "raster:offset": -0.2})
    source = RasterSource([pair], DATA)
    chips = grid_chips(source.grids, 64)
    plain = list(make_loader(source, chips, copy=True))
    normal = list(make_loader(source, chips, copy=True, mean=[-1500, 100], std=[200, 300]))
    for one, other in zip(plain, normal, strict=True):
        mean, std = (np.array(part).reshape(2, 1, 1) for part in ([-1500, 100], [200, 300]))
        wanted = np.where(one.valid[:, None], (one.images - mean) / std, 0)
        np.testing.assert_allclose(other.images, wanted, rtol=1e-5, atol=1e-5)
        assert one.images.min() >= -2000


@pytest.mark.parametrize("nodata", [None, 0, 77, 0.5])
def test_tiles_that_a_sparse_file_leaves_out_are_what_gdal_makes_of_them(tmp_path: Path, nodata: float | None) -> None:
    pair = write_pair(tmp_path, nodata=nodata)
    with rasterio.open(pair.image) as dataset:
        pixels, profile = dataset.read(window=((0, 64), (0, 128))), dataset.profile
    with rasterio.open(pair.image, "w", **profile, SPARSE_OK=True) as dataset:
        dataset.write(pixels, window=((0, 64), (0, 128)))
    source = RasterSource([pair], DATA)
    assert source.decoders == ["gdal" if nodata == 0.5 else "tiles"]
    for minibatch in make_loader(source, grid_chips(source.grids, 48)):
        check_equal([pair], minibatch, 48)


def test_without_a_label_nothing_is_scored(tmp_path: Path) -> None:
    source = RasterSource([RasterPair(write_pair(tmp_path).image)], DATA)
    assert all((minibatch.labels == 255).all() for minibatch in make_loader(source, grid_chips(source.grids, 64)))


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32"])
def test_labels_of_other_types_are_looked_up_alike(tmp_path: Path, dtype: str) -> None:
    pair = write_pair(tmp_path, label=np.random.default_rng(0).choice([1, 2, 7, 9], (200, 330)).astype(dtype))
    source = RasterSource([pair], DATA)
    for minibatch in make_loader(source, grid_chips(source.grids, 64)):
        check_equal([pair], minibatch, 64)


# --- order


def test_threads_change_neither_the_chips_nor_their_order(tmp_path: Path) -> None:
    source = RasterSource([write_pair(tmp_path, "a"), write_pair(tmp_path, "b")], DATA)
    chips = jittered_chips(source.grids, 40)
    found = [places(make_loader(source, chips, threads=threads, ahead=ahead)) for threads, ahead in ((1, 0), (4, 9))]
    assert found[0] == found[1]
    assert found[0] != places(make_loader(source, chips, seed=6))


def test_the_next_iteration_is_another_epoch_and_an_epoch_can_be_chosen(tmp_path: Path) -> None:
    source = RasterSource([write_pair(tmp_path)], DATA)
    loader = make_loader(source, jittered_chips(source.grids, 40))
    first, second = places(loader), places(loader)
    assert first != second
    loader.set_epoch(0)
    assert places(loader) == first
    assert places(loader) == second


@pytest.mark.parametrize("delivered", [1, 5, 20, 27])
def test_a_saved_state_goes_on_with_the_very_next_minibatch(tmp_path: Path, delivered: int) -> None:
    source = RasterSource([write_pair(tmp_path)], DATA)
    chips = jittered_chips(source.grids, 40)
    whole = make_loader(source, chips)
    whole.set_epoch(3)
    wanted, following = places(whole), places(whole)
    broken = make_loader(source, chips)
    broken.set_epoch(3)
    for _ in zip(range(delivered), broken, strict=False):
        state = broken.state_dict()
    resumed = make_loader(source, chips, threads=1)
    resumed.load_state_dict(state)
    assert places(resumed) == wanted[4 * delivered :]
    assert places(resumed) == following


def test_a_state_of_another_list_or_seed_is_a_usage_error(tmp_path: Path) -> None:
    source = RasterSource([write_pair(tmp_path)], DATA)
    state = make_loader(source, grid_chips(source.grids, 64)).state_dict()
    for chips, arguments in ((grid_chips(source.grids, 32), {}), (grid_chips(source.grids, 64), {"seed": 9})):
        with pytest.raises(UsageError, match="differ"):
            make_loader(source, chips, **arguments).load_state_dict(state)


def test_a_heavy_chip_comes_more_often(tmp_path: Path) -> None:
    source = RasterSource([write_pair(tmp_path)], DATA)
    chips = grid_chips(source.grids, 32)
    loader = make_loader(source, chips, weights=np.where(np.arange(len(chips)) == 11, 1.0, 1e-9))
    assert {place.number for place in places(loader)} == {11}


# --- memory


def test_decoded_blocks_take_no_more_memory_than_the_plan_says(tmp_path: Path) -> None:
    source = RasterSource([write_pair(tmp_path, name, (320, 320)) for name in "abcdef"], DATA)
    loader = make_loader(source, grid_chips(source.grids, 32), buffer=8, ahead=3)
    block = 64 * 64 * (2 * 2 + 1)
    for _ in range(3):
        peak = loader.plan().peak_blocks
        assert peak < 30  # of 150
        for _ in loader:
            assert loader.buffered_bytes <= (peak + 3 + 5) * block
    assert loader.buffered_bytes >= 16 * block


def test_arrays_are_used_again_unless_copies_are_asked_for(tmp_path: Path) -> None:
    source = RasterSource([write_pair(tmp_path)], DATA)
    chips = grid_chips(source.grids, 64)
    assert len({minibatch.images.ctypes.data for minibatch in make_loader(source, chips)}) == 1
    kept = list(make_loader(source, chips, copy=True))
    assert len({minibatch.images.ctypes.data for minibatch in kept}) == len(kept)
    with pytest.raises(ValueError, match="read-only"):
        kept[0].valid[0] = False


# --- faults


@pytest.mark.parametrize("what", ["image", "label"])
@pytest.mark.parametrize("fault", ["removed", "replaced", "damaged"])
def test_a_file_lost_while_loading_ends_it_with_its_name_and_no_thread_left(
    tmp_path: Path, what: str, fault: str
) -> None:
    pairs = [write_pair(tmp_path, name, (256, 256)) for name in "abcdefgh"]
    victim = Path(str(getattr(pairs[3], what)))
    if fault == "damaged":
        content = bytearray(victim.read_bytes())
        content[len(content) // 2 : len(content) // 2 + 3000] = bytes(3000)
        victim.write_bytes(content)
    source = RasterSource(pairs, DATA)
    if fault == "removed":
        victim.unlink()
    elif fault == "replaced":
        victim.write_bytes(b"II*\0" + bytes(60))
    with pytest.raises(DataRefused) as refusal:
        places(make_loader(source, grid_chips(source.grids, 64)))
    assert refusal.value.where == str(victim)
    assert refusal.value.fix
    assert loader_threads() == []


def test_a_label_value_without_class_is_refused_with_file_and_value(tmp_path: Path) -> None:
    label = np.ones((200, 330), np.uint8)
    label[150, 300] = 5
    pair = write_pair(tmp_path, label=label)
    with pytest.raises(DataRefused, match="label values 5 stand for no class") as refusal:
        places(make_loader(source := RasterSource([pair], DATA), grid_chips(source.grids, 64)))
    assert refusal.value.where == pair.label


def test_a_label_on_another_grid_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    pair = write_pair(tmp_path)
    other = write_tiff(tmp_path / "other.tif", np.ones((1, 200, 331), np.uint8))
    with pytest.raises(DataRefused, match="does not fit its image"):
        RasterSource([RasterPair(pair.image, str(other))], DATA)


def test_leaving_the_loop_ends_the_threads_and_iterating_goes_on(tmp_path: Path) -> None:
    source = RasterSource([write_pair(tmp_path)], DATA)
    loader = make_loader(source, grid_chips(source.grids, 32))
    iterator = iter(loader)
    first = next(iterator).chips
    assert loader_threads()
    iterator.close()  # type: ignore[attr-defined]
    assert loader_threads() == []
    rest = places(loader)
    assert len(rest) == len(grid_chips(source.grids, 32)) - len(first)
    assert not set(first) & set(rest)


@pytest.mark.parametrize(
    "arguments",
    [{"threads": 0}, {"ahead": -1}, {"minibatch": 0}, {"mean": [0, 0]}, {"mean": [0], "std": [1]},
     {"mean": [0, 0], "std": [1, 0]}, {"weights": [1.0]}],
)  # fmt: skip
def test_impossible_arguments_are_usage_errors(tmp_path: Path, arguments: dict[str, Any]) -> None:
    source = RasterSource([write_pair(tmp_path)], DATA)
    with pytest.raises(UsageError):
        make_loader(source, grid_chips(source.grids, 64), **arguments)


def test_no_chips_and_chips_of_other_rasters_are_usage_errors(tmp_path: Path) -> None:
    source = RasterSource([write_pair(tmp_path)], DATA)
    with pytest.raises(UsageError, match="no chips"):
        make_loader(source, grid_chips(source.grids, 512, edges=False))
    with pytest.raises(UsageError, match="other rasters"):
        make_loader(source, grid_chips(source.grids * 2, 64))
