"""How much of a raster each class covers, counted while its mask is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from eo_serving.ground import Ground
    from eo_serving.raster_bodies import OpenRaster
    from eo_serving.service import MaskRows, Service


class MaskStatistics:
    """Counts of a mask.

    Args:
        image: The raster.
        ground: Where it lies; None where it says nothing of that.
        service: What makes the mask.
    """

    def __init__(self, image: OpenRaster, ground: Ground | None, service: Service) -> None:
        self._image = image
        self._ground = ground
        self._service = service
        number = len(service.model.description.output.classes)
        self._pixels = np.zeros(number, dtype=np.int64)
        self._area = np.zeros(number)
        self._probability = np.zeros(number)

    def add(self, rows: MaskRows) -> None:
        """Count finished rows."""
        areas = None if self._ground is None else self._ground.pixel_areas(rows.top, rows.mask.shape[0])
        for value in range(len(self._pixels)):
            hit = rows.mask == value
            self._pixels[value] += np.count_nonzero(hit)
            self._probability[value] += rows.band.probability[value][hit].sum(dtype=np.float64)
            if areas is not None:
                self._area[value] += areas[hit].sum()

    def document(self) -> dict[str, Any]:
        """The statistics.

        Returns:
            `model`, `digest`, `radiometry`, `shape`, `crs`, `pixels` with data, `valid_fraction`, `area_note`, and
            `classes`: for each `value`, `name`, `pixels`, `fraction` of the pixels with data, `hectares` on the
            ellipsoid (None without a CRS), and `mean_probability` of the class over its pixels (None without any).
        """
        height, width = self._image.shape
        valid = int(self._pixels.sum())
        crs = self._image.crs
        return {
            "model": self._service.label,
            "digest": self._service.digest,
            "radiometry": str(self._image.radiometry),
            "shape": [height, width],
            "crs": None if crs is None else crs.to_string(),
            "pixels": valid,
            "valid_fraction": round(valid / (height * width), 6),
            "area_note": "on the WGS 84 ellipsoid" if self._ground else "unknown: no CRS or no transform",
            "classes": [self._one(c.value, c.name, valid) for c in self._service.model.description.output.classes],
        }

    def _one(self, value: int, name: str, valid: int) -> dict[str, Any]:
        pixels = int(self._pixels[value])
        return {
            "value": value,
            "name": name,
            "pixels": pixels,
            "fraction": round(pixels / valid, 6) if valid else 0.0,
            "hectares": round(float(self._area[value]) / 1e4, 4) if self._ground else None,
            "mean_probability": round(float(self._probability[value]) / pixels, 4) if pixels else None,
        }
