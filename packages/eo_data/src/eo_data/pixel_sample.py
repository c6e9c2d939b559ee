"""Which pixels of a raster are looked at to judge it: all of a small one, some blocks of a great one, thinned out."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isqrt
from typing import Final

WHOLE: Final = 1 << 20
"""A raster of so many pixels is read whole."""
KEPT: Final = 1 << 18
"""Of a greater one about so many pixels are kept: what a quantile lacks comes from where blocks lie, not from these."""
DECODED: Final = 1 << 22
"""Pixels of a greater raster that are decoded, a few hundredths of a Sentinel-2 tile."""
FEWEST: Final = 4
LEAST_STRIP: Final = 16
LEAST_TILE: Final = 256
"""Smaller blocks are read together: strips so many rows at a time, tiles so many pixels square."""


@dataclass(frozen=True)
class SamplePlan:
    """Windows (top, left, height, width) along the raster's blocks, and the step between pixels kept."""

    windows: tuple[tuple[int, int, int, int], ...]
    step: int


def plan_sample(shape: tuple[int, int], block: tuple[int, int]) -> SamplePlan:
    """The sample of a raster: a function of its size and blocks alone, so that it is the same each time.

    Args:
        shape: Height and width of the raster, pixels.
        block: Height and width of its blocks: whole ones are read, spread evenly over rows and columns.
    """
    height, width = shape
    if height * width <= WHOLE:
        return SamplePlan(((0, 0, height, width),), 1)
    columns = block[1] * ceil(LEAST_TILE / block[1])
    rows = block[0] * ceil((LEAST_STRIP if columns >= width else LEAST_TILE) / block[0])
    down, across = ceil(height / rows), ceil(width / columns)
    wanted = max(FEWEST, DECODED // (rows * columns))
    many = min(down, wanted, max(1, round((wanted * down / across) ** 0.5)))
    tops = [int((k + 0.5) * down / many) * rows for k in range(many)]
    many = min(across, max(1, wanted // many))
    lefts = [int((k + 0.5) * across / many) * columns for k in range(many)]
    windows = tuple((y, x, min(rows, height - y), min(columns, width - x)) for y in tops for x in lefts)
    step = max(1, isqrt(sum(h * w for _, _, h, w in windows) // KEPT))
    while sum(ceil(h / step) * ceil(w / step) for _, _, h, w in windows) > KEPT:
        step += 1
    return SamplePlan(windows, step)
