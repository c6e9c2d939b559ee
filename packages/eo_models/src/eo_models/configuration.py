"""The `train` and `gate` sections of a use case: what this package reads of the file (design 4.5)."""

from __future__ import annotations

import math
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from eo_data.model.description import Tiling
from eo_data.section import Section
from eo_data.usecase import UseCase

LEVELS: Final = 4
"""Resolutions of the U-Net: the input's own and three times halved."""

NetworkName = Literal["U-Net", "pixels", "SegFormer"]

GRID: Final = 2 ** (LEVELS - 1)
"""Height and width that the U-Net reads are multiples of this; tiles start on multiples of it."""


def receptive_radius(convolutions: tuple[int, ...]) -> int:
    """How far from a pixel the U-Net looks for that pixel's class, pixels, at the worst place of the pooling grid.

    Args:
        convolutions: 3 x 3 convolutions per resolution, on the way down and again on the way up.
    """
    levels = len(convolutions) - 1
    worst = 0
    for position in range(2**levels):
        low = high = position
        skips = []
        for count in convolutions[:-1]:  # from the output back to the coarsest features
            low, high = low - count, high + count
            skips.append((low, high))
            low, high = low // 2, high // 2
        for level in range(levels, -1, -1):  # and from those back to the input
            if level < levels:
                low, high = min(2 * low, skips[level][0]), max(2 * high + 1, skips[level][1])
            low, high = low - convolutions[level], high + convolutions[level]
        worst = max(worst, position - low, high - position)
    return worst


class TileShape(Section):
    """How rasters are cut for the network, at evaluation and in service alike (`eo_data.tiling.TilePlan`).

    Tiles start on multiples of 8, so that the pooling grids of neighbouring tiles fall together, and the halo
    covers the network's receptive field. A pixel's class then depends on the scene alone, not on the tile that
    it falls into: there are no seams, and nothing need be blended.
    """

    tile: int = Field(default=256, ge=2 * GRID, le=2048, multiple_of=GRID, description="what the network sees, pixels")
    halo: int = Field(default=32, ge=0, multiple_of=GRID, description="context at each side, pixels")
    blend: int = Field(default=0, ge=0, multiple_of=GRID, description="overlap of cores, pixels")

    @model_validator(mode="after")
    def _advances(self) -> Self:
        if self.tile - 2 * self.halo - self.blend < GRID:
            raise ValueError(f"tile {self.tile} is too small for halo {self.halo} and blend {self.blend}")
        return self

    def tiling(self) -> Tiling:
        """The same as it stands in `model.json`."""
        return Tiling(tile=self.tile, halo=self.halo, blend=self.blend)


class SegFormerSizes(Section):
    """Sizes of a SegFormer; small beside the published ones, which learned from more than some hundred chips.

    Resolutions are a quarter of the input's, and three times halved.
    """

    hidden_sizes: tuple[int, int, int, int] = Field(default=(16, 32, 64, 128), description="features, per resolution")
    depths: tuple[int, int, int, int] = Field(default=(1, 1, 1, 1), description="attention layers, per resolution")
    heads: tuple[int, int, int, int] = Field(default=(1, 2, 4, 8), description="of attention, per resolution")
    decoder: int = Field(default=64, ge=4, le=1024, description="features where the resolutions are put together")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if min(*self.hidden_sizes, *self.depths, *self.heads) < 1:
            raise ValueError("'hidden_sizes', 'depths' and 'heads' are at least 1")
        if any(features % heads for features, heads in zip(self.hidden_sizes, self.heads, strict=True)):
            raise ValueError("each of 'heads' divides its 'hidden_sizes'")
        return self


class Augmentation(Section):
    """What is varied at random in training, besides the eight turns and flips of a square."""

    gain: float = Field(default=0.1, ge=0, le=1, description="log-normal gain of a whole chip")
    band_gain: float = Field(default=0.05, ge=0, le=1, description="log-normal gain of each of its bands")
    offset: float = Field(default=50.0, ge=0, description="normal offset of a whole chip, reflectance x 10000")
    paste: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of minibatches whose chips get a rectangle of another, label and all",
    )


class Sampling(Section):
    """How often training draws each chip (`eo_data.sampling`); with both at 0 each comes once an epoch."""

    balance: float = Field(default=0.0, ge=0, le=1, description="from classes as frequent as they are to all alike")
    valid: float = Field(default=0.0, ge=0, le=1, description="from all chips alike to by how much of each is scored")


