"""Vegetation, fields, towns, roads and snow of a simulated scene."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eo_data.simulate.noise import FloatArray, FractalField, Span, hash_unit
from eo_data.simulate.recipe import Climate, Recipe, Water
from eo_data.simulate.shapes import Canvas, Line, subpixel_positions
from eo_data.simulate.spectra import Material as M

MaterialArray = NDArray[np.uint8]

_NATURAL: Final[dict[Climate, tuple[M, ...]]] = {
    Climate.TROPICAL: (M.BROADLEAF, M.BROADLEAF, M.GRASS, M.SHRUB),
    Climate.ARID: (M.SAND, M.DRY_SOIL, M.SHRUB, M.DARK_ROCK),
    Climate.TEMPERATE: (M.BROADLEAF, M.GRASS, M.DRY_GRASS, M.CONIFER),
    Climate.BOREAL: (M.CONIFER, M.GRASS, M.BROADLEAF, M.CONIFER),
    Climate.ALPINE: (M.CONIFER, M.GRASS, M.BRIGHT_ROCK, M.DARK_ROCK),
}
"""In the alpine climate from the low to the high ground."""

_FIELDS: Final[dict[Climate, tuple[M, ...]]] = {
    Climate.TROPICAL: (M.CROP, M.CROP, M.RED_SOIL, M.GRASS, M.BROADLEAF, M.MOIST_SOIL),
    Climate.ARID: (M.CROP, M.DRY_SOIL, M.RED_SOIL, M.DRY_GRASS, M.DRY_SOIL, M.SHRUB),
    Climate.TEMPERATE: (M.CROP, M.CROP, M.GRASS, M.DRY_SOIL, M.MOIST_SOIL, M.DRY_GRASS),
    Climate.BOREAL: (M.GRASS, M.CROP, M.MOIST_SOIL, M.DRY_GRASS, M.GRASS, M.CONIFER),
    Climate.ALPINE: (M.GRASS, M.GRASS, M.DRY_GRASS, M.CROP, M.MOIST_SOIL, M.GRASS),
}

_FLOODED: Final = (M.SHALLOW_WATER, M.VEGETATED_WATER, M.TURBID_WATER, M.CROP, M.MOIST_SOIL, M.CROP, M.GRASS, M.CROP)
"""Fields in a wetland: paddies at different stages."""

_FARMED: Final = {
    Climate.TROPICAL: 0.35, Climate.ARID: 0.15, Climate.TEMPERATE: 0.6, Climate.BOREAL: 0.15, Climate.ALPINE: 0.1
}  # fmt: skip


@dataclass(frozen=True)
class Town:
    """A town: streets on a turned grid, denser towards the centre.

    Attributes:
        row: Of the centre, pixels.
        column: Of the centre, pixels.
        radius: Pixels.
        turn: Unit vector (row, column) along its streets.
        pitch: Distance between its streets, pixels.
        green: Share of its plots that is garden.
    """

    row: float
    column: float
    radius: float
    turn: tuple[float, float]
    pitch: float
    green: float


class LandCover:
    """The land of a scene.

    Args:
        recipe: What the scene shows.
        elevation: The scene's relief; what grows follows it, and snow lies on its heights.
    """

    def __init__(self, recipe: Recipe, elevation: FractalField) -> None:
        rng = recipe.rng(2)
        self._size = recipe.size
        self._elevation = elevation
        self._zones = FractalField(rng, recipe.size, 2.2, longest=max(160.0, recipe.size / 3))
        self._patches = FractalField(rng, recipe.size, 1.1, longest=40)
        natural = _NATURAL[recipe.climate]
        if recipe.climate is not Climate.ALPINE:  # only there does height decide
            natural = tuple(natural[index] for index in rng.permutation(len(natural)))
        self._natural = natural
        self._cuts = np.sort(rng.uniform(-1.1, 1.3, len(self._natural) - 1)).tolist()
        farmed = float(np.clip(_FARMED[recipe.climate] + rng.normal(0, 0.22), 0, 0.9))
        wetland = recipe.water is Water.WETLAND
        self._farmed_above = self._zones.quantile(1 - (max(farmed, 0.5) if wetland else farmed))
        self._fields = _seasonal(_FLOODED if wetland else _FIELDS[recipe.climate], recipe.summer)
        self._parcels = _Parcels(rng, recipe.size)
        self._road = M.WET_ASPHALT if recipe.wet else M.ASPHALT
        self._towns, self._roads = self._settle(rng, recipe.climate)
        self._snow_above = elevation.quantile(1 - recipe.snow) if recipe.snow else None
        self._salt = int(rng.integers(2**32))

    def draw(self, rows: Span) -> tuple[MaterialArray, FloatArray, NDArray[np.bool_]]:
        """Material, vigour and roads on the sub-pixels of a strip.

        Returns:
            The material uint8, the vigour float32 in [0, 1) of what grows (the same all over a field), and
            where a road runs, each `[3 h, 3 w]`.
        """
        columns = (0, self._size)
        patches = self._patches.subpixels(rows, columns)
        zones = self._zones.subpixels(rows, columns)
        heights = self._elevation.subpixels(rows, columns) + np.float32(0.22) * patches
        position = np.zeros(heights.shape, dtype=np.uint8)
        for cut in self._cuts:
            position += heights > np.float32(cut)
        material = np.array(self._natural, dtype=np.uint8)[position]
        vigour = np.full(heights.shape, 0.5, dtype=np.float32)
        farmed = zones > self._farmed_above
        if farmed.any():
            kind, parcel_vigour = self._parcels.draw(rows, self._fields)
            np.copyto(material, kind, where=farmed)
            np.copyto(vigour, parcel_vigour, where=farmed)
        self._build(rows, material, patches)
        roads = self._draw_roads(rows)
        material[roads] = self._road
        if self._snow_above is not None:
            # trees shed part of their snow
            white = heights + np.float32(0.15) * patches > self._snow_above
            white &= ~((material == M.CONIFER) & (patches > np.float32(-0.3)))
            material[white & ~roads] = M.SNOW
        return material, vigour, roads

    def _settle(self, rng: np.random.Generator, climate: Climate) -> tuple[list[Town], list[Line]]:
        """Towns and the roads between them."""
        chance = {Climate.ARID: 0.5, Climate.ALPINE: 0.35, Climate.BOREAL: 0.4}.get(climate, 0.8)
        scale = max(1.0, self._size / 256)
        count = int((rng.random() < chance) * rng.integers(1, 5) * scale**1.6)
        towns = []
        for _ in range(count):
            row, column = rng.uniform(-0.05, 1.05, 2) * self._size
            angle, radius = rng.uniform(0, math.pi), 9 / math.sqrt(float(rng.uniform(0.015, 1.0)))
            turn = (math.sin(angle), math.cos(angle))
            pitch, green = float(rng.uniform(2.5, 6.0)), float(rng.uniform(0.1, 0.5))
            towns.append(Town(float(row), float(column), radius, turn, pitch, green))
        stops = [np.array([town.row, town.column]) for town in towns]
        stops += [rng.uniform(0, 1, 2) * self._size for _ in range(int(rng.integers(0, 3) * scale))]
        return towns, [self._road_through(rng, stop) for stop in stops]

    def _road_through(self, rng: np.random.Generator, stop: NDArray[np.float64]) -> Line:
        """A slightly winding road through a point, across the scene."""
        half = int(self._size / 6) + 4
        angle = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, 0.07, 2 * half))
        path = np.cumsum(6.0 * np.stack((np.sin(angle), np.cos(angle)), axis=1), axis=0)
        return Line(path - path[half] + stop, np.full(2 * half, float(rng.uniform(0.2, 0.7))))

    def _draw_roads(self, rows: Span) -> NDArray[np.bool_]:
        canvas = Canvas(rows, self._size)
        for line in self._roads:
            canvas.line(line, 1)
        return canvas.distance < 0

    def _build(self, rows: Span, material: MaterialArray, patches: FloatArray) -> None:
        """Put the towns into the strip's material."""
        y, x = subpixel_positions(rows, (0, self._size))
        for town in self._towns:
            reach = 1.6 * town.radius
            lines = np.flatnonzero(np.abs(y[:, 0] - town.row) < reach)
            across = np.flatnonzero(np.abs(x[0] - town.column) < reach)
            if len(lines) == 0 or len(across) == 0:
                continue
            window = (slice(lines[0], lines[-1] + 1), slice(across[0], across[-1] + 1))
            plots, inside = self._plots(
                town, y[window[0]] - np.float32(town.row), x[:, window[1]] - np.float32(town.column), patches[window]
            )
            np.copyto(material[window], plots, where=inside)

    def _plots(
        self, town: Town, y: FloatArray, x: FloatArray, patches: FloatArray
    ) -> tuple[MaterialArray, NDArray[np.bool_]]:
        """What stands on a town's plots, and where the town is."""
        u = (y * np.float32(town.turn[0]) + x * np.float32(town.turn[1])) * np.float32(1 / town.pitch)
        v = (y * np.float32(-town.turn[1]) + x * np.float32(town.turn[0])) * np.float32(1.6 / town.pitch)
        street, house = np.floor(u), np.floor(v)
        word = street.astype(np.int32).astype(np.uint32) * np.uint32(0x9E3779B1)
        word ^= house.astype(np.int32).astype(np.uint32) * np.uint32(0x85EBCA77)
        luck = hash_unit(word ^ np.uint32(self._salt))
        u -= street
        v -= house
        roofs = np.array([M.BRIGHT_ROOF, M.DARK_ROOF, M.RED_ROOF, M.DARK_ROOF, M.ASPHALT], dtype=np.uint8)
        green = np.float32(town.green)
        scaled = np.clip((luck - green) * np.float32(1 / max(1e-3, 1 - town.green)), 0, np.float32(0.999))
        kind = roofs[(scaled * len(roofs)).astype(np.uint8)]
        kind[luck < green] = M.GRASS
        kind[luck < green * np.float32(0.5)] = M.BROADLEAF
        tall = (luck > np.float32(0.8)) & (v < np.float32(0.3))
        kind[tall] = M.SHADE  # cast by tall buildings
        kind[u < np.float32(0.9 / town.pitch)] = self._road
        radius = np.float32(town.radius) * (1 + np.float32(0.3) * patches)
        return kind, y * y + x * x < radius * np.abs(radius)


