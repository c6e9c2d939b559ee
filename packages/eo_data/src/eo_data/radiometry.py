"""Radiometry (design 4.6): sensor values to reflectance x 10000, offset removed; one rule for chips and requests.

What decides, first found: the STAC item (`raster:scale` and `raster:offset`, else its processing baseline),
the file's GDAL scale and offset, what the request says, the use case. Where only the use case speaks, its
`offset_by_values` may find an offset in the values themselves (source `values`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eo_data.errors import DataRefused, UsageError
from eo_data.reflectance import Reflectance

UNIT: Final = 10000.0
"""Reflectance 1.0 in the unit that chips, requests and models share."""

BASELINE_WITH_OFFSET: Final = 4.0
"""Sentinel-2 processing baselines from 04.00 on add 1000 to every digital number (ESA, 2022-01-25)."""


@dataclass(frozen=True)
class Radiometry:
    """One rule: reflectance = value * scale + offset, the same for all bands, and who said so.

    Attributes:
        scale: Reflectance per unit of the sensor's values.
        offset: Added after scaling, in reflectance.
        nodata: The sensor value without data; None where there is none (NaN never is data).
        source: `stac`, `stac-baseline`, `gdal`, `request`, `usecase` or `values`.
    """

    scale: float
    offset: float
    nodata: float | None
    source: str

    def __post_init__(self) -> None:
        """Refuse a rule that cannot be meant."""
        if not (np.isfinite(self.scale) and round(self.scale * UNIT, 9) > 0 and np.isfinite(self.offset)):
            raise DataRefused(
                f"scale {self.scale:g} and offset {self.offset:g} are no radiometry",
                where=self.source,
                fix="Scale must be a positive number, offset a number",
            )

    def __str__(self) -> str:
        """As in the `Terraloop-Radiometry` header: `scale=0.0001 offset=-0.1 (stac)`."""
        return f"scale={self.scale:g} offset={self.offset:g} ({self.source})"

    def reflectance(self, values: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Sensor values `[bands, ...]` to reflectance x 10000 (float32) and where all bands have data.

        Pixels without data in any band are 0 in every band of the result.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            gain = np.float32(round(self.scale * UNIT, 9))
            shift = np.float32(round(self.offset * UNIT, 6))
            result = values.astype(np.float32)
            result *= gain
            result += shift
            # Of real values NaN and infinity have no data, nor what overflows here; whole numbers need no test.
            always_finite = values.dtype.kind in "iu" and gain < 1e15 and abs(shift) < 1e30
            missing = np.zeros(values.shape[1:], dtype=np.bool_)
            for band, scaled in zip(values, result, strict=True):
                if not always_finite:
                    missing |= ~np.isfinite(scaled)
                if self.nodata is not None and np.isfinite(self.nodata):
                    missing |= band == self.nodata
        np.copyto(result, np.float32(0), where=missing)
        return result, ~missing


def choose_radiometry(
    default: Reflectance,
    *,
    asset: dict[str, Any] | None = None,
    properties: dict[str, Any] | None = None,
    scales: Sequence[float] = (),
    offsets: Sequence[float] = (),
    nodata: float | None = None,
    request: tuple[float | None, float | None] = (None, None),
) -> Radiometry:
    """The rule for a raster by design 4.6.

    Args:
        default: The use case's own.
        asset: The STAC asset's fields, where there is an item.
        properties: The STAC item's properties, where there is one.
        scales: GDAL's scale per band that is read; all 1 with offsets all 0 says nothing.
        offsets: GDAL's offset per band that is read.
        nodata: The file's nodata value.
        request: Scale and offset that the request states.

    Raises:
        DataRefused: If bands that are read differ in scale or offset, or the rule is impossible.
        UsageError: If a request states an offset without a scale.
    """
    missing = default.nodata if nodata is None else nodata
    stated = _from_stac(asset or {}, properties or {}, default)
    if stated is not None:
        return Radiometry(*stated[:2], nodata=missing, source=stated[2])
    pairs = set(zip(scales, offsets, strict=True))
    if pairs - {(1.0, 0.0)}:
        if len(pairs) > 1:
            raise DataRefused(
                "the bands differ in their GDAL scale or offset", where="image", fix="Write one scale and offset"
            )
        scale, offset = pairs.pop()
        return Radiometry(scale, offset, missing, "gdal")
    scale_said, offset_said = request
    if scale_said is not None:
        return Radiometry(scale_said, offset_said or 0.0, missing, "request")
    if offset_said is not None:
        raise UsageError("an offset without a scale", where="offset", fix="Give both, such as scale=0.0001&offset=-0.1")
    return Radiometry(default.scale, default.offset, missing, "usecase")


def with_offset_by_values(rule: Radiometry, default: Reflectance, dark_value: float | None) -> Radiometry:
    """The rule where nothing but the use case speaks: corrected if the dark band's values carry the offset.

    Args:
        rule: What `choose_radiometry` chose; a rule that somebody states is left alone.
        default: The use case's own, with its `offset_by_values`.
        dark_value: The low quantile of that band, in sensor values; None where it cannot be measured.
    """
    told = default.offset_by_values
    if told is None or rule.source != "usecase" or dark_value is None or dark_value <= told.above:
        return rule
    if told.below is not None and dark_value >= told.below:
        return rule
    return replace(rule, offset=told.offset, source="values")


def _from_stac(
    asset: dict[str, Any], properties: dict[str, Any], default: Reflectance
) -> tuple[float, float, str] | None:
    """Scale and offset that an item states, and how; None where it says nothing."""
    blocks = [asset, *(asset.get("bands") or [])]
    applied = offset_applied(properties)
    try:
        pairs = {
            (float(default.scale if scale is None else scale), float(0.0 if offset is None or applied else offset))
            for scale, offset in map(_stated, blocks)
            if (scale, offset) != (None, None)
        }
    except (TypeError, ValueError) as error:
        raise DataRefused(
            f"raster:scale or raster:offset is no number ({error})", where="item", fix="Correct the item"
        ) from error
    if len(pairs) > 1:
        raise DataRefused(
            "the item's bands differ in raster:scale or raster:offset", where="item", fix="Split them into scenes"
        )
    if pairs:
        return (*pairs.pop(), "stac")
    if applied:
        return (default.scale, 0.0, "stac")
    number = sentinel2_baseline(properties)
    if number is None:
        return None
    with_offset = number >= BASELINE_WITH_OFFSET and number < 99  # 99.99 marks test and reprocessed products
    return (default.scale, default.offset - (0.1 if with_offset else 0.0), "stac-baseline")


def _stated(block: dict[str, Any]) -> tuple[Any, Any]:
    """Scale and offset of an asset, a band, or an entry of `raster:bands`; None where it says nothing."""
    return block.get("raster:scale", block.get("scale")), block.get("raster:offset", block.get("offset"))


def offset_applied(properties: dict[str, Any]) -> bool:
    """Whether an item says that its catalog removed the offset from the values.

    Earth Search states `raster:bands` offset -0.1 all the same, for what ESA delivered: then the flag is right.
    """
    return any(properties.get(f"{prefix}:boa_offset_applied") is True for prefix in ("earthsearch", "sentinel"))


def sentinel2_baseline(properties: dict[str, Any]) -> float | None:
    """The processing baseline of a Sentinel-2 item; None where there is none.

    `processing:version` is a baseline with Sentinel-2 alone: other missions count their own versions.
    """
    said = properties.get("s2:processing_baseline")
    mission = f"{properties.get('constellation')} {properties.get('platform')}".lower()
    if said is None and "sentinel-2" in mission:
        said = properties.get("processing:version")
    try:
        number = float(str(said))
    except ValueError:
        return None
    return number if np.isfinite(number) else None
