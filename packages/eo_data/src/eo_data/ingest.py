"""`ingest`: candidates of a source become scenes and labels of the store; what is unreadable is refused by name."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.errors import RasterioError

from eo_data.digests import SHORT, RasterDigest, json_digest
from eo_data.errors import DataRefused, UsageError
from eo_data.items import make_item
from eo_data.labels import LABEL_FILE
from eo_data.radiometry import offset_applied, sentinel2_baseline
from eo_data.rasters import mask_reader, open_tiff, same_grid
from eo_data.scene import GRID, PLACE, SOURCE_SPLIT, Scene
from eo_data.sources import VALID_ID, Candidate, FolderSource
from eo_data.store import Store
from eo_data.usecase import UseCase

log = logging.getLogger(__name__)

STRIP = 512
STRIP_BYTES = 1 << 28
"""Rows that are decoded at a time, and the most memory that they may take."""

_NUMPY_NAMES = {"complex_int16": "int32"}
"""Types that only GDAL has, as NumPy's of the same size."""

MAX_BANDS = 1024
MAX_COMPRESSION = 100_000
"""A file that claims more bands, or more bytes of pixels per byte, is damaged or made to do harm: no sensor has so
many, and constant rasters stay far below."""


@dataclass
class Tally:
    """What became of the candidates: ids added, ids already there, and reasons of refusal by id."""

    added: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    def count(self, scene_id: str, *, new: bool) -> None:
        """Count an id as added or as already there."""
        (self.added if new else self.present).append(scene_id)

    def as_json(self) -> dict[str, Any]:
        """The tally as it stands in a step's result."""
        return {"added": self.added, "present": self.present, "refused": self.refused}


def ingest(store: Store, usecase: UseCase, source: str, progress: bool = True) -> dict[str, Any]:
    """Bring the scenes and labels of a folder into the store.

    A pair whose label lies on another grid than its image is refused whole. The batch holds everything that
    the source offers and that is in the store now, so that a second call gives the same batch.

    Args:
        store: Where to.
        usecase: Whose lists and patterns find the pairs.
        source: URI of the folder.
        progress: Whether to show a progress bar on stderr.

    Returns:
        The step's result: `batch`, `scenes` and `labels`.

    Raises:
        DataRefused: If the source offers nothing, or everything was refused.
    """
    origin = FolderSource(source, usecase.data)
    scenes, labels = Tally(), Tally()
    batch: dict[str, list[dict[str, str]]] = {"scenes": [], "labels": []}
    for candidate in _shown(origin.candidates(), progress):
        try:
            scene, label = _bring(store, candidate, origin.name, scenes, labels)
        except DataRefused as refusal:
            scenes.refused[candidate.id] = f"{refusal}"
            if candidate.label is not None and refusal.where == str(candidate.label):
                labels.refused[candidate.id] = f"{refusal}"
            log.warning("refused %s: %s", candidate.id, refusal)
            continue
        batch["scenes"].append(scene)
        batch["labels"] += [label] if label else []
    if not batch["scenes"]:
        first = next(iter(scenes.refused.items()))
        raise DataRefused(
            f"all {len(scenes.refused)} scenes were refused; the first, {first[0]}: {first[1]}", where=source
        )
    name = json_digest(batch)[:SHORT]
    store.put_json_new(f"batches/{name}.json", {"batch": name, "source": origin.name, **batch})
    log.info(
        "ingest: %d scenes added, %d already there, %d refused",
        *(len(part) for part in (scenes.added, scenes.present, scenes.refused)),
    )
    return {
        "batch": store.resolve(f"batches/{name}.json"),
        "scenes": scenes.as_json(),
        "labels": labels.as_json(),
    }


def _shown(candidates: list[Candidate], progress: bool) -> Iterable[Candidate]:
    from tqdm import tqdm

    return tqdm(candidates, desc="ingest", unit="scene", disable=not progress, mininterval=1.0)


