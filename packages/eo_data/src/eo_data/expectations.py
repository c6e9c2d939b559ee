"""The `data.expectations` section of a use case: what a scene must be like."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from eo_data.section import Section


class Expectations(Section):
    """What a scene must be like to be learned from; the Great Expectations suite is made from this."""

    crs: Literal["required", "absent", "any"] = "required"
    min_size: int | None = Field(default=None, ge=1, description="least height and width, pixels; null is one chip")
    max_size: int = Field(default=20000, ge=1, validate_default=True, description="greatest height and width, pixels")
    dtypes: tuple[str, ...] = ("uint16", "int16")
    max_invalid_fraction: float = Field(default=0.9, ge=0, lt=1, description="pixels without data in any input band")
    quantile_range: tuple[float, float] = Field(
        default=(-2000.0, 20000.0), description="per-band 2 % and 98 % quantiles must lie in it, reflectance x 10000"
    )
    min_brightest: float = Field(
        default=20.0, description="the brightest band's 98 % quantile: less is reflectance 0..1 read as sensor values"
    )
    min_dark: float = Field(
        default=-500.0, description="2 % quantile of all bands but one: less is an offset removed that was not there"
    )
    max_floor: float | None = Field(
        default=1000.0,
        description="the darkest band's 0.1 % quantile: more may be an offset that nobody states; null asks nothing",
    )
    max_flat_fraction: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="pixels that hold one and the same sensor value in every band: a fill value",
    )
    max_ignored_label_fraction: float = Field(default=0.99, gt=0, le=1)
    max_unseen_label_fraction: float = Field(
        default=0.9, ge=0, le=1, description="scored label pixels where the image has no data"
    )
    max_skew: float = Field(
        default=4.0, gt=0, description="spreads from the training scenes' median beyond which a scene is reported"
    )

    @field_validator("max_size")
    @classmethod
    def _sizes_in_order(cls, value: int, info: ValidationInfo) -> int:
        if value < (info.data.get("min_size") or value):
            raise ValueError(f"{value} is less than min_size")
        return value

    @field_validator("quantile_range")
    @classmethod
    def _range_in_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] >= value[1]:
            raise ValueError(f"{value[0]:g} to {value[1]:g} is no range")
        return value
