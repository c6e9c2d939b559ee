"""`model.json` (design 4.3): what a model version reads, gives and was made from, in STAC MLM's words."""

from __future__ import annotations

import base64
import math
import zlib
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from eo_data.digests import canonical_json
from eo_data.tiling import TilePlan

GOLDEN_SIZE = 64
"""Greatest side of a golden chip, pixels."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class ModelInput(_Part):
    """What the graph reads: float32 `[batch, bands, height, width]`, reflectance x 10000, 0 where there is no data."""

    name: str = "reflectance"
    bands: tuple[str, ...]
    dim_order: tuple[str, ...] = ("batch", "bands", "height", "width")
    data_type: Literal["float32"] = "float32"
    unit: str = "reflectance x 10000"


class ModelClass(_Part):
    """A class of the mask: its index, name and colour."""

    value: int
    name: str
    color: str


class ModelOutput(_Part):
    """What the graph gives: float32 `[batch, classes, height, width]`, probabilities that add up to 1."""

    name: str = "probability"
    classes: tuple[ModelClass, ...]
    dim_order: tuple[str, ...] = ("batch", "classes", "height", "width")
    data_type: Literal["float32"] = "float32"


class Tiling(_Part):
    """How rasters are cut for this model (see `eo_data.tiling.TilePlan`)."""

    tile: int
    halo: int
    blend: int

    def plan(self) -> TilePlan:
        """The tile plan."""
        return TilePlan(self.tile, self.halo, self.blend)


class GoldenChip(_Part):
    """A small real input with the digest of the mask that this version gives for it: the runtime's self-test.

    Attributes:
        shape: `(bands, height, width)`, at most 64 x 64.
        pixels: int16 reflectance x 10000, little-endian, row by row, zlib, base64.
        mask_digest: sha256 of the mask's pixels (uint8, 255 where there is no data).
    """

    shape: tuple[int, int, int]
    pixels: str
    mask_digest: str

    @model_validator(mode="after")
    def _decodes(self) -> Self:
        if min(self.shape) < 1 or max(self.shape[1:]) > GOLDEN_SIZE:
            raise ValueError(f"shape {self.shape} is no golden chip: at most {GOLDEN_SIZE} x {GOLDEN_SIZE}")
        try:
            self.decode()
        except (ValueError, zlib.error) as error:  # base64's errors are ValueErrors
            raise ValueError(f"the golden chip's pixels cannot be decoded ({error})") from error
        return self

    @classmethod
    def encode(cls, pixels: NDArray[np.int16], mask_digest: str) -> GoldenChip:
        """Pack pixels `[bands, height, width]` and the digest of their mask."""
        bands, height, width = pixels.shape
        if max(height, width) > GOLDEN_SIZE:
            raise ValueError(f"a golden chip is at most {GOLDEN_SIZE} x {GOLDEN_SIZE}, not {height} x {width}")
        packed = base64.b64encode(zlib.compress(pixels.astype("<i2").tobytes(), 9)).decode()
        return cls(shape=(bands, height, width), pixels=packed, mask_digest=mask_digest)

    def decode(self) -> NDArray[np.float32]:
        """The pixels, float32 `[bands, height, width]`."""
        # A byte more than the shape needs is enough to see that there is too much; a bomb never unfolds.
        raw = zlib.decompressobj().decompress(base64.b64decode(self.pixels), 2 * math.prod(self.shape) + 1)
        return np.frombuffer(raw, dtype="<i2").reshape(self.shape).astype(np.float32)


class ModelDescription(_Part):
    """Everything that a runtime or a person must know of a version, beside its graph.

    Attributes:
        name: The registered model.
        kind: `network` or `spectral-index`.
        architecture: Such as `U-Net` or `NDWI`.
        usecase: The use case, with the digest of its `data` section.
        dataset_digest: The dataset that it was trained or tuned on.
        training_cells: The cells that it has seen, training and validation; `evaluate` never scores it on them.
        metrics: Training and validation figures by name; None is undefined.
        git_commit: Of the code that made it, None outside a checkout.
        parameters: What else reproduces it: network size, thresholds, seed, train section's digest.
    """

    schema_version: Literal[1] = 1
    name: str = Field(alias="mlm:name")
    kind: Literal["network", "spectral-index"]
    architecture: str = Field(alias="mlm:architecture")
    tasks: tuple[str, ...] = Field(default=("semantic-segmentation",), alias="mlm:tasks")
    framework: str = Field(default="ONNX", alias="mlm:framework")
    total_parameters: int = Field(default=0, alias="mlm:total_parameters")
    input: ModelInput = Field(alias="mlm:input")
    output: ModelOutput = Field(alias="mlm:output")
    tiling: Tiling
    usecase: str
    usecase_data_digest: str
    dataset_digest: str
    training_cells: tuple[str, ...] = ()
    metrics: dict[str, float | None] = {}
    git_commit: str | None = None
    parameters: dict[str, Any] = {}
    golden: GoldenChip

    @model_validator(mode="after")
    def _golden_fits(self) -> Self:
        if self.golden.shape[0] != len(self.input.bands):
            raise ValueError(f"the golden chip has {self.golden.shape[0]} bands, the input {len(self.input.bands)}")
        return self

    def to_bytes(self) -> bytes:
        """The canonical bytes of `model.json`; equal descriptions give equal bytes."""
        return canonical_json(self.model_dump(mode="json", by_alias=True))

    @classmethod
    def from_bytes(cls, data: bytes) -> ModelDescription:
        """Read `model.json`.

        Raises:
            pydantic.ValidationError: If it is no such description.
        """
        return cls.model_validate_json(data)