class TrainSection(Section):
    """The `train` section: the network, how it is trained, and how it sees scenes."""

    network: NetworkName = Field(
        default="U-Net", description="`pixels` looks no further than its `windows`, `SegFormer` at the whole tile"
    )
    channels: int = Field(default=12, ge=2, le=128, description="at full resolution; doubled at each halving")
    convolutions: tuple[int, int, int, int] = Field(default=(2, 1, 1, 1), description="3 x 3 ones, per resolution")
    windows: tuple[int, ...] = Field(
        default=(5,), description="of `pixels`: sides, odd, of the windows over which it averages"
    )
    segformer: SegFormerSizes = SegFormerSizes()
    indices: tuple[tuple[str, str], ...] = Field(
        default=(), description="pairs of bands whose normalised difference the network reads beside the bands"
    )
    tiles: TileShape = TileShape()
    epochs: int = Field(default=12, ge=1)
    patience: int = Field(default=12, ge=1, description="epochs without a better validation IoU before it stops")
    minibatch: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=0.004, gt=0, description="peak of the one-cycle schedule")
    weight_decay: float = Field(default=0.01, ge=0)
    averaging: float = Field(
        default=0.98, ge=0, lt=1, description="of the weights' moving average: what is left of it after a step"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of the coarser features left out in training")
    dice: float = Field(default=1.0, ge=0, description="weight of the Dice loss beside cross-entropy")
    focal: float = Field(
        default=0.0, ge=0, le=5, description="how much less a pixel counts that is right; 0 is plain cross-entropy"
    )
    class_balance: float = Field(
        default=0.5, ge=0, le=1, description="class weights are frequency to the power of minus this"
    )
    sampling: Sampling = Sampling()
    augmentation: Augmentation = Augmentation()
    keep: Literal["best", "last"] = Field(
        default="best", description="whose weights: of the best validation IoU, or of the last epoch (no early stop)"
    )
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        default="float32",
        description="of convolutions in training; `auto` is bfloat16 where the processor has it and a trial agrees "
        "with float32. Validation and the exported graph are float32",
    )
    members: int = Field(default=1, ge=1, le=8, description="networks, each of its own seed, averaged in one graph")
    threads: int = Field(default=1, ge=1, le=64, description="fixed, since another number gives other weights")
    seed: int = Field(default=0, ge=0)

    @property
    def radius(self) -> float:
        """How far from a pixel the network looks for that pixel's class, pixels; infinite where it attends to all."""
        if self.network == "SegFormer":
            return math.inf
        if self.network == "pixels":
            return max(self.windows, default=1) // 2
        return receptive_radius(self.convolutions)

    @model_validator(mode="after")
    def _halo_covers(self) -> Self:
        if min(self.convolutions) < 1 or max(self.convolutions) > 4:
            raise ValueError("'convolutions' are 1 to 4 per resolution")
        if any(side % 2 == 0 or side < 3 for side in self.windows):
            raise ValueError("'windows' are odd and at least 3")
        radius = self.radius
        if self.network == "SegFormer" and self.tiles.blend == 0:
            raise ValueError(
                "SegFormer looks at the whole tile, so that tiles leave seams: blend them away with 'tiles.blend'"
            )
        if self.tiles.halo < radius and self.tiles.blend == 0:
            raise ValueError(
                f"the network looks {radius} pixels far, 'tiles.halo' {self.tiles.halo} is less: "
                "give it that much, or blend the seams away with 'tiles.blend'"
            )
        return self


class GateSection(Section):
    """The `gate` section: what a candidate must show on the holdout split (design 4.3)."""

    tolerance: float = Field(
        default=0.05, ge=0, le=1, description="the 95 % interval of each IoU difference stays above minus this"
    )
    min_cells: int = Field(
        default=8, ge=2, description="fewer cells of the holdout with the target class are not enough evidence"
    )
    resamples: int = Field(default=2000, ge=200, le=100_000, description="of the bootstrap over cells")
    seed: int = Field(default=0, ge=0)
    metric: str = Field(
        default="validation_iou",
        pattern=r"^validation_[a-z0-9_]+$",
        description="what `select-best` ranks runs by; choices are made on validation alone. Greater is better, "
        "except for one that ends in `loss` or `error`",
    )
    behaviour: Literal["report", "require"] = Field(
        default="report", description="whether a failed behavioural test is a refusal"
    )
    approval: Literal["none", "required"] = Field(
        default="none", description="whether a person must approve, `promote --approved-by NAME`"
    )


def train_section(usecase: UseCase) -> TrainSection:
    """The use case's `train` section.

    Raises:
        eo_data.errors.UsageError: Naming the path of each wrong line.
    """
    return usecase.section("train", TrainSection)


def gate_section(usecase: UseCase) -> GateSection:
    """The use case's `gate` section.

    Raises:
        eo_data.errors.UsageError: Naming the path of each wrong line.
    """
    return usecase.section("gate", GateSection)
