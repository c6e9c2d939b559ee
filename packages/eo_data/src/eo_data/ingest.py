"""`ingest`: candidates of a source become scenes and labels of the store; what is unreadable is refused by name."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from eo_data.decoding import Decoded
from eo_data.digests import SHORT, json_digest
from eo_data.errors import DataRefused
from eo_data.features import LabelKey
from eo_data.georeference import north_up
from eo_data.items import KEPT, describe_grid, make_item
from eo_data.label_store import label_content, measure_label
from eo_data.rasters import open_tiff, same_grid
from eo_data.scene import GRID, PIXELS, PLACE, SOURCE_SPLIT, Scene
from eo_data.sources import open_source
from eo_data.sources.candidate import VALID_ID, Candidate, Fetched, Source
from eo_data.store import Store
from eo_data.usecase import UseCase

log = logging.getLogger(__name__)

Record = dict[str, Any]


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


def ingest(
    store: Store,
    usecase: UseCase,
    source: str,
    progress: bool = True,
    *,
    bbox: tuple[float, float, float, float] | None = None,
    datetime: str | None = None,
    collections: Sequence[str] = (),
    limit: int | None = None,
) -> dict[str, Any]:
    """Bring the scenes and labels of a source into the store.

    A pair is stored whole or not at all. What was stored under the fingerprint that the source gives it now is not
    read again, so that a run goes on where an earlier one was ended. The batch holds everything that the source
    offers and that is in the store now: a second call gives the same batch.

    Args:
        store: Where to.
        usecase: Whose lists and patterns find the pairs.
        source: URI of the source (see `open_source`, also for the rest).
        progress: Whether to show a progress bar on stderr.
        bbox: Only scenes that touch this area.
        datetime: Only scenes of this time.
        collections: Only scenes of these collections.
        limit: The most scenes.

    Returns:
        The step's result: `batch`, `scenes` and `labels`.

    Raises:
        DataRefused: If the source offers nothing, or everything was refused.
        UsageError: If there is no such source.
        TemporaryFailure: If the source or the store is out of reach, or full; what was stored stays.
    """
    origin = open_source(source, usecase.data, bbox=bbox, datetime=datetime, collections=collections, limit=limit)
    scenes, labels = Tally(), Tally()
    batch: dict[str, list[Record]] = {"scenes": [], "labels": []}
    marks = set(store.list("sources"))
    for candidate in _shown(origin.candidates(), progress):
        try:
            brought = _present(store, candidate, marks) or _bring(store, origin, candidate)
        except DataRefused as refusal:
            scenes.refused[candidate.id] = f"{refusal}"
            log.warning("refused %s: %s", candidate.id, refusal)
            continue
        scenes.count(candidate.id, new=brought.new_scene)
        batch["scenes"].append(brought.scene)
        if brought.label is not None:
            labels.count(candidate.id, new=brought.new_label)
            batch["labels"].append(brought.label)
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


class _SceneRecord(BaseModel):
    collection: str
    id: str
    content: str


class _LabelRecord(BaseModel):
    id: str
    source: str
    content: str


class _Mark(BaseModel):
    """`sources/<fingerprint>.json`: what was stored of a candidate."""

    scene: _SceneRecord
    label: _LabelRecord | None


@dataclass(frozen=True)
class _Brought:
    """A candidate that is in the store now: the batch's records of scene and label, and which of them are new."""

    scene: Record
    label: Record | None
    new_scene: bool = False
    new_label: bool = False


def _present(store: Store, candidate: Candidate, marks: set[str]) -> _Brought | None:
    """What an earlier run stored under the candidate's fingerprint; None where it must be fetched."""
    mark = f"sources/{candidate.fingerprint}.json"
    if candidate.fault is not None or mark not in marks:
        return None
    known = store.get_record(mark, _Mark)
    needed = [f"scenes/{known.scene.collection}/{known.scene.id}/{known.scene.content}/item.json"]
    if known.label is not None:
        needed.append(f"labels/{known.label.id}/{known.label.source}/{known.label.content}/label.json")
    if not all(store.exists(key) for key in needed):
        return None
    return _Brought(known.scene.model_dump(), None if known.label is None else known.label.model_dump())


