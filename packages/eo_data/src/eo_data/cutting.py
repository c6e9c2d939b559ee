"""Cutting: a scene becomes chips, part by part, so that nothing of a scene is ever held whole.

A part is some consecutive rows of chips. Within it windows are read that end where the file's blocks end: no block
is decoded twice, and GDAL's cache is kept small.
"""

from __future__ import annotations

import io
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from eo_data.cells import project
from eo_data.dataset import ChipRecord
from eo_data.errors import DataRefused, TemporaryFailure
from eo_data.labels import LabelRaster, open_label
from eo_data.rasters import ImageRaster
from eo_data.scene import PLACE, SOURCE_SPLIT, Scene
from eo_data.split import Placement, place_chip, place_scene
from eo_data.statistics import RunningStatistics
from eo_data.store import Store
from eo_data.usecase import IGNORE, DataSection

PART_BYTES: Final = 64 << 20
"""Chips of one part, bytes: some rows of blocks hold more, up to three times as much."""

WINDOW_BYTES: Final = 32 << 20
"""Reflectance of one window that is read, bytes."""

CACHE_BYTES: Final = {True: 64 << 20, False: 256 << 20}
"""GDAL's cache: small where windows end with blocks; else a row of blocks has to stay until the next window."""

NEAR_ANOTHER_SIDE: Final = "within a chip of another side"
TOO_FEW_PIXELS: Final = "too few scored pixels"

_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class Part:
    """Rows of a scene that are cut as one task.

    Attributes:
        store: Where the scene lies and the chips go.
        folder: Key of the dataset's folder.
        scene: Key of the scene's folder.
        label: Key of the label's raster.
        data: The use case's data section.
        top: First row, pixels.
        bottom: Row after the last.
        window: Height and width of the windows that are read, pixels: whole chips.
        aligned: Whether windows end where blocks end.
    """

    store: Store
    folder: str
    scene: str
    label: str
    data: DataSection
    top: int
    bottom: int
    window: tuple[int, int]
    aligned: bool


@dataclass(frozen=True)
class Rows:
    """How a scene is taken apart: bounds of its parts, and the windows within them (see `Part`)."""

    bounds: tuple[tuple[int, int], ...]
    window: tuple[int, int]
    aligned: bool


@dataclass(frozen=True)
class CutPart:
    """What cutting a part gave.

    Attributes:
        chips: The index of its chips, from top to bottom and left to right.
        left_out: Top, left and reason of each place that gave none.
        statistics: Of its training chips.
    """

    chips: tuple[ChipRecord, ...]
    left_out: tuple[tuple[int, int, str], ...]
    statistics: RunningStatistics


