"""STAC metadata of simulated scenes: an item each, and the collection that they are in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

import pystac

from eo_data.simulate.places import PIXEL
from eo_data.simulate.scene import IGNORE, SimulatedScene
from eo_data.simulate.sensor import QUANTIFICATION
from eo_data.simulate.spectra import BANDS

COLLECTION: Final = "simulated"
"""Id of the collection; its scenes never share a dataset with others."""

SCALE: Final = 1 / QUANTIFICATION

_EXTENSIONS: Final = [
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
]


def scene_item(scene: SimulatedScene) -> dict[str, Any]:
    """The STAC 1.1 item of a simulated scene; hrefs are relative to the folder `items`."""
    corners = scene.geobox.extent.to_crs("EPSG:4326").exterior.points
    ring = [[round(x, 7), round(y, 7)] for x, y in corners]
    if _area(ring) < 0:
        ring.reverse()  # GeoJSON's exterior rings run counter-clockwise
    longitudes, latitudes = zip(*ring, strict=True)
    item = pystac.Item(
        id=scene.id,
        geometry={"type": "Polygon", "coordinates": [ring]},
        bbox=[min(longitudes), min(latitudes), max(longitudes), max(latitudes)],
        datetime=scene.datetime,
        properties=_properties(scene),
        stac_extensions=list(_EXTENSIONS),
        collection=COLLECTION,
        assets={"image": _image(scene), "label": _label(scene)},
    )
    item.add_link(pystac.Link(pystac.RelType.COLLECTION, "../collection.json", pystac.MediaType.JSON))
    return item.to_dict(include_self_link=False, transform_hrefs=False)


def scenes_collection(ids: Sequence[str]) -> dict[str, Any]:
    """The STAC collection of simulated scenes, with a link to each item."""
    extent = pystac.Extent(
        pystac.SpatialExtent([[-180.0, -60.0, 180.0, 70.0]]),
        pystac.TemporalExtent([[datetime(2020, 2, 1, tzinfo=UTC), datetime(2023, 2, 2, tzinfo=UTC)]]),
    )
    collection = pystac.Collection(
        id=COLLECTION,
        title="Simulated scenes",
        description="Simulated Sentinel-2 L1C-like scenes with water labels. No satellite has seen these places so.",
        extent=extent,
        license="Apache-2.0",
        keywords=["simulated"],
    )
    for scene_id in ids:
        collection.add_link(pystac.Link(pystac.RelType.ITEM, f"./items/{scene_id}.json", pystac.MediaType.GEOJSON))
    return collection.to_dict(include_self_link=False, transform_hrefs=False)


def _properties(scene: SimulatedScene) -> dict[str, Any]:
    """The item's properties."""
    return {
        "title": scene.title,
        "terraloop:simulated": True,
        "platform": "simulated",
        "constellation": "simulated",
        "instruments": ["msi"],
        "gsd": int(PIXEL),
        "proj:code": str(scene.geobox.crs),
        "proj:shape": list(scene.geobox.shape),
        "proj:transform": list(scene.geobox.transform)[:6],
        "eo:cloud_cover": scene.cloud_cover,
        "s2:processing_baseline": scene.baseline,
    }


def _image(scene: SimulatedScene) -> pystac.Asset:
    """The asset of the 13 bands."""
    bands = [
        {
            "name": band.name,
            "eo:common_name": band.common_name,
            "eo:center_wavelength": band.wavelength,
            "eo:full_width_half_max": band.width,
        }
        for band in BANDS
    ]
    return pystac.Asset(
        href=f"../images/{scene.id}.tif",
        title="Simulated top-of-atmosphere digital numbers",
        media_type=pystac.MediaType.GEOTIFF,
        roles=["data"],
        extra_fields={
            "data_type": "uint16",
            "nodata": 0,
            "raster:scale": SCALE,
            "raster:offset": scene.offset,
            "bands": bands,
        },
    )


def _label(scene: SimulatedScene) -> pystac.Asset:
    """The asset of the label."""
    return pystac.Asset(
        href=f"../labels/{scene.id}.tif",
        title="Simulated water label: 0 land, 1 water, 255 ignore",
        media_type=pystac.MediaType.GEOTIFF,
        roles=["labels"],
        extra_fields={"data_type": "uint8", "nodata": IGNORE},
    )


def _area(ring: list[list[float]]) -> float:
    """Twice the signed area of a closed ring; positive where it runs counter-clockwise."""
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring))
