"""The tile plan with halo and blending: how a raster of any size goes through a model of fixed tile size.

Endpoint, batch prediction and evaluation share it. NumPy alone; the model is a callable. Rows stream:
a band of tiles is read, predicted and blended, and the rows that no later tile touches are handed on, so that
memory depends on the raster's width and the tile, never on its height.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")
Pixels = NDArray[np.float32]
Valid = NDArray[np.bool_]
ReadWindow = Callable[[int, int, int, int], tuple[Pixels, Valid]]
"""`read(top, left, height, width)` inside the raster -> reflectance `[bands, h, w]` and valid `[h, w]`."""
Predict = Callable[[Pixels], Pixels]
"""Tiles `[n, bands, tile, tile]` -> probabilities `[n, classes, tile, tile]`."""
Source = tuple[Pixels, Valid]
"""Rows that a band of tiles sees, `[bands, tile, width]`, and where they have data `[tile, width]`."""


@dataclass(frozen=True)
class TilePlan:
    """Square tiles whose cores cover a raster.

    Attributes:
        tile: Side of what the model sees, pixels.
        halo: Context at each side that is seen and then thrown away, pixels.
        blend: Overlap of neighbouring cores, over which they are blended linearly, pixels.
    """

    tile: int = 256
    halo: int = 32
    blend: int = 16

    def __post_init__(self) -> None:
        """Refuse a plan whose tiles do not advance."""
        if min(self.tile, self.halo + 1, self.blend + 1) < 1 or self.step < 1:
            raise ValueError(f"tile {self.tile} is too small for halo {self.halo} and blend {self.blend}")

    @property
    def core(self) -> int:
        """Side of the part of a tile that enters the result."""
        return self.tile - 2 * self.halo

    @property
    def step(self) -> int:
        """Distance from one tile to the next."""
        return self.core - self.blend

    def starts(self, length: int) -> list[int]:
        """Where the cores begin along an axis: from 0, until the last reaches the end."""
        count = max(1, -(-(length - self.blend) // self.step))
        return [index * self.step for index in range(count)]

    def weights(self) -> Pixels:
        """Weight of each pixel of a core, `[core, core]`: 1 inside, a linear ramp over the blended margin."""
        distance = np.minimum(np.arange(self.core), np.arange(self.core)[::-1]) + 1
        ramp = np.minimum(distance / (self.blend + 1), 1).astype(np.float32)
        return np.outer(ramp, ramp).astype(np.float32)


@dataclass(frozen=True)
class RowBand:
    """Finished rows of a result.

    Attributes:
        top: Row of the raster where they begin.
        probability: `[classes, rows, width]`, float32; 0 where there is no data.
        valid: `[rows, width]`; where the input has data.
    """

    top: int
    probability: Pixels
    valid: Valid


def predict_rows(
    read: ReadWindow,
    shape: tuple[int, int],
    predict: Predict,
    plan: TilePlan,
    *,
    minibatch: int = 2,
    fetch: Callable[[Iterator[Source]], Iterator[Source]] = iter,
) -> Iterator[RowBand]:
    """Send a raster through a model and yield finished rows from top to bottom.

    Beyond the raster's edge the model sees the raster mirrored. Tiles without a single valid pixel are not
    sent to the model.

    Args:
        read: Reads a window inside the raster.
        shape: Height and width of the raster, each at least 1.
        predict: The model.
        plan: Tile, halo, blend.
        minibatch: How many tiles go to the model at once.
        fetch: How bands are drawn from the reader: one after the other, or `one_ahead`.
    """
    height, width = shape
    rows, columns, weights = plan.starts(height), plan.starts(width), plan.weights()
    padded = _PaddedRows(read, shape)
    pending: tuple[Pixels, Pixels] | None = None  # sums and weights of the rows that the next tiles still touch
    bands = fetch(padded.band(top - plan.halo, plan.tile) for top in rows)
    for number, top in enumerate(rows):
        bottom = min(top + plan.core, height)
        source, valid = next(bands)
        sums, total = _predict_band(source, valid, width, columns, weights, predict, plan, minibatch)
        sums, total = sums[:, : bottom - top], total[: bottom - top]
        if pending is not None:
            overlap = pending[1].shape[0]
            sums[:, :overlap] += pending[0]
            total[:overlap] += pending[1]
        final = (rows[number + 1] if number + 1 < len(rows) else height) - top
        inside = valid[plan.halo : plan.halo + final]
        probability = sums[:, :final]
        if plan.blend:
            probability /= np.maximum(total[:final], np.finfo(np.float32).tiny)
        yield RowBand(top, np.where(inside, probability, np.float32(0)), inside)
        pending = sums[:, final:].copy(), total[final:].copy()


def one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same, each made in a thread of its own while the one before is worked on.

    Only that thread makes them, one after the other; an error comes where its item would have come. Whoever stops
    early waits for the one that is being made.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="one-ahead") as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def array_reader(pixels: Pixels, valid: Valid) -> ReadWindow:
    """Windows of an array `[bands, H, W]` and of where it has data `[H, W]`."""

    def read(top: int, left: int, height: int, width: int) -> tuple[Pixels, Valid]:
        window = np.s_[top : top + height, left : left + width]
        return pixels[(slice(None), *window)], valid[window]

    return read


def predict_array(pixels: Pixels, valid: Valid, predict: Predict, plan: TilePlan) -> Pixels:
    """Probabilities `[classes, H, W]` of a whole array `[bands, H, W]`; 0 where `valid` is False."""
    height, width = valid.shape
    bands = [band.probability for band in predict_rows(array_reader(pixels, valid), (height, width), predict, plan)]
    return np.concatenate(bands, axis=1)


def _mirror(start: int, length: int, size: int) -> NDArray[np.intp]:
    """Indexes `start .. start + length` of an axis of `size` pixels, mirrored beyond its ends."""
    index = np.arange(start, start + length) % (2 * size)
    return np.minimum(index, 2 * size - 1 - index)


class _PaddedRows:
    """Bands of rows over the full width, mirrored beyond the raster's edges; no row is read twice.

    Args:
        read: Reads a window inside the raster; its arrays are copied before the next call.
        shape: Height and width of the raster.
    """

    def __init__(self, read: ReadWindow, shape: tuple[int, int]) -> None:
        self._read = read
        self._height, self._width = shape
        self._first = self._last = 0  # the rows that are kept
        self._pixels: Pixels | None = None
        self._valid: Valid | None = None

    def band(self, top: int, rows: int) -> tuple[Pixels, Valid]:
        """Rows `top .. top + rows`, of which some may lie beyond the edges; bands are asked for from top to bottom."""
        wanted = _mirror(top, rows, self._height)
        pixels, valid = self._window(int(wanted.min()), int(wanted.max()) + 1)
        runs = _runs(wanted - self._first)
        if len(runs) == 1 and runs[0][1].step == 1:  # nothing is mirrored
            return pixels[:, runs[0][1]], valid[runs[0][1]]
        mirrored = np.empty((pixels.shape[0], rows, self._width), dtype=np.float32)
        shown = np.empty((rows, self._width), dtype=np.bool_)
        for here, there in runs:
            mirrored[:, here], shown[here] = pixels[:, there], valid[there]
        return mirrored, shown

    def _window(self, first: int, last: int) -> tuple[Pixels, Valid]:
        # Mirrored rows reach back at the lower edge: what is kept then is read once more.
        reused = range(first, min(self._last, last)) if self._first <= first < self._last else range(0)
        fresh = first + len(reused)
        if fresh < last:
            read_pixels, read_valid = self._read(fresh, 0, last - fresh, self._width)
            pixels = np.empty((read_pixels.shape[0], last - first, self._width), dtype=np.float32)
            valid = np.empty((last - first, self._width), dtype=np.bool_)
            pixels[:, len(reused) :], valid[len(reused) :] = read_pixels, read_valid
            if len(reused) and self._pixels is not None and self._valid is not None:
                kept = slice(first - self._first, first - self._first + len(reused))
                pixels[:, : len(reused)], valid[: len(reused)] = self._pixels[:, kept], self._valid[kept]
            self._pixels, self._valid, self._first, self._last = pixels, valid, first, last
        assert self._pixels is not None and self._valid is not None  # noqa: S101, PT018 - the first band reads
        return self._pixels, self._valid


def _runs(index: NDArray[np.intp]) -> list[tuple[slice, slice]]:
    """A mirrored index as slices that count up or down one by one: where to, and where from.

    NumPy copies slices many times as fast as what an index array names.
    """
    bounds = [0, *(int(place) + 1 for place in np.flatnonzero(np.diff(index) == 0)), len(index)]
    found = []
    for begin, end in pairwise(bounds):
        first, last = int(index[begin]), int(index[end - 1])
        upwards = slice(first, last + 1, 1)
        downwards = slice(first, last - 1 if last > 0 else None, -1)
        found.append((slice(begin, end), upwards if last >= first else downwards))
    return found


def _predict_band(
    source: Pixels,
    valid: Valid,
    width: int,
    columns: list[int],
    weights: Pixels,
    predict: Predict,
    plan: TilePlan,
    minibatch: int,
) -> tuple[Pixels, Pixels]:
    """Weighted sums `[classes, core, width]` and weights `[core, width]` of one band of tiles."""
    sums: Pixels | None = None
    total = np.zeros((plan.core, width), dtype=np.float32)
    inner = slice(plan.halo, plan.halo + plan.core)
    bands = source.shape[0]
    wanted = [_mirror(left - plan.halo, plan.tile, width) for left in columns]
    # A mirrored index names neighbours without a gap: any of them is any of their span.
    filled = [k for k, index in enumerate(wanted) if valid[:, index.min() : index.max() + 1].any()] or [0]
    for start in range(0, len(filled), minibatch):
        chosen = filled[start : start + minibatch]
        tiles = np.empty((len(chosen), bands, plan.tile, plan.tile), dtype=np.float32)
        for tile, k in zip(tiles, chosen, strict=True):
            for here, there in _runs(wanted[k]):
                tile[:, :, here] = source[:, :, there]
        result = predict(tiles)
        if sums is None:
            sums = np.zeros((result.shape[1], plan.core, width), dtype=np.float32)
        for k, tile in zip(chosen, result, strict=True):
            left, right = columns[k], min(columns[k] + plan.core, width)
            core = tile[:, inner, inner][:, :, : right - left]
            if not plan.blend:  # cores lie side by side
                sums[:, :, left:right] = core
                continue
            sums[:, :, left:right] += core * weights[:, : right - left]
            total[:, left:right] += weights[:, : right - left]
    assert sums is not None  # noqa: S101 - `filled` is never empty
    return sums, total
