"""Drawing lines and ellipses as distances on the sub-pixel grid of a strip of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eo_data.simulate.noise import SUBPIXELS, FloatArray, Span

FAR: Final = 8.0
"""Distances are drawn up to this many pixels outside a shape."""


@dataclass(frozen=True, eq=False)
class Line:
    """A line with a width that may change along it.

    Attributes:
        points: Row and column of its points, pixels, float64 `[n, 2]`.
        half_width: Half the width at every point, pixels, float64 `[n]`.
    """

    points: NDArray[np.float64]
    half_width: NDArray[np.float64]


@dataclass(frozen=True)
class Ellipse:
    """An ellipse whose outline noise pushes in and out.

    Attributes:
        row: Of the centre, pixels.
        column: Of the centre, pixels.
        radii: Half axes, pixels.
        turn: Unit vector (row, column) of the first axis.
        rough: How far noise of one standard deviation pushes the outline, as a fraction of the radius.
    """

    row: float
    column: float
    radii: tuple[float, float]
    turn: tuple[float, float]
    rough: float = 0.0


class Canvas:
    """Distances to the nearest shape on the sub-pixels of a strip: negative inside, at most 8 outside.

    Args:
        rows: The strip's half-open rows, pixels.
        width: Columns of the scene, pixels.
    """

    def __init__(self, rows: Span, width: int) -> None:
        shape = ((rows[1] - rows[0]) * SUBPIXELS, width * SUBPIXELS)
        self.distance: FloatArray = np.full(shape, FAR, dtype=np.float32)
        self.shape_number: NDArray[np.uint16] = np.zeros(shape, dtype=np.uint16)
        self._top = rows[0]
        self.y, self.x = subpixel_positions(rows, (0, width))

    def line(self, line: Line, number: int) -> None:
        """Draw a line; where it is the nearest shape, `shape_number` becomes `number`."""
        reach = np.maximum(line.half_width[:-1], line.half_width[1:]) + FAR
        low = np.minimum(line.points[:-1], line.points[1:]) - reach[:, None]
        high = np.maximum(line.points[:-1], line.points[1:]) + reach[:, None]
        last = (float(self.y[-1, 0]), float(self.x[0, -1]))
        seen = (high[:, 0] >= self._top) & (low[:, 0] <= last[0]) & (high[:, 1] >= 0) & (low[:, 1] <= last[1])
        for index in np.flatnonzero(seen):
            window = self._window(low[index], high[index])
            y = self.y[window[0]] - np.float32(line.points[index, 0])
            x = self.x[:, window[1]] - np.float32(line.points[index, 1])
            self._nearer(window, number, _to_segment(y, x, line, int(index)))

    def ellipse(self, ellipse: Ellipse, number: int, noise: FloatArray) -> None:
        """Draw an ellipse; `noise` covers the strip's sub-pixels."""
        reach = max(ellipse.radii) * (1 + 3 * ellipse.rough) + FAR
        centre = np.array([ellipse.row, ellipse.column])
        window = self._window(centre - reach, centre + reach)
        y, x = self.y[window[0]] - np.float32(ellipse.row), self.x[:, window[1]] - np.float32(ellipse.column)
        (a, b), (down, right) = ellipse.radii, ellipse.turn
        u = y * np.float32(down / a) + x * np.float32(right / a)
        v = y * np.float32(-right / b) + x * np.float32(down / b)
        level = np.sqrt(u * u + v * v) - 1 - np.float32(ellipse.rough) * noise[window]
        self._nearer(window, number, level * np.float32(min(a, b)))

    def field(self, distance: FloatArray, number: int) -> None:
        """Draw a shape that is given as distances over the whole strip."""
        self._nearer((slice(None), slice(None)), number, distance)

    def _window(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[slice, slice]:
        """The sub-pixels between two corners."""
        top, left = (max(0, int(value * SUBPIXELS)) for value in (low[0] - self._top, low[1]))
        bottom, right = (max(0, int(value * SUBPIXELS) + 4) for value in (high[0] - self._top, high[1]))
        return slice(top, bottom), slice(left, right)

    def _nearer(self, window: tuple[slice, slice], number: int, distance: FloatArray) -> None:
        """Keep the smaller distance, and the number of the shape that it belongs to."""
        nearer = distance < self.distance[window]
        np.copyto(self.distance[window], distance, where=nearer)
        np.copyto(self.shape_number[window], np.uint16(number), where=nearer)


def subpixel_positions(rows: Span, columns: Span) -> tuple[FloatArray, FloatArray]:
    """Row `[n, 1]` and column `[1, m]` of the sub-pixels' centres, pixels; pixel centres are whole numbers."""
    y, x = (
        ((np.arange(span[0] * SUBPIXELS, span[1] * SUBPIXELS) - 1) / SUBPIXELS).astype(np.float32)
        for span in (rows, columns)
    )
    return y[:, None], x[None, :]


def _to_segment(y: FloatArray, x: FloatArray, line: Line, index: int) -> FloatArray:
    """Distance to a segment's outline, from offsets to its first point."""
    down, right = (line.points[index + 1] - line.points[index]).tolist()
    square = max(down * down + right * right, 1e-12)
    along: FloatArray = np.clip(y * np.float32(down / square) + x * np.float32(right / square), 0, 1)
    first, last = line.half_width[index : index + 2].tolist()
    y, x = y - along * np.float32(down), x - along * np.float32(right)
    return np.sqrt(y * y + x * x) - np.float32(first) - along * np.float32(last - first)
