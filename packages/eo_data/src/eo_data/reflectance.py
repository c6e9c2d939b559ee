"""The `data.reflectance` section of a use case: what its sensor's values mean where nothing else says it."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from eo_data.section import Section


class OffsetByValues(Section):
    """A band that is near zero over every clear pixel betrays an offset that nothing states (cirrus of Level-1C)."""

    band: str
    above: float = Field(description="sensor value: the offset is there where the band's 2 % quantile lies above")
    below: float | None = Field(default=None, description="and below this: more is cloud, or another band")
    offset: float = Field(description="the offset then, in reflectance")

    @field_validator("below")
    @classmethod
    def _in_order(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and value <= info.data.get("above", value - 1):
            raise ValueError(f"{value:g} is not more than above")
        return value


class Reflectance(Section):
    """How sensor values become reflectance where neither item, file nor request says it (design 4.6)."""

    scale: float = Field(default=0.0001, gt=0, description="reflectance = value * scale + offset")
    offset: float = Field(default=0.0, description="added after scaling, in reflectance")
    nodata: float | None = Field(default=None, description="sensor value without data, where the file declares none")
    offset_by_values: OffsetByValues | None = None
