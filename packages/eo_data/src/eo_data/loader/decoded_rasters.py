"""The decode-once cache: rasters as NumPy files without compression, read by mapping them into memory.

```
<folder>/<key>/pixels.npy   [bands, H, W], the file's 8 or 16 bits, else reflectance x 10000 as float32
<folder>/<key>/label.npy    uint8 [H, W], class indexes; absent where there is no label
<folder>/<key>/valid.npy    bool [H, W], where all bands have data; absent where all pixels have
```

The key is a digest of the files' bytes, the bands, the radiometry and the classes: other content, other key. A folder
appears whole, by a rename; what a killed run left half-written is called `.part-...` and never read.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eo_data.digests import json_digest
from eo_data.errors import DataRefused, TemporaryFailure
from eo_data.loader.chip_list import Block
from eo_data.loader.pieces import Piece
from eo_data.loader.raster_index import IndexedFile, IndexedRaster
from eo_data.loader.window_readers import label_table, open_image_reader, open_label_reader, read_block
from eo_data.tiling import Valid
from eo_data.usecase import DataSection

FORMAT: Final = 2
"""Raised when these files change meaning: it enters the key."""

ROWS: Final = 256
"""Rows that are decoded at a time, at least."""


@dataclass(frozen=True)
class Decoded:
    """A decoded raster, mapped: pixels `[bands, H, W]`, class indexes `[H, W]`, where there are data `[H, W]`."""

    pixels: NDArray[Any]
    label: NDArray[np.uint8] | None
    valid: Valid | None


def decoded_raster(folder: Path, raster: IndexedRaster, data: DataSection) -> Decoded:
    """A raster of the cache, decoded into it first where it is not there.

    Raises:
        DataRefused: If the raster cannot be read, or the cache's files are damaged.
        TemporaryFailure: If the cache cannot be written.
    """
    target = folder / _key(raster, data)
    if not target.is_dir():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder))
            try:
                _write(part, raster, data)
                _move(part, target)
            finally:
                shutil.rmtree(part, ignore_errors=True)
        except OSError as error:
            raise TemporaryFailure(
                f"the cache cannot be written ({error.strerror})", where=str(folder), fix="Make room, or go without"
            ) from error
    try:
        pixels, label, valid = (_mapped(target / f"{name}.npy") for name in ("pixels", "label", "valid"))
    except (OSError, ValueError, EOFError) as error:
        raise DataRefused("the cache is damaged", where=str(target), fix="Remove this folder") from error
    if pixels is None or pixels.shape != (len(raster.indexes), *raster.grid.shape):
        raise DataRefused("the cache is damaged", where=str(target), fix="Remove this folder")
    return Decoded(pixels, label, valid)


def _key(raster: IndexedRaster, data: DataSection) -> str:
    return json_digest(
        {
            "format": FORMAT,
            "image": _content(raster.image),
            "label": None if raster.label is None else _content(raster.label),
            "bands": raster.indexes,
            "nodata": repr(raster.radiometry.nodata),
            # 8 and 16 bits are kept as they are in the file, and scaled where they are read
            "radiometry": None if raster.integral else str(raster.radiometry),
            "classes": [definition.label_values for definition in data.classes],
            "ignored": data.ignore_label_values,
        }
    )[:32]


def _content(file: IndexedFile) -> str:
    """The digest of a file's bytes.

    Raises:
        DataRefused: If it has gone, or is no local file.
    """
    try:
        with Path(file.path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataRefused(
            f"the file cannot be read ({error.strerror})", where=file.where, fix="Only local files can be cached"
        ) from error


def _write(folder: Path, raster: IndexedRaster, data: DataSection) -> None:
    height, width = raster.grid.shape
    bands = len(raster.indexes)
    needed = height * width * (bands * np.dtype(raster.stored).itemsize + 2)
    if shutil.disk_usage(folder).free < needed:  # a mapped file without room would end the process
        raise TemporaryFailure(
            f"the cache needs {needed >> 20} MiB for this raster", where=str(folder), fix="Make room, or go without"
        )
    image = open_image_reader(raster)
    table = None if raster.label is None else label_table(raster.label, data)
    label = open_label_reader(raster.label, data, table)
    pixels = np.lib.format.open_memmap(folder / "pixels.npy", "w+", raster.stored, (bands, height, width))
    classes = np.lib.format.open_memmap(folder / "label.npy", "w+", np.uint8, (height, width)) if label else None
    valid = np.ones((height, width), dtype=np.bool_)
    rows = -(-ROWS // raster.grid.tile[0]) * raster.grid.tile[0]
    try:
        for top in range(0, height, rows):
            block = Block(0, top, 0, min(rows, height - top), width)
            strip = np.empty((bands, block.height, width), dtype=raster.stored)
            strip_classes = np.empty((block.height, width), dtype=np.uint8)
            found = read_block(block, image, label, [Piece(top, 0, strip)], strip_classes)
            part = slice(top, top + block.height)
            pixels[:, part] = strip
            if classes is not None:
                classes[part] = strip_classes
            if found is not None:
                valid[part] = found
    finally:
        image.close()
        if label is not None:
            label.close()
    pixels.flush()
    if classes is not None:
        classes.flush()
    if not valid.all():
        np.save(folder / "valid.npy", valid)


def _move(part: Path, target: Path) -> None:
    """Give a whole folder its name; another run may have been quicker, with the same content."""
    part.chmod(0o755)  # mkdtemp makes it private
    try:
        part.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _mapped(path: Path) -> NDArray[Any] | None:
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)) if path.exists() else None
