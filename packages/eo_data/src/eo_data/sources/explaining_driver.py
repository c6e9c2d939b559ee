"""odc-loader's reader of rasters, whose failures name the file and what to do."""

from __future__ import annotations

from typing import Any

from odc.loader import RasterSource, RioDriver, RioReader
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from eo_data.sources.remote_rasters import explain


class _ExplainingReader(RioReader):
    def __init__(self, source: RasterSource, context: Any) -> None:
        super().__init__(source, context)
        self._href = str(source.driver_data)

    def read(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read(*args, **options)
        except (RasterioError, CPLE_BaseError) as error:
            raise explain(self._href, error) from error


class ExplainingDriver(RioDriver):
    """Reads sources whose `driver_data` is their href; raises DataRefused and TemporaryFailure in place of GDAL's."""

    def open(self, src: RasterSource, ctx: Any) -> RioReader:
        """A reader of one source."""
        return _ExplainingReader(src, ctx)
