"""Find a scene's raster in a store on this machine, without any library for rasters."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit


def raster(store: str, scene: str) -> Path | None:
    """The largest GeoTIFF of a scene in a store; None where the store is not a folder or has no such scene.

    Args:
        store: Root of the store, a URI.
        scene: The scene's id.
    """
    parts = urlsplit(store)
    if parts.scheme != "file":
        return None
    found = Path(unquote(parts.path)).glob(f"scenes/*/{scene}/*/*.tif")
    return max(found, key=lambda path: path.stat().st_size, default=None)
