"""Decoding a whole raster once, strip by strip, whatever its size: for its digest and for what is found on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from eo_data.digests import RasterDigest
from eo_data.errors import DataRefused
from eo_data.rasters import mask_reader

STRIP: Final = 512
STRIP_BYTES = 1 << 28
"""Rows that are decoded at a time, and the most memory that they may take."""

_NUMPY_NAMES = {"complex_int16": "int32"}
"""Types that only GDAL has, as NumPy's of the same size."""

MAX_BANDS: Final = 1024
MAX_COMPRESSION: Final = 100_000
"""A file that claims more bands, or more bytes of pixels per byte, is damaged or made to do harm: no sensor has so
many, and constant rasters stay far below."""


def require_plausible(dataset: Any, where: str) -> None:
    """Refuse an open local raster whose header claims more than the file can hold, or rows too long for memory.

    Raises:
        DataRefused: So.
    """
    row = _row_bytes(dataset)
    claimed, held = row * dataset.height, Path(dataset.name).stat().st_size
    if dataset.count > MAX_BANDS or claimed > MAX_COMPRESSION * held or row > STRIP_BYTES:
        raise DataRefused(
            f"the header claims {dataset.count} bands of {dataset.height} x {dataset.width} pixels, the file has "
            f"{held} bytes",
            where=where,
            fix="Fetch it again, or cut it into scenes",
        )


def strip_rows(dataset: Any) -> int:
    """How many rows of an open raster to decode at a time."""
    return min(STRIP, max(1, STRIP_BYTES // _row_bytes(dataset)))


def _row_bytes(dataset: Any) -> int:
    item = np.dtype(_NUMPY_NAMES.get(dataset.dtypes[0], dataset.dtypes[0])).itemsize
    return int(dataset.count * dataset.width * item)


def strips(dataset: Any, where: str) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_] | None]]:
    """The rows of an open local raster from the top: values `[bands, rows, width]` and where its mask shows them.

    The mask, `[rows, width]`, is None where the file has none (see `mask_reader`).

    Raises:
        DataRefused: If the header is not plausible, or a block cannot be decoded.
    """
    require_plausible(dataset, where)
    mask = mask_reader(dataset, range(1, dataset.count + 1))
    step = strip_rows(dataset)
    try:
        for top in range(0, dataset.height, step):
            window = ((top, min(top + step, dataset.height)), (0, dataset.width))
            yield dataset.read(window=window), None if mask is None else mask(window=window) != 0
    except (RasterioError, MemoryError) as error:
        raise undecodable(where) from error


def undecodable(where: str) -> DataRefused:
    """What is said of a file whose blocks cannot be decoded."""
    return DataRefused(
        "the pixels cannot be decoded: the file is truncated or damaged", where=where, fix="Fetch it again"
    )


class Decoded:
    """A pass over an open local raster: iterate once, then ask for the digest.

    Args:
        dataset: The raster, open in rasterio.
        where: What it is called in messages.
    """

    def __init__(self, dataset: Any, where: str) -> None:
        self._dataset = dataset
        self._where = where
        masked = mask_reader(dataset, range(1, dataset.count + 1)) is not None
        self._digest = RasterDigest(dataset.dtypes[0], dataset.count + masked, dataset.height, dataset.width)

    def __iter__(self) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_] | None]]:
        """As `strips`.

        Raises:
            DataRefused: As `strips`, and where a value is infinite but not the file's nodata.
        """
        for values, shown in strips(self._dataset, self._where):
            self._require_finite(values)
            if shown is None:
                self._digest.update(values)
            else:
                mask = np.where(shown, 255, 0).astype(values.dtype)
                self._digest.update(np.concatenate([values, mask[None]]))
            yield values, shown

    def digest(self) -> str:
        """The digest of the decoded pixels, and of the internal mask where there is one."""
        return self._digest.hexdigest()

    def _require_finite(self, values: NDArray[Any]) -> None:
        if values.dtype.kind not in "fc":
            return
        infinite = np.isinf(values)
        nodata = self._dataset.nodata
        if nodata is not None and np.isinf(nodata):
            infinite &= values != nodata
        if infinite.any():
            raise DataRefused(
                f"{int(infinite.sum())} pixels or more are infinite, first in band "
                f"{int(infinite.any(axis=(1, 2)).argmax()) + 1}",
                where=self._where,
                fix="Write NaN, or a value that is declared as nodata, where there is no data",
            )
