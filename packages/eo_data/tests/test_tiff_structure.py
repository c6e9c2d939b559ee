"""Files whose directories were cut off are found, whole ones of any kind are not."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.io import MemoryFile

from eo_data.errors import DataRefused
from eo_data.rasters import open_tiff
from eo_data.tiff_structure import is_complete


def whole(**creation: Any) -> bytes:
    """A GeoTIFF whose band descriptions lie behind its pixels."""
    with rasterio.Env(), MemoryFile() as memory:
        with memory.open(
            driver="GTiff", width=40, height=30, count=3, dtype="uint16", crs="EPSG:32630",
            transform=Affine(10, 0, 0, 0, -10, 0), nodata=0, **creation,
        ) as dataset:  # fmt: skip
            dataset.write(np.full((3, 30, 40), 7, np.uint16))
            dataset.descriptions = ("swir1", "nir", "green")
            dataset.build_overviews([2, 4])
        return bytes(memory.read())


@pytest.mark.parametrize("creation", [{}, {"BIGTIFF": "YES"}, {"ENDIANNESS": "BIG"}, {"compress": "deflate"}])
def test_a_cut_file_is_refused_or_has_all_its_tags(creation: dict[str, Any]) -> None:
    body = whole(**creation)
    assert is_complete(io.BytesIO(body), len(body))
    refused = 0
    for length in range(4, len(body), 53):
        if is_complete(io.BytesIO(body[:length]), length):  # only pixels are missing: reading them tells
            with open_tiff(body[:length], "cut") as dataset:
                assert (dataset.descriptions, dataset.nodata) == (("swir1", "nir", "green"), 0)
            continue
        refused += 1
        with pytest.raises(DataRefused, match="truncated or damaged"), open_tiff(body[:length], "cut"):
            pass
    assert refused > 20


def test_lost_descriptions_do_not_pass(tmp_path: Path) -> None:
    path = tmp_path / "cut.tif"
    body = whole()
    path.write_bytes(body[: body.index(b"green")])
    with pytest.raises(DataRefused, match="truncated or damaged"), open_tiff(str(path), "cut"):
        pass


def test_directories_in_a_circle_end() -> None:
    body = bytearray(b"II*\0\x08\0\0\0" + b"\0\0" + b"\x08\0\0\0" + bytes(8))
    assert not is_complete(io.BytesIO(body), len(body))


@pytest.mark.parametrize("body", [b"", b"II", b"junk", b"<html>", b"\x89PNG\r\n\x1a\n", bytes(100)])
def test_what_is_no_tiff_is_not_judged(body: bytes) -> None:
    assert is_complete(io.BytesIO(body), len(body))
