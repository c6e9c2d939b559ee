"""The decoder: `python -m eo_serving.decoder_process CONTROL BODY PIXELS MEMORY`, started by `eo_serving.decoders`.

It reads rasters of strangers with GDAL, one at a time, and nothing else. What it may take of memory and processor
time is bounded by the kernel; it may write no file, and holds no credential. Orders come as JSON through a socket,
bodies and pixels through memory that is shared with its parent; it ends when the socket does.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eo_data.allocation import keep_freed_memory
from eo_data.errors import TerraloopError
from eo_data.usecase import DataSection
from eo_serving.configuration import Limits
from eo_serving.problem import TooLarge
from eo_serving.raster_bodies import RasterBody, open_body

if TYPE_CHECKING:
    from eo_serving.raster_bodies import OpenRaster

OPEN_FILES: Final = 64
"""Enough for GDAL's and PROJ's tables."""


def main() -> None:
    """Decode until the parent is gone."""
    control, body, pixels, memory = (int(argument) for argument in sys.argv[1:5])
    keep_freed_memory()
    _import_decoders()
    _limit(memory)
    _Decoder(Connection(control), body, pixels).run()


class _Decoder:
    def __init__(self, control: Connection, body: int, pixels: int) -> None:
        self._control = control
        self._body = body
        self._pixels = pixels
        self._opened = ExitStack()
        self._image: OpenRaster | None = None
        self._shared: mmap.mmap | None = None

    def run(self) -> None:
        orders: dict[str, Callable[..., dict[str, Any]]] = {
            "open": self._open,
            "read": self._read,
            "close": self._close,
        }
        while True:
            try:
                order = json.loads(self._control.recv_bytes())
            except (EOFError, OSError):
                return
            try:
                answer = orders[order.pop("order")](**order)
            except TerraloopError as error:
                kind = type(error).__name__
                answer = {"refused": {"kind": kind, "what": error.what, "where": error.where, "fix": error.fix}}
            except MemoryError:
                answer = {"refused": {"kind": TooLarge.__name__, **OUT_OF_MEMORY}}
            except Exception:  # what it is, the parent's log says
                answer = {"failed": traceback.format_exc()}
            self._control.send_bytes(json.dumps(answer).encode())

    def _open(
        self,
        size: int,
        data: str,
        limits: str,
        radiometry: tuple[float | None, float | None],
        bands: list[str] | None,
        seconds: float | None,
        asset: dict[str, Any] | None,
        properties: dict[str, Any] | None,
    ) -> dict[str, Any]:
        self._close()
        _allow_processor_seconds(seconds)
        with mmap.mmap(self._body, size, prot=mmap.PROT_READ) as sent:
            content = sent[:]
        body = RasterBody(
            content,
            _data_section(data),
            _limits_section(limits),
            (radiometry[0], radiometry[1]),
            None if bands is None else tuple(bands),
            asset,
            properties,
        )
        image = self._image = self._opened.enter_context(open_body(body))
        rule = image.radiometry
        return {
            "shape": image.shape,
            "crs": None if image.crs is None else image.crs.to_wkt(),
            "transform": None if image.transform is None else image.transform[:6],
            "radiometry": [rule.scale, rule.offset, rule.nodata, rule.source],
            "taken": image.taken,
        }

    def _read(self, top: int, left: int, height: int, width: int) -> dict[str, Any]:
        assert self._image is not None, "'open' comes first"  # noqa: S101
        pixels, valid = self._image.read(top, left, height, width)
        shared = self._mapped(pixels.nbytes + valid.nbytes)
        np.frombuffer(shared, np.float32, pixels.size).reshape(pixels.shape)[...] = pixels
        np.frombuffer(shared, np.bool_, valid.size, pixels.nbytes).reshape(valid.shape)[...] = valid
        return {}

    def _mapped(self, size: int) -> mmap.mmap:
        """The memory for pixels; the parent has made it large enough."""
        if self._shared is None or len(self._shared) < size:
            self._shared = mmap.mmap(self._pixels, size)
        return self._shared

    def _close(self) -> dict[str, Any]:
        self._image = None
        self._opened.close()
        return {}


OUT_OF_MEMORY: Final = {
    "what": "decoding this raster takes more memory than is allowed",
    "where": "body",
    "fix": "Write it tiled, in small tiles, or cut it into smaller rasters",
}


def _import_decoders() -> None:
    """Load what decodes before memory is bounded, and before the first request waits for it."""
    import rasterio
    from rasterio.crs import CRS

    import eo_data.rasters  # noqa: F401

    with rasterio.Env():
        CRS.from_epsg(32630).to_wkt()


def _limit(memory: int) -> None:
    """Bound what this process may still take: `memory` bytes of address space, no files, no core dumps."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        taken = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    bounds = {
        resource.RLIMIT_AS: taken + memory,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_CORE: 0,
    }
    for kind, bound in bounds.items():
        resource.setrlimit(kind, (bound, bound))


def _allow_processor_seconds(seconds: float | None) -> None:
    """Let the kernel end this process once it has computed for so many seconds from now on."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = hard if seconds is None else int(used.ru_utime + used.ru_stime + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


@lru_cache(maxsize=2)
def _data_section(text: str) -> DataSection:
    return DataSection.model_validate_json(text)


@lru_cache(maxsize=2)
def _limits_section(text: str) -> Limits:
    return Limits.model_validate_json(text)


if __name__ == "__main__":
    main()
