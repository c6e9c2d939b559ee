"""`ingest --labels`: labels for scenes that are there, or that come later; from rasters, a map, or polygons."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from eo_data.batches import Batch, BatchScene
from eo_data.digests import SHORT, json_digest
from eo_data.errors import DataRefused
from eo_data.features import LabelKey
from eo_data.georeference import north_up
from eo_data.ingest import Tally
from eo_data.items import describe_grid
from eo_data.label_store import keep_label
from eo_data.land_cover import LandCover
from eo_data.overlap import Box, lonlat_box, scene_grid
from eo_data.polygons import Polygons
from eo_data.rasters import open_tiff, same_grid
from eo_data.scene import Scene, list_scenes, newest
from eo_data.sources.candidate import VALID_ID
from eo_data.sources.label_sources import LabelFile, LabelSource
from eo_data.store import Store
from eo_data.usecase import DataSection, UseCase

log = logging.getLogger(__name__)

Thing = TypeVar("Thing")


@dataclass
class LabelTally(Tally):
    """What became of labels; `waiting` are those, also among the added or present, whose scene is not there yet."""

    waiting: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The tally as it stands in a step's result."""
        return {**super().as_json(), "waiting": self.waiting}


class Layer(Protocol):
    """What can be drawn on any scene with a CRS: a map, or polygons."""

    box: Box

    def draw(self, image: Any, path: Path, name: str) -> bool:
        """Write the label of an image, open in rasterio; whether any of its pixels got one."""
        ...


@dataclass
class _Found:
    """The scenes concerned, their labels, and the count."""

    scenes: list[BatchScene] = field(default_factory=list)
    labels: list[LabelKey] = field(default_factory=list)
    tally: LabelTally = field(default_factory=LabelTally)

    def keep(self, label: LabelKey, new: bool, scene: Scene | None) -> None:
        """Count a label; without its scene as one that waits."""
        self.labels.append(label)
        self.tally.count(label.id, new=new)
        if scene is None:
            self.tally.waiting.append(label.id)
        else:
            self.scenes.append(BatchScene(collection=scene.collection, id=scene.id, content=scene.content))

    def refuse(self, scene_id: str, refusal: DataRefused) -> None:
        """Count a label that was refused."""
        self.tally.refused[scene_id] = f"{refusal}"
        log.warning("refused the label of %s: %s", scene_id, refusal)


def add_labels(
    store: Store, usecase: UseCase, uri: str, ingested: dict[str, Any] | None = None, progress: bool = True
) -> dict[str, Any]:
    """Add labels to scenes of the store: `ingest --labels`, alone or after what `ingest --source` gave.

    The batch holds the scenes that got labels, so that validating it judges them again, and what the source brought.

    Args:
        store: Where to.
        usecase: Whose patterns, classes and `data.labels` say how to read them.
        uri: A folder or S3 prefix of rasters by scene id, a map, or a file of polygons.
        ingested: The result of the ingest before it, in the same call.
        progress: Whether to show a progress bar on stderr.

    Returns:
        The step's result: `batch`, `scenes` and `labels`; of these `waiting` are those whose scene is not there yet.

    Raises:
        UsageError: If the URI names no labels.
        DataRefused: If nothing was found, no scene is concerned, or everything was refused.
        TemporaryFailure: If a server does not answer.
    """
    scenes, labels, tally = ingest_labels(store, usecase, uri, progress)
    names, told_scenes, told_labels = [labels[0].source], Tally().as_json(), LabelTally().as_json()
    if ingested is not None:
        before = store.get_record(store.key(ingested["batch"]), Batch)
        names.insert(0, before.source)
        known = {scene.id for scene in before.scenes}
        scenes = [*before.scenes, *(scene for scene in scenes if scene.id not in known)]
        labels = [*before.labels, *(label for label in labels if label not in before.labels)]
        told_scenes, told_labels = ingested["scenes"], {**told_labels, **ingested["labels"]}
    told = {*told_scenes["added"], *told_scenes["present"]}
    present = [*told_scenes["present"], *(scene.id for scene in scenes if scene.id not in told)]
    batch = {"scenes": [scene.model_dump() for scene in scenes], "labels": [asdict(label) for label in labels]}
    name = json_digest(batch)[:SHORT]
    store.put_json_new(f"batches/{name}.json", {"batch": name, "source": "+".join(names), **batch})
    log.info(
        "labels: %d added, %d already there, %d refused; %d wait for their scenes",
        *(len(part) for part in (tally.added, tally.present, tally.refused, tally.waiting)),
    )
    return {
        "batch": store.resolve(f"batches/{name}.json"),
        "scenes": {**told_scenes, "present": present},
        "labels": _merged(told_labels, tally.as_json()),
    }