def _bring(
    store: Store, candidate: Candidate, source: str, scenes: Tally, labels: Tally
) -> tuple[dict[str, str], dict[str, str] | None]:
    """Store one candidate and its label; the batch's records of both."""
    if candidate.fault is not None:
        raise candidate.fault
    for name, noun, fix in ((candidate.id, "id", "Rename the file"), (candidate.collection, "collection", "Rename it")):
        if not VALID_ID.fullmatch(name):
            raise DataRefused(
                f"{name[:128]!r} is no {noun}: it holds letters, digits, '.', '_' and '-' only, at most 128",
                where=str(candidate.image),
                fix=fix,
            )
    for path in (candidate.image, candidate.label):
        if path is not None and not path.is_file():
            raise DataRefused("there is no such file", where=str(path), fix="Correct the list or bring the file")
        if path is not None and not os.access(path, os.R_OK):
            raise DataRefused("the file may not be read", where=str(path), fix="Change its permissions")
    with open_tiff(str(candidate.image), str(candidate.image)) as dataset:
        pixels = _pixels(dataset, candidate.image)
        item = make_item(candidate, dataset, pixels)
        label_pixels = _label_pixels(dataset, candidate) if candidate.label else None
    identity = {
        "pixels": pixels,
        "grid": item["properties"][GRID],
        "asset": {k: v for k, v in item["assets"]["image"].items() if k != "href"},
        "place": [item["properties"].get(PLACE), item["properties"].get(SOURCE_SPLIT)],
        "baseline": [sentinel2_baseline(item["properties"]), offset_applied(item["properties"])],
    }
    scene = Scene(store, candidate.collection, candidate.id, json_digest(identity)[:SHORT], item)
    store.put_new(f"{scene.key}/image.tif", candidate.image)
    scenes.count(candidate.id, new=store.put_json_new(f"{scene.key}/item.json", item))
    label = None
    if candidate.label is not None and label_pixels is not None:
        content = json_digest([label_pixels, item["properties"][GRID]])[:SHORT]
        made = {"created": item["properties"]["created"]}
        folder = f"labels/{candidate.id}/{source}/{content}"
        store.put_new(f"{folder}/{LABEL_FILE}", candidate.label)
        record = {
            "id": candidate.id,
            "source": source,
            "content": content,
            "pixels": label_pixels,
            "grid": item["properties"][GRID],
            **made,
        }
        labels.count(candidate.id, new=store.put_json_new(f"{folder}/label.json", record))
        label = {"id": candidate.id, "source": source, "content": content}
    return {"collection": scene.collection, "id": scene.id, "content": scene.content}, label


def _label_pixels(image: Any, candidate: Candidate) -> str:
    with open_tiff(str(candidate.label), str(candidate.label)) as dataset:
        difference = same_grid(image, dataset)
        if difference:
            raise DataRefused(
                f"the label does not fit its image: {difference}",
                where=str(candidate.label),
                fix="Bring the label on the image's grid",
            )
        return _pixels(dataset, candidate.label)


def _pixels(dataset: Any, path: Path | None) -> str:
    """The digest of a file's decoded pixels, and of its internal mask where it has one, strip by strip."""
    mask = mask_reader(dataset, range(1, dataset.count + 1))
    digest = RasterDigest(dataset.dtypes[0], dataset.count + (mask is not None), dataset.height, dataset.width)
    try:
        step = _strip_rows(dataset, path)
        for top in range(0, dataset.height, step):
            window = ((top, min(top + step, dataset.height)), (0, dataset.width))
            strip = dataset.read(window=window)
            if mask is not None:
                strip = np.concatenate([strip, mask(window=window)[None].astype(strip.dtype)])
            digest.update(strip)
    except (RasterioError, MemoryError) as error:
        raise DataRefused(
            "the pixels cannot be decoded: the file is truncated or damaged", where=str(path), fix="Fetch it again"
        ) from error
    return digest.hexdigest()


def _strip_rows(dataset: Any, path: Path | None) -> int:
    """How many rows to decode at a time.

    Raises:
        DataRefused: If the header claims more than the file can hold, or a row alone is too much for memory.
    """
    item = np.dtype(_NUMPY_NAMES.get(dataset.dtypes[0], dataset.dtypes[0])).itemsize
    row: int = dataset.count * dataset.width * item
    claimed, held = row * dataset.height, Path(dataset.name).stat().st_size
    if dataset.count > MAX_BANDS or claimed > MAX_COMPRESSION * held or row > STRIP_BYTES:
        raise DataRefused(
            f"the header claims {dataset.count} bands of {dataset.height} x {dataset.width} pixels, the file has "
            f"{held} bytes",
            where=str(path),
            fix="Fetch it again, or cut it into scenes",
        )
    return min(STRIP, max(1, STRIP_BYTES // row))


def require_source(source: str | None, labels: str | None) -> str:
    """The source that the flags name.

    Raises:
        UsageError: If there is none, or labels are to be added apart, which folders do not offer yet.
    """
    if labels is not None:
        raise UsageError(
            "labels apart from their scenes are not read yet", where="--labels", fix="Put them beside the images"
        )
    if source is None:
        raise UsageError("nothing to ingest", where="--source", fix="Give --source URI")
    return source
