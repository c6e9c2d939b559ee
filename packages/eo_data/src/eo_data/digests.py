"""Digests: sha256 of bytes, of canonical JSON, and of decoded pixels."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHORT = 16
"""Length in hexadecimal digits of a short content hash, as in `<content>` and `<suite>` of the store."""


def sha256(data: bytes) -> str:
    """The sha256 of bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, UTF-8: equal values give equal bytes. NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def json_digest(value: Any) -> str:
    """The sha256 of a value's canonical JSON."""
    return sha256(canonical_json(value))


def pixel_digest(pixels: NDArray[Any]) -> str:
    """The sha256 of decoded pixels, row by row, little-endian, led by dtype and shape.

    Compression, tiling and byte order of the file do not enter.
    """
    little = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{little.dtype.str}{little.shape}".encode())
    digest.update(little.data)
    return digest.hexdigest()


def mask_digest(mask: NDArray[np.uint8]) -> str:
    """The sha256 of a mask's pixels, uint8, row by row (design 4.3): no header, only pixels."""
    return sha256(np.ascontiguousarray(mask, dtype=np.uint8).tobytes())


class RasterDigest:
    """The sha256 of a raster's decoded pixels, fed in strips of rows `[bands, rows, width]` of any height.

    Strips are hashed row by row, all bands of a row together, so that the strips' height does not enter.
    """

    def __init__(self, dtype: str, bands: int, height: int, width: int) -> None:
        self._digest = hashlib.sha256(f"{dtype}/{bands}/{height}/{width}".encode())

    def update(self, strip: NDArray[Any]) -> None:
        """Add the next rows."""
        rows = np.ascontiguousarray(strip.swapaxes(0, 1))
        self._digest.update(rows.astype(rows.dtype.newbyteorder("<"), copy=False).data)

    def hexdigest(self) -> str:
        """64 hexadecimal digits."""
        return self._digest.hexdigest()