def _bring(store: Store, source: Source, candidate: Candidate) -> _Brought:
    """Fetch one candidate, judge it and store it with its label."""
    if candidate.fault is not None:
        raise candidate.fault
    for name, noun, fix in ((candidate.id, "id", "Rename the file"), (candidate.collection, "collection", "Rename it")):
        if not VALID_ID.fullmatch(name):
            raise DataRefused(
                f"{name[:128]!r} is no {noun}: it holds letters, digits, '.', '_' and '-' only, at most 128",
                where=candidate.where,
                fix=fix,
            )
    with tempfile.TemporaryDirectory(prefix="terraloop-ingest-") as folder:
        (Path(folder) / "fetched").mkdir()
        fetched = source.fetch(candidate, Path(folder) / "fetched")
        candidate = replace(candidate, item=fetched.item)
        before = _stamps(fetched)
        upright = Fetched(
            north_up(fetched.image, candidate.where, Path(folder), "image"),
            fetched.label and north_up(fetched.label, str(candidate.label), Path(folder), "label"),
            fetched.item,
        )
        with open_tiff(str(upright.image), candidate.where) as dataset:
            label = None if upright.label is None else _read_label(dataset, upright.label, str(candidate.label))
            item = make_item(candidate, dataset, _digest(dataset, candidate.where))
        if _stamps(fetched) != before:
            raise DataRefused("the files changed while they were read", where=candidate.where, fix="Run the step again")
        return _put(store, source.name, candidate, upright, item, label)


def _stamps(fetched: Fetched) -> list[tuple[int, int] | None]:
    """What changes when someone writes to a candidate's files, or takes them away."""
    stamps: list[tuple[int, int] | None] = []
    for path in (fetched.image, fetched.label):
        facts = path.stat() if path is not None and path.exists() else None
        stamps.append(None if facts is None else (facts.st_size, facts.st_mtime_ns))
    return stamps


def _digest(dataset: Any, where: str) -> str:
    decoded = Decoded(dataset, where)
    for _ in decoded:
        pass
    return decoded.digest()


def _read_label(image: Any, path: Path, where: str) -> Record:
    """A label's content hash, digest and values, in one pass."""
    with open_tiff(str(path), where) as dataset:
        difference = same_grid(image, dataset)
        if difference:
            raise DataRefused(
                f"the label does not fit its image: {difference}",
                where=where,
                fix="Bring the label on the image's grid",
            )
        pixels, values = measure_label(dataset, where)
        content = label_content(pixels, describe_grid(image), dataset.nodata)
        return {"content": content, "pixels": pixels, "values": values}


def _put(
    store: Store, source: str, candidate: Candidate, files: Fetched, item: Record, label: Record | None
) -> _Brought:
    """Store a judged pair: rasters first, then what makes them visible, the label's before the scene's."""
    properties, said = item["properties"], (candidate.item or {}).get("properties", {})
    identity = {
        "pixels": properties[PIXELS],
        "grid": properties[GRID],
        "asset": {k: v for k, v in item["assets"]["image"].items() if k != "href"},
        "place": [properties.get(PLACE), properties.get(SOURCE_SPLIT)],
        # As the source says it: an item that is corrected makes another content.
        "said": {key: value for key, value in said.items() if key in KEPT and value is not None},
    }
    scene = Scene(store, candidate.collection, candidate.id, json_digest(identity)[:SHORT], item)
    scene_record = {"collection": scene.collection, "id": scene.id, "content": scene.content}
    store.put_new(f"{scene.key}/image.tif", files.image)
    label_record, new_label = None, False
    if label is not None and files.label is not None:
        key = LabelKey(candidate.id, source, label["content"])
        label_record = asdict(key)
        store.put_new(key.key, files.label)
        told = {**label_record, **label, "grid": properties[GRID], "created": properties["created"]}
        new_label = store.put_json_new(key.record, told)
    new_scene = store.put_json_new(f"{scene.key}/item.json", item)
    if candidate.fingerprint is not None:  # last: it says that all of this is there
        mark = {"scene": scene_record, "label": label_record}
        store.put_json_new(f"sources/{candidate.fingerprint}.json", mark)
    return _Brought(scene_record, label_record, new_scene, new_label)
