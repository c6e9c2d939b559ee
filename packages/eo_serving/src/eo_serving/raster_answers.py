"""What a raster is answered with: mask or probability as GeoTIFF, polygons, statistics, a picture, an array."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eo_data.errors import DataRefused
from eo_data.usecase import IGNORE
from eo_serving.call import Call
from eo_serving.media import GEOJSON, JSON, NPY, PNG, TIFF, Offer
from eo_serving.raster_bodies import OpenRaster
from eo_serving.service import Service


def _mask_tiff(image: OpenRaster, service: Service, call: Call) -> bytes:
    return _tiff(image, service, call, probability=False)


def _probability_tiff(image: OpenRaster, service: Service, call: Call) -> bytes:
    return _tiff(image, service, call, probability=True)


def _tiff(image: OpenRaster, service: Service, call: Call, *, probability: bool) -> bytes:
    from eo_serving.masks import RasterGrid, mask_file, memory_paths, probability_file

    writer = probability_file if probability else mask_file
    classes = service.model.description.output.classes
    tags = service.identity(image.radiometry)
    with memory_paths() as (path, scratch, finished):
        with writer(path, scratch, RasterGrid.of(image), classes, tags) as target:
            for rows in service.rows(image.read, image.shape, call):
                target.write(rows.top, rows.probability if probability else rows.mask[np.newaxis])
        return bytes(finished.getbuffer())


def _png(image: OpenRaster, service: Service, call: Call) -> bytes:
    from eo_serving.quicklooks import Thumbnail

    thumbnail = Thumbnail(image.shape, service.data)
    for rows in service.rows(thumbnail.watch(image.read), image.shape, call):
        thumbnail.add(rows)
    return thumbnail.png(service.model.description.output.classes)


def _scene_layer(image: OpenRaster, service: Service, call: Call) -> bytes:
    from eo_serving.quicklooks import Thumbnail

    thumbnail = Thumbnail(image.shape, service.data)
    read, (height, width) = thumbnail.watch(image.read), image.shape
    for top in range(0, height, STRIP):
        call.check()
        read(top, 0, min(STRIP, height - top), width)
    return thumbnail.scene_png()


def _mask_layer(image: OpenRaster, service: Service, call: Call) -> bytes:
    from eo_serving.quicklooks import Thumbnail

    thumbnail = Thumbnail(image.shape, service.data)
    for rows in service.rows(image.read, image.shape, call):
        thumbnail.add(rows)
    return thumbnail.mask_png(service.model.description.output.classes)


def _npy(image: OpenRaster, service: Service, call: Call) -> bytes:
    mask = np.empty(image.shape, dtype=np.uint8)
    for rows in service.rows(image.read, image.shape, call):
        mask[rows.top : rows.top + rows.mask.shape[0]] = rows.mask
    return npy_file(mask)


def _statistics(image: OpenRaster, service: Service, call: Call) -> bytes:
    from eo_serving.ground import Ground
    from eo_serving.mask_statistics import MaskStatistics

    statistics = MaskStatistics(image, Ground.of(image), service)
    for rows in service.rows(image.read, image.shape, call):
        statistics.add(rows)
    return json.dumps(statistics.document()).encode()


def _polygons(image: OpenRaster, service: Service, call: Call) -> bytes:
    from eo_serving.ground import Ground
    from eo_serving.polygons import polygons

    ground = Ground.of(image)
    if ground is None:
        raise DataRefused(
            "polygons need a place on Earth, and this raster has no CRS or no transform",
            where="Accept",
            fix=f"Ask for {TIFF}, or give the raster a CRS: gdal_translate -a_srs EPSG:... -a_ullr ...",
        )
    mask = np.empty(image.shape, dtype=np.uint8)
    likely = np.zeros(image.shape, dtype=np.float32)
    for rows in service.rows(image.read, image.shape, call):
        at = slice(rows.top, rows.top + rows.mask.shape[0])
        mask[at] = rows.mask
        own = np.where(rows.mask == IGNORE, 0, rows.mask)
        likely[at] = np.take_along_axis(rows.band.probability, own[None], axis=0)[0]
    classes = service.model.description.output.classes
    document = polygons(mask, likely, ground, classes, service.serve.limits.max_polygons)
    return json.dumps(document, separators=(",", ":")).encode()


def npy_file(array: NDArray[Any]) -> bytes:
    """An array as `numpy.save` writes it."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=(1, 0), allow_pickle=False)
    return stream.getvalue()


STRIP: Final = 512
"""Rows that are read at a time where no model asks for them."""

_TIFF_SAYS: Final = (("application", "geotiff"), ("profile", "cloud-optimized"))

RASTER_ANSWERS: Final[Mapping[Offer, Callable[[OpenRaster, Service, Call], bytes]]] = {
    Offer(TIFF, optional=_TIFF_SAYS): _mask_tiff,
    Offer(TIFF, (("band", "probability"),), optional=_TIFF_SAYS): _probability_tiff,
    Offer(GEOJSON): _polygons,
    Offer(JSON): _statistics,
    Offer(PNG): _png,
    Offer(PNG, (("layer", "scene"),)): _scene_layer,
    Offer(PNG, (("layer", "mask"),)): _mask_layer,
    Offer(NPY): _npy,
}
"""What is offered, the first where nothing is said, and what makes it."""
