"""Scenes without labels, as the tests of `ingest --labels` need them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import yaml
from numpy.typing import NDArray

from eo_data.features import LabelKey
from eo_data.ingest import ingest
from eo_data.store import Store
from eo_data.usecase import UseCase

from .conftest import ROOT, S2_BANDS, write_tiff


def case(name: str = "water", **data: Any) -> UseCase:
    """The water use case with other data settings."""
    sections = yaml.safe_load((ROOT / "usecases" / "water" / "usecase.yaml").read_text())
    return UseCase(name, {**sections, "data": sections["data"] | data})


def land_cover_classes(*values: int) -> UseCase:
    """A use case whose classes are these label values."""
    return case(
        "cover", classes=[{"name": f"c{v}", "color": "#102030", "label_values": [v]} for v in values],
        ignore_label_values=[],
    )  # fmt: skip


def scene(root: Path, name: str, size: int = 64, **how: Any) -> Path:
    """Write an unlabelled scene."""
    pixels = np.random.default_rng(len(name)).integers(500, 3000, (13, size, size)).astype(np.uint16)
    return write_tiff(root / "images" / f"{name}.tif", pixels, names=S2_BANDS, **how)


def bring(store: Store, root: Path, usecase: UseCase | None = None) -> dict[str, Any]:
    """Ingest a folder."""
    return ingest(store, usecase or case(), str(root), progress=False)


def kept(store: Store, label: LabelKey) -> tuple[NDArray[Any], float | None]:
    """A stored label's values and nodata value."""
    with rasterio.open(store.raster_path(label.key)) as dataset:
        values: NDArray[Any] = dataset.read(1)
        return values, dataset.nodata


def centres(path: Path | str, crs: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """The centre of each pixel of a raster in another CRS, one by one with pyproj."""
    from pyproj import Transformer

    with rasterio.open(path) as dataset:
        rows, columns = np.mgrid[0 : dataset.height, 0 : dataset.width]
        x, y = rasterio.transform.xy(dataset.transform, rows.ravel(), columns.ravel())
        lon, lat = Transformer.from_crs(dataset.crs.to_wkt(), crs, always_xy=True).transform(np.array(x), np.array(y))
        return np.reshape(lon, dataset.shape), np.reshape(lat, dataset.shape)


def ids(labels: Sequence[LabelKey]) -> list[str]:
    """The ids of labels."""
    return [label.id for label in labels]
