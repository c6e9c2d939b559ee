"""Rivers, lakes, reservoirs, coasts and wetlands of a simulated scene."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eo_data.simulate.noise import FloatArray, FractalField, Span
from eo_data.simulate.recipe import Climate, Recipe, Water
from eo_data.simulate.shapes import FAR, Canvas, Ellipse, Line
from eo_data.simulate.spectra import Material


@dataclass(frozen=True)
class Body:
    """What a water body is filled with.

    Attributes:
        water: Material of its open water.
        shore: Water material along its shore.
        shore_width: Width of that margin, pixels.
        bank: Land material along it, beyond the water's edge.
        bank_width: Width of the bank, pixels.
        bridged: Whether roads cross it.
    """

    water: Material
    shore: Material
    shore_width: float
    bank: Material
    bank_width: float
    bridged: bool = False


@dataclass(frozen=True, eq=False)
class Basin:
    """A water body that fills the low parts of a field, tilted towards one side."""

    field: FractalField
    level: float
    tilt: tuple[float, float]
    middle: float
    pixels_per_unit: float

    def distance(self, canvas: Canvas, rows: Span, width: int) -> FloatArray:
        """Roughly the distance to the shore, pixels; negative in the water."""
        height = self.field.subpixels(rows, (0, width)) - np.float32(self.level)
        if any(self.tilt):
            height += (canvas.y - np.float32(self.middle)) * np.float32(self.tilt[0])
            height += (canvas.x - np.float32(self.middle)) * np.float32(self.tilt[1])
        return height * np.float32(self.pixels_per_unit)


Shape = Line | Ellipse | Basin

_OPEN: Final = (Material.CLEAR_WATER, Material.TURBID_WATER, Material.GREEN_WATER)


class WaterBodies:
    """The water bodies of a scene.

    Args:
        recipe: What the scene shows.
        elevation: The scene's relief; reservoirs and coasts fill it.
    """

    def __init__(self, recipe: Recipe, elevation: FractalField) -> None:
        self._size = recipe.size
        self._rng = recipe.rng(1)
        self._climate = recipe.climate
        self._edge = FractalField(self._rng, recipe.size, 1.4, longest=24)
        self._outline = FractalField(self._rng, recipe.size, 2.2, longest=60)
        self.bodies: list[Body] = []
        self._shapes: list[tuple[Shape, int]] = []
        builders = {
            Water.STREAM: self._streams,
            Water.RIVER: self._river,
            Water.BRAIDED: self._braided,
            Water.PONDS: self._ponds,
            Water.LAKES: self._lakes,
            Water.WETLAND: self._wetland,
        }
        if recipe.water in (Water.RESERVOIR, Water.COAST):
            self._basin(elevation, recipe.water)
        elif recipe.water in builders:
            builders[recipe.water]()
        self._extents = np.array([_rows_of(shape) for shape, _ in self._shapes]).reshape(-1, 2)

    def draw(self, rows: Span) -> Canvas:
        """Distances to the nearest water body on the sub-pixels of a strip; `shape_number` n is `bodies[n]`."""
        canvas = Canvas(rows, self._size)
        seen = np.flatnonzero((self._extents[:, 1] >= rows[0]) & (self._extents[:, 0] <= rows[1]))
        if len(seen) == 0:
            return canvas
        edge = self._edge.subpixels(rows, (0, self._size))
        outline = self._outline.subpixels(rows, (0, self._size))
        for index in seen:
            shape, number = self._shapes[index]
            if isinstance(shape, Line):
                canvas.line(shape, number)
            elif isinstance(shape, Ellipse):
                canvas.ellipse(shape, number, outline)
            else:
                canvas.field(shape.distance(canvas, rows, self._size), number)
        canvas.distance += edge * np.float32(0.3)  # banks are never as smooth as the shapes
        return canvas

    def _add(self, body: Body, *shapes: Shape) -> None:
        """Shapes that one body fills."""
        self._shapes += [(shape, len(self.bodies)) for shape in shapes]
        self.bodies.append(body)

    def _count(self, least: int, most: int, power: float = 2.0) -> int:
        """A number of things that grows with the scene: as its area (2) or its side (1)."""
        scale = max(1.0, self._size / 256) ** power
        return int(self._rng.integers(least, most + 1) * scale)

    def _body(self, *, open_water: Material | None = None, bridged: bool = False) -> Body:
        """A body whose shore and bank suit the climate."""
        rng = self._rng
        water = open_water if open_water is not None else _OPEN[int(rng.choice(3, p=(0.5, 0.3, 0.2)))]
        arid = self._climate in (Climate.ARID, Climate.ALPINE)
        shore = Material.VEGETATED_WATER if rng.random() < (0.15 if arid else 0.45) else Material.SHALLOW_WATER
        banks = (Material.SAND, Material.DRY_SOIL, Material.MOIST_SOIL) if arid else (
            Material.MOIST_SOIL, Material.BROADLEAF, Material.GRASS, Material.SAND
        )  # fmt: skip
        bank = banks[int(rng.integers(len(banks)))]
        return Body(water, shore, float(rng.uniform(0, 2.2)), bank, float(rng.uniform(0, 3.5)), bridged)

    def _streams(self) -> None:
        for _ in range(self._count(1, 2, 0.8)):
            line = self._meander(float(self._rng.uniform(0.6, 2.2)), float(self._rng.uniform(0.5, 1.5)))
            self._add(self._body(bridged=True), line)
        self._scatter(self._count(0, 4), (1.0, 5.0))

    def _river(self) -> None:
        half_width = float(self._rng.uniform(3.5, 14.0))
        bend = float(self._rng.uniform(0.4, 1.6))
        rivers = self._count(1, 1, 0.6)
        self._add(self._body(bridged=True), *(self._meander(half_width, bend) for _ in range(rivers)))
        tributary = self._meander(half_width * float(self._rng.uniform(0.12, 0.3)), bend)
        self._add(self._body(bridged=True), tributary)
        self._add(self._body(), *(self._oxbow(half_width) for _ in range(self._count(0, 3, 1.0))))
        self._scatter(self._count(0, 6), (1.0, 6.0))

    def _braided(self) -> None:
        body = self._body(open_water=Material.TURBID_WATER, bridged=True)
        direction = float(self._rng.uniform(0, 2 * math.pi))
        for _ in range(self._count(1, 1, 0.6)):
            middle = self._middle(0.15)
            for _ in range(int(self._rng.integers(3, 6))):
                centre = middle + self._rng.normal(0, 9, 2)
                half_width = float(self._rng.uniform(1.0, 5.0))
                bend = float(self._rng.uniform(0.3, 0.8))
                self._add(body, self._meander(half_width, bend, direction, centre, 70.0))

    def _ponds(self) -> None:
        self._scatter(self._count(12, 40), (1.4, 9.0))

    def _lakes(self) -> None:
        self._scatter(self._count(1, 3), (20.0, 75.0))
        self._scatter(self._count(3, 12), (1.5, 14.0))
        if self._rng.random() < 0.5:
            self._add(self._body(bridged=True), self._meander(float(self._rng.uniform(0.5, 1.8)), 0.9))

    def _wetland(self) -> None:
        """Marsh with open pools; the flooded fields around are land cover."""
        rng = self._rng
        marsh = FractalField(rng, self._size, 1.5, longest=max(60.0, self._size / 2))
        share = float(rng.uniform(0.08, 0.25))
        reeds = Body(Material.VEGETATED_WATER, Material.VEGETATED_WATER, 0.0, Material.GRASS, 3.0)
        self._add(reeds, self._filled(marsh, share, (0.0, 0.0)))
        pools = Body(Material.GREEN_WATER, Material.SHALLOW_WATER, 1.0, Material.GRASS, 0.0)
        self._add(pools, self._filled(marsh, share * 0.5, (0.0, 0.0)))
        self._add(self._body(bridged=True), self._meander(float(rng.uniform(0.6, 2.0)), 1.3))

    def _basin(self, elevation: FractalField, water: Water) -> None:
        rng = self._rng
        tilt, share = (0.0, 0.0), float(rng.uniform(0.12, 0.35))
        if water is Water.COAST:
            direction, share = float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(0.4, 0.6))
            steep = float(rng.uniform(4.0, 8.0)) / self._size
            tilt = (math.sin(direction) * steep, math.cos(direction) * steep)
        self._add(self._body(), self._filled(elevation, share, tilt))
        self._scatter(self._count(0, 4), (1.0, 5.0))

    def _filled(self, field: FractalField, share: float, tilt: tuple[float, float]) -> Basin:
        """A basin that fills about this share of the scene."""
        step = field.pixels((0, min(self._size, 256) + 1), (0, min(self._size, 256) + 1))
        slope = float(np.abs(np.diff(step, axis=0)).mean() + np.abs(np.diff(step, axis=1)).mean()) / math.sqrt(2)
        slope = math.hypot(slope, *tilt)
        # without tilt the scene's own quantile is met, so that small scenes get their share too
        level = field.quantile(share) if any(tilt) else np.quantile(step, share) if self._size <= 256 else (
            field.quantile(share)
        )  # fmt: skip
        return Basin(field, float(level), tilt, self._size / 2, 1 / max(slope, 1e-6))

    def _scatter(self, count: int, radii: tuple[float, float]) -> None:
        """Lakes with a power law of sizes: many small, few large."""
        rng = self._rng
        low, high = radii
        lakes: list[list[Ellipse]] = [[] for _ in range(min(count, 24))]
        for index in range(count):
            radius = 1 / math.sqrt(float(rng.uniform(high**-2, low**-2)))
            angle = float(rng.uniform(0, math.pi))
            row, column = rng.uniform(0, self._size, 2).tolist()
            flat = float(rng.uniform(0.45, 1.0))
            turn = (math.sin(angle), math.cos(angle))
            lakes[index % len(lakes)].append(Ellipse(row, column, (radius, radius * flat), turn, 0.22))
        for shapes in lakes:
            self._add(self._body(), *shapes)

    def _middle(self, spread: float) -> NDArray[np.float64]:
        """A point near the centre of the scene."""
        return self._size / 2 + self._rng.uniform(-spread, spread, 2) * self._size

    def _meander(
        self,
        half_width: float,
        bend: float,
        direction: float | None = None,
        centre: NDArray[np.float64] | None = None,
        wave: float | None = None,
    ) -> Line:
        """A sine-generated curve, the shape that free meanders take, across the scene.

        Args:
            half_width: Pixels.
            bend: Greatest angle between the channel and its course, radians; above 1.3 bends nearly close.
            direction: The course; None draws one.
            centre: A point that the course passes; None draws one near the centre of the scene.
            wave: Length of a bend along the channel, pixels; None takes 11 to 16 widths, as rivers do.
        """
        rng = self._rng
        wave = wave or max(28.0, 2 * half_width * float(rng.uniform(11, 16)))
        step = max(1.2, 0.45 * half_width)
        half = int(self._size * (1.0 + bend) / step) + 8
        along = np.arange(-half, half, dtype=np.float64) * step
        course = float(rng.uniform(0, 2 * math.pi)) if direction is None else direction
        bends = np.sin(2 * math.pi * along / wave + _wander(rng, along, 2.5 * wave, 1.2))
        angle = course + bend * bends * (1 + _wander(rng, along, 3 * wave, 0.3))
        angle += _wander(rng, along, 4 * wave + self._size / 3, 0.35)
        path = np.cumsum(np.stack((np.sin(angle), np.cos(angle)), axis=1) * step, axis=0)
        start = self._middle(0.3 * min(1.0, self._size / 64)) if centre is None else centre
        width = half_width * (1 + 0.3 * _wander(rng, along, wave, 1.0))
        return Line(path - path[half] + start, np.maximum(width, 0.35 * half_width))

    def _oxbow(self, half_width: float) -> Line:
        """An arc that a river of this width left behind."""
        rng = self._rng
        radius = half_width * float(rng.uniform(3.0, 6.0))
        start, span = float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(2.5, 4.5))
        angle = start + np.linspace(0, span, 24)
        points = self._middle(0.45) + radius * np.stack((np.sin(angle), np.cos(angle)), axis=1)
        fade = np.sqrt(np.clip(np.linspace(0, 2, 24) * np.linspace(2, 0, 24), 0, 1))
        return Line(points, half_width * float(rng.uniform(0.4, 0.7)) * fade)


def _wander(rng: np.random.Generator, along: NDArray[np.float64], wave: float, amplitude: float) -> NDArray[np.float64]:
    """Smooth random change along a line: a few sines of unequal length."""
    total = np.zeros_like(along)
    for factor in (1.0, 0.61, 0.37):
        phase = float(rng.uniform(0, 2 * math.pi))
        total += np.sin(2 * math.pi * along / (wave * factor * float(rng.uniform(0.8, 1.3))) + phase)
    return total * (amplitude / 1.7)


def _rows_of(shape: Shape) -> Span:
    """The rows that a shape can reach into."""
    if isinstance(shape, Basin):
        return -(2**31), 2**31
    if isinstance(shape, Ellipse):
        reach = max(shape.radii) * (1 + 3 * shape.rough) + FAR
        return math.floor(shape.row - reach), math.ceil(shape.row + reach)
    reach = float(shape.half_width.max()) + FAR
    return math.floor(shape.points[:, 0].min() - reach), math.ceil(shape.points[:, 0].max() + reach)
