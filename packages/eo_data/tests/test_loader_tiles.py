"""GeoTIFF tiles decoded without GDAL give the pixels that rasterio gives, or are left to it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from eo_data.errors import DataRefused
from eo_data.loader.chip_list import Block
from eo_data.loader.pieces import Piece, lay_out
from eo_data.loader.tiff_layout import tile_layout
from eo_data.loader.tiff_tiles import TileReader

from .conftest import write_tiff

SHAPE = (75, 101)
WINDOWS = [(0, 0, 75, 101), (32, 48, 32, 48), (5, 10, 60, 80), (64, 96, 11, 5), (32, 0, 32, 96)]
TILES: dict[str, Any] = {"tiled": True, "blockxsize": 48, "blockysize": 32}


def pixels(dtype: str, bands: int = 3) -> NDArray[Any]:
    limits = np.iinfo(dtype)
    values = np.random.default_rng(1).integers(max(limits.min, -3000), min(limits.max, 60000), (bands, *SHAPE))
    return values.astype(dtype)


def check(path: Path, bands: tuple[int, ...] = (2, 0)) -> None:
    """Windows of every kind are equal to rasterio's."""
    layout = tile_layout(str(path))
    assert layout is not None
    with rasterio.open(path) as dataset:
        whole, nodata = dataset.read([band + 1 for band in bands]), dataset.nodata
    reader = TileReader(str(path), layout, "test", int(nodata or 0))
    for (top, left, height, width), side in itertools.product(WINDOWS, (0, 16, 20, 32)):
        memory = np.empty(len(bands) * height * width, dtype=layout.dtype)
        pieces = lay_out(Block(0, top, left, height, width), side, len(bands), memory)
        reader.read(bands, pieces)
        for piece in pieces:
            rows, columns = piece.pixels.shape[1:]
            wanted = whole[:, piece.top : piece.top + rows, piece.left : piece.left + columns]
            np.testing.assert_array_equal(piece.pixels, wanted)
        assert sum(piece.pixels.size for piece in pieces) == memory.size
    reader.close()


@pytest.mark.parametrize("codec", ["none", "deflate", "zstd", "lzw"])
@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint8"])
def test_tiles_and_strips_of_every_codec_equal_rasterios(tmp_path: Path, codec: str, dtype: str) -> None:
    values = pixels(dtype)
    ways = itertools.product((1, 2), ("band", "pixel"), (TILES, {"tiled": False}))
    for (predictor, interleave, layout), order in itertools.product(ways, ("LITTLE", "BIG")):
        compress: dict[str, Any] = {} if codec == "none" else {"compress": codec, "predictor": predictor}
        how: dict[str, Any] = {"interleave": interleave, "ENDIANNESS": order, "compress": None, **compress, **layout}
        check(write_tiff(tmp_path / "image.tif", values, **how))


def test_a_bigtiff_is_read_too(tmp_path: Path) -> None:
    check(write_tiff(tmp_path / "image.tif", pixels("uint16"), BIGTIFF="YES", predictor=2, **TILES))


@pytest.mark.parametrize("nodata", [None, 77.0])
def test_tiles_that_a_sparse_file_leaves_out_are_nodata_or_zero(tmp_path: Path, nodata: float | None) -> None:
    path = tmp_path / "sparse.tif"
    how = {"width": SHAPE[1], "height": SHAPE[0], "count": 3, "dtype": "uint16", "nodata": nodata, **TILES}
    grid = {"crs": "EPSG:32630", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 4e6)}
    with rasterio.open(path, "w", driver="GTiff", SPARSE_OK=True, compress="deflate", **how, **grid) as dataset:
        dataset.write(pixels("uint16")[:, :32, :48], window=((0, 32), (0, 48)))
    layout = tile_layout(str(path))
    assert layout is not None
    assert (layout.counts == 0).any()
    check(path)


def test_a_file_with_overviews_is_read_at_full_resolution(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "image.tif", pixels("uint16"), **TILES)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4])
    check(path)


@pytest.mark.parametrize(
    "how",
    [
        {"dtype": "float32"},
        {"dtype": "uint32"},
        {"dtype": "uint8", "compress": "jpeg", "photometric": "ycbcr", "interleave": "pixel"},
        {"dtype": "uint16", "NBITS": 12},
        {"dtype": "uint16", "compress": "lerc"},
    ],
    ids=["float32", "uint32", "jpeg", "12 bits", "lerc"],
)
def test_what_it_cannot_decode_it_leaves_to_gdal(tmp_path: Path, how: dict[str, Any]) -> None:
    path = write_tiff(tmp_path / "image.tif", pixels("uint8").astype(how["dtype"]), **{**TILES, **how})
    assert tile_layout(str(path)) is None


def test_what_is_no_tiff_it_leaves_to_gdal(tmp_path: Path) -> None:
    (tmp_path / "page.tif").write_text("<html>")
    assert tile_layout(str(tmp_path / "page.tif")) is None
    assert tile_layout(str(tmp_path / "absent.tif")) is None


@pytest.mark.parametrize(
    ("codec", "fault"),
    [(None, "cut"), ("deflate", "cut"), ("deflate", "zeroed"), ("zstd", "cut"), ("zstd", "zeroed"), ("lzw", "zeroed")],
)
def test_damaged_tiles_are_refused_with_the_files_name(tmp_path: Path, codec: str | None, fault: str) -> None:
    path = write_tiff(tmp_path / "image.tif", pixels("uint16"), **{**TILES, "compress": codec})
    layout = tile_layout(str(path))
    assert layout is not None
    content = bytearray(path.read_bytes())
    last = int(layout.offsets.argmax())
    start, count = int(layout.offsets[last]), int(layout.counts[last])
    if fault == "cut":
        del content[start + count // 2 :]
    else:
        content[start : start + count] = bytes(count)
    path.write_bytes(content)
    reader = TileReader(str(path), layout, "scene-7")
    target = np.empty((3, *SHAPE), dtype=np.uint16)
    with pytest.raises(DataRefused, match="truncated or damaged") as refusal:
        reader.read((0, 1, 2), [Piece(0, 0, target)])
    assert refusal.value.where == "scene-7"
    reader.close()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_real_files_are_decoded_as_rasterio_decodes_them(test_data: Path) -> None:
    files = [
        path for part in ("scenes", "sen1floods11", "terramesh") for path in sorted((test_data / part).rglob("*.tif"))
    ]
    compared = 0
    for path in files:
        layout = tile_layout(str(path))
        if layout is None:
            continue
        with rasterio.open(path) as dataset:
            whole, nodata = dataset.read(), dataset.nodata
        reader = TileReader(str(path), layout, "test", int(nodata or 0))
        target = np.empty_like(whole)
        reader.read(tuple(range(len(whole))), [Piece(0, 0, target)])
        reader.close()
        np.testing.assert_array_equal(target, whole, err_msg=path.name)
        compared += 1
    assert compared >= 10
