"""`baseline`: the untuned indices, and the champion where there is one, on one image and its label."""

from __future__ import annotations

import logging
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_data.errors import DataRefused
from eo_data.labels import read_label
from eo_data.rasters import open_image, open_tiff, same_grid
from eo_data.store import Store, local_path
from eo_data.tiling import Pixels, Valid
from eo_data.usecase import IGNORE, UseCase
from eo_models.confusion import count
from eo_models.spectral_index import indices

log = logging.getLogger(__name__)


def baseline(usecase: UseCase, image: str, label: str, store: Store | None = None) -> dict[str, Any]:
    """IoU and F1 of NDWI > 0 and MNDWI > 0, and of the champion if a store with a ledger is given.

    Scored are pixels that the label scores and that have data in every band.

    Args:
        usecase: Bands, radiometry and label values.
        image: Path or `file://` URI of a GeoTIFF.
        label: The same of its label, on the same grid.
        store: Whose ledger names the champion.

    Returns:
        `image`, `label`, `radiometry`, `pixels` (scored), `target_fraction` and `iou`, `f1` by method.

    Raises:
        DataRefused: If one cannot be read or they lie on different grids.
    """
    pixels, valid, radiometry, classes = read_pair(usecase, image, label)
    masks = {f"{index.name}>0": index.mask(pixels) for index in indices(usecase.data)}
    champion = _champion_mask(usecase, store, pixels, valid)
    masks |= {champion[0]: champion[1]} if champion else {}
    counts = {name: count(np.where(valid, mask, np.uint8(IGNORE)), classes) for name, mask in masks.items()}
    first = next(iter(counts.values()))
    scored = sum(first.as_list())
    result = {
        "image": image,
        "label": label,
        "radiometry": radiometry,
        "pixels": scored,
        "target_fraction": (first.tp + first.fn) / scored if scored else None,
        "iou": {name: one.iou for name, one in counts.items()},
        "f1": {name: one.f1 for name, one in counts.items()},
    }
    print(table(result), file=sys.stderr)
    return result


def read_pair(usecase: UseCase, image: str, label: str) -> tuple[Pixels, Valid, str, NDArray[np.uint8]]:
    """An image's reflectance, where it has data, its radiometry, and its label as class indexes.

    Raises:
        DataRefused: If one cannot be read or they lie on different grids.
    """
    paths = [str(local_path(source)) for source in (image, label)]
    with open_tiff(paths[0], image) as first, open_tiff(paths[1], label) as second:
        difference = same_grid(first, second)
    if difference:
        raise DataRefused(
            f"the label does not fit its image: {difference}", where=label, fix="Bring the label on the image's grid"
        )
    with open_image(paths[0], usecase.data, where=image) as raster:
        pixels, valid = raster.read_all()
        radiometry = str(raster.radiometry)
    return pixels, valid, radiometry, read_label(paths[1], usecase.data, label)


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = [
        f"{result['pixels']:,} pixels scored, {_percent(result['target_fraction'])} of them of the target class",
        f"{'method':<24}{'IoU':>10}{'F1':>10}",
    ]
    for name, iou in result["iou"].items():
        lines.append(f"{name:<24}{_figure(iou):>10}{_figure(result['f1'][name]):>10}")
    return "\n".join(lines)


def _champion_mask(
    usecase: UseCase, store: Store | None, pixels: Pixels, valid: Valid
) -> tuple[str, NDArray[np.uint8]] | None:
    from eo_data.model.ledger import Ledger

    if store is None:
        return None
    entry = Ledger(store, usecase.name).champion()
    if entry is None:
        log.info("baseline: the ledger of '%s' is empty, there is no champion to compare", usecase.name)
        return None
    from eo_data.model.files import fetch_model
    from eo_data.model.session import OnnxModel
    from eo_models.tracking import connect

    connect()
    files = fetch_model(entry.uri, store)
    return f"champion {files.label}", OnnxModel(files.graph, files.description).mask(pixels, valid)


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.1f} %"