def plan_rows(shape: tuple[int, int], blocks: tuple[int, int], size: int, bands: int) -> Rows:
    """Parts of a scene of at most about 64 MiB of chips each.

    Args:
        shape: Height and width of the scene, pixels.
        blocks: Height and width of its file's blocks, pixels.
        size: Side of a chip, pixels.
        bands: How many bands are read.
    """
    height, width = shape
    row_bytes = -(-width // size) * size * (2 * bands + 1)  # of chips, per row of pixels
    rows, columns = math.lcm(size, blocks[0]), math.lcm(size, blocks[1])
    if rows * row_bytes > 3 * PART_BYTES and rows > size:  # blocks and chips fit together too seldom
        rows = size
    if columns * rows * bands * 4 > WINDOW_BYTES:
        columns = size
    columns *= max(1, WINDOW_BYTES // (columns * rows * bands * 4))
    step = rows * max(1, PART_BYTES // (rows * row_bytes))
    bounds = tuple((top, min(top + step, height)) for top in range(0, height, step))
    aligned = rows % blocks[0] == 0 and (columns % blocks[1] == 0 or columns >= width)
    return Rows(bounds, (rows, columns), aligned)


def cut_part(part: Part) -> CutPart:
    """Cut a part, write its chips to the store and return their index.

    Raises:
        DataRefused: If image or label cannot be read.
        TemporaryFailure: If the store is out of reach, full, or has lost the scene since the step began.
    """
    try:
        scene = Scene.load(part.store, part.scene)
        with (
            rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES[part.aligned]),
            scene.image(part.data) as image,
            open_label(part.store.raster_path(part.label), part.data, scene.id) as label,
        ):
            return _cut(part, scene, image, label)
    except DataRefused as error:
        if len(part.store.list(part.scene)) > 1 and part.store.exists(part.label):  # an item and its raster
            raise
        raise TemporaryFailure(
            "the store has lost what it held when the step began",
            where=part.store.resolve(part.scene),
            fix="Bring the store back, then run the step again",
        ) from error


def _cut(part: Part, scene: Scene, image: ImageRaster, label: LabelRaster) -> CutPart:
    data, size = part.data, part.data.chip.size
    geobox = image.geobox
    places, left_out = _places(part, scene, geobox, image.shape[1])
    images = np.zeros((len(places), len(data.inputs), size, size), dtype=np.int16)
    labels = np.full((len(places), size, size), IGNORE, dtype=np.uint8)
    _fill(part, image, label, places, images, labels)
    chips: list[ChipRecord] = []
    statistics = RunningStatistics(len(data.inputs), len(data.classes))
    least = max(data.chip.min_valid_fraction, 1 / size**2)
    for slot, ((top, left), placement) in enumerate(places.items()):
        scored = float((labels[slot] != IGNORE).mean())
        if scored < least:
            left_out.append((top, left, TOO_FEW_PIXELS))
            continue
        index = len(chips)  # what was left out makes room for what follows
        images[index], labels[index] = images[slot], labels[slot]
        longitude, latitude = _centre(geobox, top, left, size)
        chips.append(
            ChipRecord(
                scene=scene.id,
                shard=f"{scene.id}.{part.top}-{part.bottom}",  # of another plan another name
                index=index,
                top=top,
                left=left,
                split=placement.split,
                cell=placement.cell,
                valid_fraction=round(scored, 6),
                class_counts=tuple(int((labels[index] == k).sum()) for k in range(len(data.classes))),
                longitude=longitude,
                latitude=latitude,
            )
        )
        if placement.split == "train":
            statistics.update(images[index], labels[index])
    if chips:
        for kind, array in (("images", images), ("labels", labels)):
            part.store.put_new(f"{part.folder}/chips/{chips[0].shard}.{kind}.npy", _npy(array[: len(chips)]))
    return CutPart(tuple(chips), tuple(sorted(left_out)), statistics)


def _places(
    part: Part, scene: Scene, geobox: GeoBox | None, width: int
) -> tuple[dict[tuple[int, int], Placement], list[tuple[int, int, str]]]:
    """Side and cell of each chip of a part by its top and left, and those too near to another side."""
    rule, size = part.data.split, part.data.chip.size
    properties = scene.properties
    whole = place_scene(rule, scene.id, properties.get(PLACE), properties.get(SOURCE_SPLIT)) if geobox is None else None
    places: dict[tuple[int, int], Placement] = {}
    left_out: list[tuple[int, int, str]] = []
    for top in range(part.top, part.bottom, size):
        for left in range(0, width, size):
            placement = whole
            if geobox is not None:
                placement = place_chip(rule, chip_grid(geobox, top, left, size), margin=size // 2)
            if placement is None:
                left_out.append((top, left, NEAR_ANOTHER_SIDE))
            else:
                places[top, left] = placement
    return places, left_out


def _fill(
    part: Part,
    image: ImageRaster,
    label: LabelRaster,
    places: Collection[tuple[int, int]],
    images: NDArray[np.int16],
    labels: NDArray[np.uint8],
) -> None:
    """Read the windows that hold chips, each once, and put every chip into its slot."""
    size, (rows, columns) = part.data.chip.size, part.window
    slots: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for slot, (top, left) in enumerate(places):
        window = (part.top + (top - part.top) // rows * rows, left // columns * columns)
        slots.setdefault(window, []).append((slot, top - window[0], left - window[1]))
    for (top, left), chips in slots.items():
        window_shape = min(rows, part.bottom - top), min(columns, image.shape[1] - left)
        pixels, truth = _read(image, label, top, left, *window_shape)
        for slot, y, x in chips:
            piece = truth[y : y + size, x : x + size]
            labels[slot, : piece.shape[0], : piece.shape[1]] = piece
            images[slot, :, : piece.shape[0], : piece.shape[1]] = pixels[:, y : y + size, x : x + size]


def _read(
    image: ImageRaster, label: LabelRaster, top: int, left: int, height: int, width: int
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """A window as chips hold it: int16 reflectance x 10000, 0 without data; labels 255 where either has none."""
    pixels, valid = image.read(top, left, height, width)
    np.clip(np.rint(pixels, out=pixels), _INT16.min, _INT16.max, out=pixels)
    values = pixels.astype(np.int16)
    # 0 in every band says that there is no data; what is black and has data becomes the darkest grey.
    values[0][valid & ~values.any(axis=0)] = 1
    return values, np.where(valid, label.read(top, left, height, width), np.uint8(IGNORE))


def chip_grid(geobox: GeoBox, top: int, left: int, size: int) -> GeoBox:
    """The grid of a chip: less than `size` pixels high or wide at the scene's edge."""
    return geobox[top : min(top + size, geobox.shape[0]), left : min(left + size, geobox.shape[1])]


def _centre(geobox: GeoBox | None, top: int, left: int, size: int) -> tuple[float, float] | tuple[None, None]:
    if geobox is None:
        return None, None
    chip = chip_grid(geobox, top, left, size)
    longitude, latitude = project(chip, np.array([chip.shape[1] / 2]), np.array([chip.shape[0] / 2]))
    return round(float(longitude[0]), 6), round(float(latitude[0]), 6)


def _npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