def ingest_labels(
    store: Store, usecase: UseCase, uri: str, progress: bool = True
) -> tuple[list[BatchScene], list[LabelKey], LabelTally]:
    """Bring labels into the store; the scenes they are of, the labels, and what became of each.

    Raises:
        UsageError: If the URI names no labels.
        DataRefused: If nothing was found, no scene is concerned, or everything was refused.
        TemporaryFailure: If a server does not answer.
    """
    source = LabelSource(uri)
    scenes = newest(list_scenes(store))
    with tempfile.TemporaryDirectory(prefix="terraloop-labels-") as name:
        folder = Path(name)
        if source.kind == "folder":
            found = _from_folder(store, usecase.data, source, scenes, folder, progress)
        else:
            with _layer(source, usecase.data, folder) as layer:
                found = _from_layer(store, source, layer, scenes, folder, progress)
    if not found.labels and found.tally.refused:
        first = next(iter(found.tally.refused.items()))
        raise DataRefused(
            f"all {len(found.tally.refused)} labels were refused; the first, {first[0]}: {first[1]}", where=source.where
        )
    if not found.labels:
        raise DataRefused(
            f"no scene of the store lies under it ({len(scenes)} are there)",
            where=source.where,
            fix="Ingest the scenes first, and check its CRS; a scene without a CRS takes rasters by its id only",
        )
    return found.scenes, found.labels, found.tally


def _from_folder(
    store: Store, data: DataSection, source: LabelSource, scenes: Sequence[Scene], folder: Path, progress: bool
) -> _Found:
    """Labels of rasters that bear their scenes' ids."""
    found = _Found()
    by_id = {scene.id: scene for scene in scenes}
    for file in _shown(source.files(data), progress):
        try:
            _require_id(file)
            scene = by_id.get(file.id)
            with tempfile.TemporaryDirectory(dir=folder) as workspace:
                path = north_up(file.fetch(Path(workspace)), file.where, Path(workspace), "label")
                grid = _grid_of(file, path, scene)
                found.keep(*keep_label(store, file.id, source.name, grid, path, file.where), scene)
        except DataRefused as refusal:
            found.refuse(file.id, refusal)
    return found


def _require_id(file: LabelFile) -> None:
    if not VALID_ID.fullmatch(file.id):
        raise DataRefused(
            f"{file.id[:128]!r} is no id: it holds letters, digits, '.', '_' and '-' only, at most 128",
            where=file.where,
            fix="Rename the file",
        )


def _grid_of(file: LabelFile, path: Path, scene: Scene | None) -> str:
    """The grid that a label lies on: its scene's, else its own.

    Raises:
        DataRefused: If it cannot be read, or lies on another grid than its scene.
    """
    with open_tiff(str(path), file.where) as label:
        if scene is None:
            return describe_grid(label)
        with open_tiff(scene.raster_path, scene.id) as image:
            difference = same_grid(image, label)
    if difference:
        raise DataRefused(
            f"the label does not fit its image: {difference}",
            where=file.where,
            fix="Bring the label on the image's grid, or give it as a map: --labels FILE",
        )
    return scene.grid


@contextmanager
def _layer(source: LabelSource, data: DataSection, folder: Path) -> Iterator[Layer]:
    """A map or polygons, open."""
    if source.kind == "polygons":
        yield Polygons(source.fetched(folder), data, source.where)
        return
    with open_tiff(source.raster_path(), source.where) as dataset:
        yield LandCover(dataset, data, source.where, source.remote)


def _from_layer(
    store: Store, source: LabelSource, layer: Layer, scenes: Sequence[Scene], folder: Path, progress: bool
) -> _Found:
    """Labels drawn on every scene that a map or polygons lie over."""
    found = _Found()
    near = [scene for scene in scenes if (grid := scene_grid(scene)) and lonlat_box(grid).overlaps(layer.box)]
    for scene in _shown(near, progress):
        path = folder / "label.tif"
        try:
            with open_tiff(scene.raster_path, scene.id) as image:
                drawn = layer.draw(image, path, scene.id)
            if drawn:
                found.keep(*keep_label(store, scene.id, source.name, scene.grid, path, source.where), scene)
        except DataRefused as refusal:
            found.refuse(scene.id, refusal)
    return found


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Two tallies as one, an id once in each list."""
    return {
        key: {**first[key], **value} if isinstance(value, dict) else list(dict.fromkeys([*first[key], *value]))
        for key, value in second.items()
    }


def _shown(things: Sequence[Thing], progress: bool) -> Iterable[Thing]:
    from tqdm import tqdm

    return tqdm(things, desc="labels", unit="scene", disable=not progress, mininterval=1.0)
