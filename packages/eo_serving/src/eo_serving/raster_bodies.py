"""Rasters that strangers send: what is asked of them, and how they are opened.

`open_body` opens one in this process. `eo_serving.decoders` opens one in a process of its own, which is what the
endpoint does: a file that takes the decoder down takes nothing else with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from eo_serving.raster_limits import check_blocks, check_size

if TYPE_CHECKING:
    from affine import Affine

    from eo_data.radiometry import Radiometry
    from eo_data.tiling import Pixels, Valid
    from eo_data.usecase import DataSection
    from eo_serving.configuration import Limits


@dataclass(frozen=True)
class RasterBody:
    """A body that claims to be a GeoTIFF, and what is known of it beside its bytes.

    Attributes:
        content: The bytes.
        data: The use case's data section, whose input bands are read.
        limits: What one request may cost.
        radiometry: Scale and offset that the request states, each None where it does not.
        bands: Names of the bands in their order that the request states; None where it does not.
        asset: What a STAC item says of the raster; None without an item.
        properties: What it says of the scene.
    """

    content: bytes
    data: DataSection
    limits: Limits
    radiometry: tuple[float | None, float | None] = (None, None)
    bands: tuple[str, ...] | None = None
    asset: dict[str, Any] | None = None
    properties: dict[str, Any] | None = None


class OpenRaster(Protocol):
    """A raster whose header was read and found to be within the limits."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""

    @property
    def crs(self) -> Any:
        """Rasterio's CRS; None where it has none."""

    @property
    def transform(self) -> Affine | None:
        """None where it has none."""

    @property
    def radiometry(self) -> Radiometry:
        """What its values mean."""

    @property
    def taken(self) -> str | None:
        """When it says that it was taken, as TIFF writes times; None where it does not."""

    def read(self, top: int, left: int, height: int, width: int) -> tuple[Pixels, Valid]:
        """A window's reflectance x 10000 `[bands, h, w]`, float32, and where all bands have data `[h, w]`.

        The arrays may be views that hold until the next call.

        Raises:
            DataRefused: If it cannot be decoded.
        """


OpenBody = Callable[[RasterBody, float | None], AbstractContextManager[OpenRaster]]
"""Opens a body; the second argument is the seconds in which all of it must be done, None for any number."""


@contextmanager
def open_body(body: RasterBody, seconds: float | None = None) -> Iterator[OpenRaster]:
    """Open a body in this process.

    Args:
        body: What was sent.
        seconds: Not used here: the caller looks at the clock between two windows.

    Raises:
        DataRefused: If it is no readable GeoTIFF of the use case.
        TooLarge: If it is over the limits.
    """
    from eo_data.rasters import open_image

    with open_image(
        body.content, body.data, where="body", asset=body.asset, properties=body.properties,
        request=body.radiometry, bands=body.bands,
    ) as image:  # fmt: skip
        check_size(body.limits, image.shape)
        check_blocks(body.content, len(image.indexes), body.data, body.limits)
        yield image
