"""A Sentinel-2-like scene as people keep it: a file per band, 10 m and 20 m, COGs and a JP2, and its STAC item."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

SIZE = 1024
ORIGIN = (600_000.0, 5_100_000.0)
COMMON = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir", "B11": "swir16", "B12": "swir22"}
CLASSES = (3, 4, 6, 9)


def band_pixels(name: str) -> NDArray[np.uint16]:
    """A band's values: rough at 10 m, smooth at 20 m; 0 (no data) in the north-west corner, 100 x 100 m x 10."""
    rng = np.random.default_rng(sum(name.encode()))
    fine = name in {"B02", "B03", "B04", "B08"}
    size = SIZE if fine else SIZE // 2
    if name == "SCL":
        pixels = rng.choice(CLASSES, (size // 16, size // 16)).repeat(16, 0).repeat(16, 1)
    elif fine:
        pixels = rng.integers(900, 4000, (size, size))
    else:
        rows, columns = np.mgrid[:size, :size]
        pixels = 1500 + 800 * np.sin(rows / 9) + 2 * columns
    pixels = pixels.astype(np.uint16)
    pixels[: size // 16, : size // 16] = 0
    return pixels


def write_jp2(path: Path, pixels: NDArray[Any], step: float, crs: str = "EPSG:32632") -> Path:
    """Pixels `[H, W]` as a lossless JP2, which can declare no nodata value."""
    options = {"QUALITY": "100", "REVERSIBLE": "YES", "BLOCKXSIZE": 256, "BLOCKYSIZE": 256}
    return _write(path, pixels, step, crs, driver="JP2OpenJPEG", **options)


def write_cog(path: Path, pixels: NDArray[Any], step: float, crs: str = "EPSG:32632") -> Path:
    """Pixels `[H, W]` as a COG in blocks of 128, nodata 0."""
    return _write(path, pixels, step, crs, driver="COG", nodata=0, compress="deflate", blocksize=128, overviews="NONE")


def _write(path: Path, pixels: NDArray[Any], step: float, crs: str, **profile: Any) -> Path:
    height, width = pixels.shape
    place = Affine(step, 0, ORIGIN[0], 0, -step, ORIGIN[1])
    with rasterio.open(
        path, "w", count=1, height=height, width=width, dtype=pixels.dtype, crs=crs, transform=place, **profile
    ) as dataset:
        dataset.write(pixels, 1)
    return path


def write_band(folder: Path, name: str) -> Path:
    """A band's file."""
    pixels = band_pixels(name)
    step = 10.0 * SIZE / pixels.shape[0]
    if name == "B04":
        return write_jp2(folder / f"{name}.jp2", pixels, step)
    return write_cog(folder / f"{name}.tif", pixels.astype(np.uint8) if name == "SCL" else pixels, step)


def write_scene(folder: Path) -> Path:
    """The scene's files: B04 as JP2, which can declare no nodata value, the others as COG."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*COMMON, "SCL"):
        write_band(folder, name)
    return folder


def scene_item(scene_id: str = "S2B_32TLS_20240704", **changes: Any) -> dict[str, Any]:
    """The scene's item, shaped as that of a public catalog, with relative hrefs."""
    assets: dict[str, Any] = {
        common: {
            "href": f"./{name}.{'jp2' if name == 'B04' else 'tif'}",
            "type": "image/jp2" if name == "B04" else "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data", "reflectance"],
            "eo:bands": [{"name": name, "common_name": common}],
            "raster:bands": [{"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": -0.1}],
        }
        for name, common in COMMON.items()
    }
    assets |= {
        "scl": {"href": "./SCL.tif", "type": "image/tiff; application=geotiff", "roles": ["data"]},
        "thumbnail": {"href": "./thumbnail.jpg", "type": "image/jpeg", "roles": ["thumbnail"]},
        "visual": {
            "href": "./TCI.tif", "type": "image/tiff; application=geotiff", "roles": ["visual"],
            "eo:bands": [{"name": name, "common_name": COMMON[name]} for name in ("B04", "B03", "B02")],
        },
        "blue-jp2": {
            "href": "s3://elsewhere/B02.jp2", "type": "image/jp2", "roles": ["data", "reflectance"],
            "eo:bands": [{"name": "B02", "common_name": "blue"}],
        },
        "granule_metadata": {"href": "./metadata.xml", "type": "application/xml", "roles": ["metadata"]},
    }  # fmt: skip
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": scene_id, "collection": "sentinel-2-c1-l2a",
        "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]},  # not its place
        "bbox": [10.28, 45.94, 10.43, 46.05], "links": [], "assets": assets,
        "properties": {
            "datetime": "2024-07-04T10:16:01Z", "platform": "sentinel-2b", "constellation": "sentinel-2",
            "s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": False, "proj:epsg": 4326,
        },
        **changes,
    }  # fmt: skip
