"""Label values to class indexes by a table, for labels of 8 or 16 bits."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eo_data.labels import class_indexes, judged_values
from eo_data.usecase import DataSection

UNKNOWN: Final = 254
"""In a table: the value stands for no class. A use case has at most 254 classes, 0 to 253."""


class LabelTable:
    """What `eo_data.labels.class_indexes` does, in one pass over the pixels.

    Args:
        dtype: Type of the label's values: `uint8`, `int8`, `uint16` or `int16`.
        data: The use case's data section.
        nodata: The label file's nodata value.
    """

    def __init__(self, dtype: np.dtype[Any], data: DataSection, nodata: float | None) -> None:
        self._data, self._nodata = data, nodata
        self._codes = np.dtype(f"u{dtype.itemsize}")
        every = np.arange(1 << (8 * dtype.itemsize), dtype=self._codes).view(dtype)
        indexes, known = judged_values(every, data, nodata)
        self._table = np.where(known, indexes, np.uint8(UNKNOWN))
        # Mostly the index is the value, or the value less 1 with 0 for no data: a subtraction does it up to a value.
        self._less = self._codes.type((-int(self._table[0])) % 256)
        shifted = (np.arange(len(self._table)) - int(self._less)) % 256
        moved = np.flatnonzero((self._table != shifted) | (self._table == UNKNOWN))
        self._even = int(moved[0]) if len(moved) else len(self._table)
        self._complete = not (self._table == UNKNOWN).any()

    def look_up(self, values: NDArray[Any], target: NDArray[np.uint8]) -> None:
        """Write the class indexes of label values `[h, w]` to a target `[h, w]`; 255 where they are ignored.

        Raises:
            DataRefused: If a value stands for no class, as `class_indexes` says it.
        """
        codes = values.view(self._codes)
        if codes.size and int(codes.max()) < self._even:
            np.subtract(codes, self._less, out=target, dtype=self._codes, casting="unsafe")
            return
        np.take(self._table, codes, out=target, mode="clip")
        if not self._complete and (target == UNKNOWN).any():
            class_indexes(values, self._data, self._nodata)  # refuses, naming them