class _Parcels:
    """Fields: long strips of unequal width, each cut into parcels, on a turned and slightly bent grid."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self._size = size
        self._bend = FractalField(rng, size, 3.0, longest=max(160.0, size / 2), shortest=24)
        angle = float(rng.uniform(0, math.pi))
        self._turn = (math.sin(angle), math.cos(angle))
        width = float(rng.uniform(7, 26))
        self._length = width * float(rng.uniform(1.0, 3.0))
        steps = int(size * 1.5 + 80) * 2  # strips are looked up in half pixels
        borders = np.cumsum(rng.uniform(0.5, 1.6, int(3 * size * 1.5 / width) + 40) * width)
        self._strip = np.searchsorted(borders, np.arange(2 * steps) / 2).astype(np.uint32)
        self._middle = steps
        shift, stretch = rng.random((2, len(borders) + 1), dtype=np.float32)
        self._shift = shift * np.float32(self._length)
        self._per_pixel = (1 / (self._length * (0.6 + 1.1 * stretch))).astype(np.float32)
        self._salt = int(rng.integers(2**32))

    def draw(self, rows: Span, kinds: tuple[M, ...]) -> tuple[MaterialArray, FloatArray]:
        """Material and vigour of the fields on the sub-pixels of a strip, were all of it farmed."""
        y, x = subpixel_positions(rows, (0, self._size))
        bend = self._bend.subpixels(rows, (0, self._size)) * np.float32(5)
        middle = np.float32(self._size / 2)
        y, x = y - middle, x - middle
        u = y * np.float32(self._turn[0]) + x * np.float32(self._turn[1]) + bend
        v = y * np.float32(-self._turn[1]) + x * np.float32(self._turn[0]) + bend
        index = (u * 2).astype(np.int32) + np.int32(self._middle)
        strip = self._strip[np.clip(index, 0, len(self._strip) - 1)]
        v += self._shift[strip]
        v *= self._per_pixel[strip]
        parcel = np.floor(v)
        word = strip * np.uint32(0x9E3779B1) + parcel.astype(np.int32).astype(np.uint32) * np.uint32(0x85EBCA77)
        word += np.uint32(self._salt)
        luck = hash_unit(word) * np.float32(len(kinds))
        kind = luck.astype(np.uint8)
        vigour = luck - kind
        material = np.array(kinds, dtype=np.uint8)[np.minimum(kind, len(kinds) - 1)]
        material[v - parcel < self._per_pixel[strip] * np.float32(0.5)] = M.GRASS  # field margins
        return material, vigour


def _seasonal(fields: tuple[M, ...], summer: float) -> tuple[M, ...]:
    """Fewer crops and more bare soil in winter, more stubble late in the year."""
    if summer > 0.45:
        return fields
    bare = {M.CROP: M.MOIST_SOIL, M.DRY_GRASS: M.DRY_SOIL}
    return fields + tuple(bare.get(field, field) for field in fields)
