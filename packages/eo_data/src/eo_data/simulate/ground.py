"""The ground of a simulated scene: material fractions of every pixel, and their mixed spectra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eo_data.simulate.land_cover import LandCover, MaterialArray
from eo_data.simulate.noise import SUBPIXELS, FloatArray, FractalField, Span, pixel_sums
from eo_data.simulate.recipe import Climate, Recipe
from eo_data.simulate.spectra import BANDS, SURFACE, WATER_MATERIALS, Material
from eo_data.simulate.water_bodies import WaterBodies

_PER_PIXEL: Final = SUBPIXELS**2


@dataclass(frozen=True, eq=False)
class Ground:
    """The ground of a strip.

    Attributes:
        fractions: Share of every material in every pixel, `[material, h, w]`; they add up to 1.
        water: Share of water, `[h, w]`; exact ninths.
        vigour: Mean vigour of what grows, `[h, w]`.
    """

    fractions: FloatArray
    water: FloatArray
    vigour: FloatArray


@dataclass(frozen=True)
class _Blend:
    """An intimate mixture below the sub-pixel: part of one material becomes another.

    The share is `base + by_field * field + by_vigour * (vigour - 0.5)`, kept within 0 and `most`.
    """

    source: Material
    target: Material
    base: float
    by_field: float
    by_vigour: float = 0.0
    most: float = 0.9


class GroundModel:
    """What lies on the ground of a scene, and how it reflects.

    Args:
        recipe: What the scene shows.
        elevation: The scene's relief.
    """

    def __init__(self, recipe: Recipe, elevation: FractalField) -> None:
        rng = recipe.rng(5)
        self._size = recipe.size
        self._water = WaterBodies(recipe, elevation)
        self._land = LandCover(recipe, elevation)
        self._shore_noise = FractalField(rng, recipe.size, 1.3, longest=30)
        self._mottle = FractalField(rng, recipe.size, 1.0, longest=max(64.0, recipe.size / 3))
        self._stain = FractalField(rng, recipe.size, 1.35)
        self._murk = FractalField(rng, recipe.size, 1.8)
        self._blends = _blends(rng, recipe)
        self._spectra = _this_scenes_spectra(rng)
        glint = float(rng.uniform(0, 0.012)) if rng.random() < 0.7 else float(rng.uniform(0.012, 0.04))
        self._spectra[:WATER_MATERIALS] += np.float32(glint)

    def draw(self, rows: Span) -> Ground:
        """The ground of a strip of rows."""
        material, vigour, roads = self._land.draw(rows)
        if self._water.bodies:
            self._flood(material, roads, rows)
        height, width = rows[1] - rows[0], self._size
        fractions = np.zeros((len(Material), height, width), dtype=np.float32)
        for number in np.flatnonzero(np.bincount(material.ravel(), minlength=len(Material))):
            fractions[number] = pixel_sums(material == number)
        water = fractions[:WATER_MATERIALS].sum(axis=0) / np.float32(_PER_PIXEL)
        fractions *= np.float32(1 / _PER_PIXEL)
        return Ground(fractions, water, pixel_sums(vigour) * np.float32(1 / _PER_PIXEL))

    def reflect(self, ground: Ground, rows: Span, illumination: FloatArray) -> FloatArray:
        """Sunlit surface reflectance `[13, h, w]` of a strip; the fractions are used up."""
        columns = (0, self._size)
        fields = (self._mottle.pixels(rows, columns), self._murk.pixels(rows, columns))
        for blend in self._blends:
            if ground.fractions[blend.source].any():
                self._mix(ground, blend, fields[blend.source < WATER_MATERIALS])
        present = [number for number in Material if ground.fractions[number].any()]
        land = 1 - ground.water
        mottle, stain = fields[0], self._stain.pixels(rows, columns)
        # land is uneven and lies on slopes; water is smooth and level
        light = 1 + land * (np.float32(0.07) * mottle + np.float32(0.5) * (ground.vigour - np.float32(0.5)) * land)
        light += (1 - land) * np.float32(0.05) * stain
        light *= 1 + land * (illumination - 1)
        surface = np.zeros((len(BANDS), *land.shape), dtype=np.float32)
        for band, lean in enumerate(np.linspace(-0.04, 0.04, len(BANDS), dtype=np.float32)):
            for number in present:
                surface[band] += ground.fractions[number] * self._spectra[number, band]
            surface[band] *= light + land * (lean * stain)
        return surface

    def _flood(self, material: MaterialArray, roads: NDArray[np.bool_], rows: Span) -> None:
        """Put water bodies, their shores and banks over the land."""
        canvas = self._water.draw(rows)
        bodies, number = self._water.bodies, canvas.shape_number
        wet = canvas.distance < 0
        wet &= ~(roads & np.array([body.bridged for body in bodies])[number])
        # at most 1.9 times the widest bank, 3.5 pixels: less than the distance up to which shapes are drawn
        ragged = 1 + np.clip(np.float32(0.7) * self._shore_noise.subpixels(rows, (0, self._size)), -1, 0.9)
        reach = np.array([body.bank_width for body in bodies], dtype=np.float32)[number] * ragged
        bank = (canvas.distance >= 0) & (canvas.distance < reach) & ~roads & (material != Material.SNOW)
        material[bank] = np.array([body.bank for body in bodies], dtype=np.uint8)[number[bank]]
        depth = np.array([body.shore_width for body in bodies], dtype=np.float32)[number] * ragged
        shore = wet & (canvas.distance > -depth)
        material[wet] = np.array([body.water for body in bodies], dtype=np.uint8)[number[wet]]
        material[shore] = np.array([body.shore for body in bodies], dtype=np.uint8)[number[shore]]

    @staticmethod
    def _mix(ground: Ground, blend: _Blend, field: FloatArray) -> None:
        share = np.float32(blend.base) + np.float32(blend.by_field) * field
        if blend.by_vigour:
            share += np.float32(blend.by_vigour) * (ground.vigour - np.float32(0.5))
        moved = ground.fractions[blend.source] * np.clip(share, 0, np.float32(blend.most))
        ground.fractions[blend.source] -= moved
        ground.fractions[blend.target] += moved


def _blends(rng: np.random.Generator, recipe: Recipe) -> tuple[_Blend, ...]:
    """The mixtures of a scene: thin crops, gaps in canopies, sediment in water."""
    dry = 0.25 + 0.5 * float(rng.random()) * (0.3 if recipe.wet else 1.0)
    bare = 0.45 - 0.35 * recipe.summer
    leafless = 0.0 if recipe.climate is Climate.TROPICAL else max(0.0, 0.55 - 1.2 * recipe.summer)
    silt = float(rng.uniform(-0.1, 0.45))
    return (
        _Blend(Material.CROP, Material.MOIST_SOIL if recipe.wet else Material.DRY_SOIL, bare, 0.05, -0.9),
        _Blend(Material.GRASS, Material.DRY_GRASS, dry, 0.10, -0.5),
        _Blend(Material.SHRUB, Material.DRY_SOIL, 0.3, 0.15),
        _Blend(Material.BROADLEAF, Material.DRY_GRASS, leafless, 0.06 if leafless else 0.0),
        _Blend(Material.BROADLEAF, Material.SHADE, 0.12, 0.07),
        _Blend(Material.CONIFER, Material.SHADE, 0.2, 0.08),
        _Blend(Material.DRY_SOIL, Material.MOIST_SOIL, 0.65 if recipe.wet else 0.2, 0.12, 0.5),
        _Blend(Material.SNOW, Material.SHADE, 0.06, 0.05),
        _Blend(Material.CLEAR_WATER, Material.TURBID_WATER, silt, 0.12),
        _Blend(Material.GREEN_WATER, Material.CLEAR_WATER, 0.25, 0.15),
        _Blend(Material.TURBID_WATER, Material.CLEAR_WATER, 0.2, 0.12),
        _Blend(Material.SHALLOW_WATER, Material.CLEAR_WATER, 0.3, 0.2),
        _Blend(Material.VEGETATED_WATER, Material.GREEN_WATER, 0.3, 0.2),
    )


def _this_scenes_spectra(rng: np.random.Generator) -> FloatArray:
    """The materials of one scene: none is the same everywhere."""
    count = len(Material)
    level = 1 + 0.10 * np.clip(rng.standard_normal((count, 1)), -2, 2)
    lean = 0.08 * np.clip(rng.standard_normal((count, 1)), -2, 2) * np.linspace(-1, 1, len(BANDS))
    return np.clip(SURFACE * (level + lean), 0.001, 0.97).astype(np.float32)
