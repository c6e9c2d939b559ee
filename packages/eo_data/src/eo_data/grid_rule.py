"""`data.grid` of a use case: the pixel grid that a scene of several files is brought to."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from eo_data.section import Section


class Resampling(Section):
    """How values between pixel centres are found, by kind of band: classes are never mixed."""

    reflectance: Literal["nearest", "bilinear", "cubic", "cubic_spline", "lanczos", "average"] = "bilinear"
    categorical: Literal["nearest", "mode"] = "nearest"


class GridRule(Section):
    """The pixel grid that a scene of several files is brought to."""

    resolution: float | None = Field(
        default=None, gt=0, description="side of a pixel, units of the CRS; null is that of the finest input band"
    )
    crs: str | None = Field(default=None, pattern=r"^EPSG:\d{4,6}$", description="null is that of the files")
    resampling: Resampling = Resampling()

    @field_validator("crs")
    @classmethod
    def _is_known(cls, crs: str | None) -> str | None:
        if crs is not None:
            from pyproj import CRS
            from pyproj.exceptions import CRSError

            try:
                known = CRS.from_user_input(crs)
            except CRSError:
                raise ValueError(f"'{crs}' is no known CRS") from None
            if not (known.is_projected or known.is_geographic):
                raise ValueError(f"'{crs}' is neither projected nor geographic")
        return crs
