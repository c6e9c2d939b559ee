"""This project's ways to the chips, and the proof that they give what rasterio gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import rasterio
from rasterio.windows import Window

from benchmarks.data.scene import TILE
from benchmarks.data.workload import CHIP, MINIBATCH, Workload
from benchmarks.protocol import Check, Variant
from eo_data.dataset import model_input
from eo_data.labels import class_indexes
from eo_data.loader import ChipList, ChipLoader, DatasetSource, RasterPair, RasterSource, grid_chips, jittered_chips
from eo_data.loader.sources import Source
from eo_data.radiometry import Radiometry

GRID: Final = "loader, grid (amplification 1)"
GRID_ONE: Final = "loader, grid, 1 thread"
GRID_GDAL: Final = "loader, grid, decoded by GDAL"
JITTERED: Final = "loader, jittered windows"
CACHED: Final = "loader, cached chips, normalised"
CACHED_PLAIN: Final = "loader, cached chips, not normalised"

CHECKED_CHIPS: Final = 400
PASSES: Final = 12
"""Passes over the cached chips in a round: one is too short to time."""


@dataclass(frozen=True)
class Ours:
    """This project's loaders over one workload."""

    work: Workload
    source: RasterSource
    by_gdal: RasterSource
    dataset: DatasetSource
    full_tiles: ChipList
    jittered: ChipList

    def loader(self, name: str) -> ChipLoader:
        """The loader of a variant; all but one normalise."""
        source: Source = self.by_gdal if name == GRID_GDAL else self.source
        chips = self.jittered if name == JITTERED else self.full_tiles
        if name in (CACHED, CACHED_PLAIN):
            source, chips = self.dataset, self.dataset.chips
        return ChipLoader(
            source,
            chips,
            minibatch=MINIBATCH,
            mean=None if name == CACHED_PLAIN else self.work.mean,
            std=None if name == CACHED_PLAIN else self.work.std,
            threads=1 if name == GRID_ONE else None,
        )

    def variants(self) -> list[Variant]:
        """Everything that is timed."""
        cached = {CACHED, CACHED_PLAIN}
        names = (GRID, GRID_ONE, GRID_GDAL, JITTERED, CACHED, CACHED_PLAIN)
        return [_variant(name, self.loader(name), PASSES if name in cached else 1) for name in names]


def make_ours(work: Workload) -> Ours:
    """Index the workload."""
    pairs, data = [RasterPair(str(work.image), str(work.label))], work.usecase.data
    source = RasterSource(pairs, data)
    chips, full = grid_chips(source.grids, CHIP), work.size // TILE * TILE
    return Ours(
        work=work,
        source=source,
        by_gdal=RasterSource(pairs, data, own_decoding=False),
        dataset=DatasetSource(work.dataset),
        full_tiles=chips.select((chips.top < full) & (chips.left < full)),
        jittered=jittered_chips(source.grids, CHIP),
    )


def _variant(name: str, loader: ChipLoader, passes: int) -> Variant:
    def run() -> int:
        return sum(len(minibatch.chips) for _ in range(passes) for minibatch in loader)

    return Variant(name, run, "ours")


def checks(ours: Ours) -> dict[str, Check]:
    """What has to hold before a number counts."""
    return {
        "grid chips equal rasterio's": equal_to_rasterio(ours, GRID),
        "jittered chips equal rasterio's": equal_to_rasterio(ours, JITTERED),
        "grid minibatches mix blocks": mixed(ours.loader(GRID), ours.full_tiles),
        "jittered minibatches mix blocks": mixed(ours.loader(JITTERED), ours.jittered),
        "cached chips equal the dataset's": _equal_to_dataset(ours),
        "tiles are decoded by this project": Check(ours.source.decoders == ["tiles"], f"{ours.source.decoders}"),
    }


def equal_to_rasterio(ours: Ours, name: str) -> Check:
    """Chips and labels of an epoch against windows that rasterio reads, brought to the same unit by the slow path."""
    work, data = ours.work, ours.work.usecase.data
    rule = Radiometry(data.reflectance.scale, data.reflectance.offset, 0, "usecase")
    mean, std = (np.array(part, dtype=np.float32)[:, None, None] for part in (work.mean, work.std))
    seen = 0
    with rasterio.open(work.image) as image, rasterio.open(work.label) as label:
        for minibatch in ours.loader(name):
            for slot, place in enumerate(minibatch.chips):
                window = Window(place.left, place.top, CHIP, CHIP)
                pixels, valid = rule.reflectance(image.read(window=window))
                wanted = np.where(valid, (pixels - mean) / std, np.float32(0))
                classes = class_indexes(label.read(1, window=window), data, 0)
                same = np.allclose(minibatch.images[slot], wanted, rtol=1e-4, atol=1e-4)
                if not (same and np.array_equal(minibatch.labels[slot], np.where(valid, classes, 255))):
                    return Check(False, f"chip at row {place.top}, column {place.left} differs")
                seen += 1
            if seen >= CHECKED_CHIPS:
                break
    return Check(seen > 0, f"{seen} chips and labels compared")


def mixed(loader: ChipLoader, chips: ChipList, least: int = 8) -> Check:
    """Distinct blocks in every full minibatch of an epoch."""
    counts = [
        len({int(chips.block[place.number]) for place in minibatch.chips})
        for minibatch in loader
        if len(minibatch.chips) == MINIBATCH
    ]
    return Check(min(counts) >= least, f"at least {min(counts)} distinct blocks in each of {len(counts)} minibatches")


def _equal_to_dataset(ours: Ours) -> Check:
    """Cached chips against `Dataset.read`: to the bit as they are, closely when normalised."""
    mean, std = (np.array(part, dtype=np.float32)[:, None, None] for part in (ours.work.mean, ours.work.std))
    seen = 0
    for name in (CACHED_PLAIN, CACHED):
        for minibatch in ours.loader(name):
            for slot, place in enumerate(minibatch.chips):
                image, label = ours.work.dataset.read(ours.dataset.records[place.number])
                pixels, valid = model_input(image)
                wanted = pixels if name == CACHED_PLAIN else np.where(valid, (pixels - mean) / std, np.float32(0))
                tolerance = 0.0 if name == CACHED_PLAIN else 1e-4
                same = np.allclose(minibatch.images[slot], wanted, rtol=tolerance, atol=tolerance)
                same = same and np.array_equal(minibatch.valid[slot], valid)
                if not (same and np.array_equal(minibatch.labels[slot], label)):
                    return Check(False, f"chip {place.number} differs")
                seen += 1
    return Check(seen > 0, f"{seen} chips and labels compared")
