"""What a request's raster is like, in numbers: gathered while it is read and predicted, from a few thousand pixels."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from eo_data.usecase import IGNORE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from eo_data.tiling import Pixels, Valid
    from eo_serving.raster_bodies import OpenRaster

PROBABILITIES: Final = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Of the quantiles that are kept of each band."""

MOST: Final = 4096
"""About how many pixels of a raster are looked at: what they cost is not noticed beside a model."""


_LONGEST: Final = 4096
"""Characters of a text that is passed on."""


class InputStatistics(BaseModel):
    """Statistics of one request's input; no pixel of it.

    Attributes:
        shape: Height and width of the raster, pixels.
        images: How many of this size came together.
        sampled: Pixels with data that the quantiles are of.
        valid_fraction: Share of the sample with data in every band.
        quantiles: Per input band, reflectance x 10000, at `PROBABILITIES`; empty without data.
        fractional: Whether a sampled value is no whole number.
        class_fractions: Per class, of the sample's pixels with data.
        crs: Authority and code, or WKT; None where the raster has none.
        bounds: Left, bottom, right, top in that CRS.
        taken: When the raster says that it was taken (TIFFTAG_DATETIME).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[int, int]
    images: int
    sampled: int
    valid_fraction: float
    quantiles: tuple[tuple[float, ...], ...]
    fractional: bool
    class_fractions: tuple[float, ...]
    crs: str | None = None
    bounds: tuple[float, float, float, float] | None = None
    taken: str | None = None

    def header(self) -> str:
        """As a header's value: JSON in ASCII."""
        return json.dumps(self.model_dump())


class InputSample:
    """Every n-th pixel of what passes by.

    Args:
        classes: How many classes the mask has.
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._shape = (0, 0)
        self._images = 0
        self._step = 1
        self._pixels: list[NDArray[np.float32]] = []
        self._seen = 0
        self._counts = np.zeros(256, dtype=np.int64)
        self._place: tuple[str | None, tuple[float, float, float, float] | None, str | None] = (None, None, None)

    def locate(self, image: OpenRaster) -> None:
        """Note where a raster lies and when it was taken."""
        bounds, place = None, image.transform
        if image.crs is not None and place is not None:
            height, width = image.shape
            corners = [(place.a * x + place.b * y + place.c, place.d * x + place.e * y + place.f)
                       for x, y in ((0, 0), (width, 0), (0, height), (width, height))]  # fmt: skip
            xs, ys = zip(*corners, strict=True)
            bounds = (min(xs), min(ys), max(xs), max(ys))
        crs = None if image.crs is None else image.crs.to_string()
        taken = None if image.taken is None else image.taken[:_LONGEST]
        self._place = (None if crs is None or len(crs) > _LONGEST else crs, bounds, taken)

    def begin(self, shape: tuple[int, int]) -> None:
        """Another image of the request comes."""
        self._shape = shape
        self._images += 1
        self._step = max(1, math.isqrt(-(-shape[0] * shape[1] * self._images // MOST)))

    def take(self, pixels: Pixels, valid: Valid) -> None:
        """Look at a window: reflectance x 10000 `[bands, h, w]`, and where it has data `[h, w]`."""
        step = self._step
        shown = valid[::step, ::step]
        self._seen += shown.size
        self._pixels.append(pixels[:, ::step, ::step][:, shown])

    def add(self, mask: NDArray[np.uint8]) -> None:
        """Look at rows of the mask."""
        self._counts += np.bincount(mask[:: self._step, :: self._step].ravel(), minlength=256)

    def statistics(self) -> InputStatistics:
        """What was seen."""
        pixels = np.concatenate(self._pixels, axis=1) if self._pixels else np.zeros((0, 0), np.float32)
        count = pixels.shape[1]
        quantiles: tuple[tuple[float, ...], ...] = ()
        if count:
            places = np.rint(np.array(PROBABILITIES) * (count - 1)).astype(np.intp)
            quantiles = tuple(tuple(map(float, row)) for row in np.sort(pixels, axis=1)[:, places].round(1).tolist())
        self._counts[IGNORE] = 0
        total = max(int(self._counts.sum()), 1)
        crs, bounds, taken = self._place
        return InputStatistics(
            shape=self._shape,
            images=self._images,
            sampled=count,
            valid_fraction=round(count / self._seen, 4) if self._seen else 0.0,
            quantiles=quantiles,
            fractional=bool((pixels != np.rint(pixels)).any()),
            class_fractions=tuple(round(int(n) / total, 5) for n in self._counts[: self._classes]),
            crs=crs,
            bounds=bounds,
            taken=taken,
        )
