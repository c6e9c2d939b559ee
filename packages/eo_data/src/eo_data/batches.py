"""Batches: what one ingest brought, and which label goes with which scene.

A label belongs to a scene by id and grid, whichever of the two came first: a scene reissued on another grid has none
of its old labels.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict

from eo_data.digests import SHORT, json_digest
from eo_data.errors import DataRefused, UsageError
from eo_data.features import LabelKey
from eo_data.rasters import open_tiff, same_grid
from eo_data.scene import Scene, list_scenes, newest
from eo_data.store import Store

log = logging.getLogger(__name__)

Pair = tuple[Scene, LabelKey | None]
"""A scene with the label that it is judged with; None where there is none."""


class BatchScene(BaseModel):
    """A scene of a batch: `scenes/<collection>/<id>/<content>/`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    collection: str
    id: str
    content: str


class Batch(BaseModel):
    """`batches/<batch>.json`: what one ingest brought or found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: str
    source: str
    scenes: tuple[BatchScene, ...]
    labels: tuple[LabelKey, ...]


def pairs_of_batch(store: Store, uri: str) -> tuple[list[Pair], str]:
    """The scenes of a batch with their labels, and the name of their verdicts.

    A scene's label is the last of the batch's that fits it, else the newest of the store's that does. The name is
    the batch's, with a digest of the pairs behind it where a label came from elsewhere: it may have come later.

    Raises:
        DataRefused: If there is no such batch, or its labels still wait for their scenes.
    """
    batch = store.get_record(store.key(uri), Batch)
    if not batch.scenes:
        raise DataRefused(
            f"the batch holds no scene: its {len(batch.labels)} labels wait for theirs",
            where=uri,
            fix="Ingest the scenes, then validate their batch: it takes these labels",
        )
    scenes = [Scene.load(store, f"scenes/{entry.collection}/{entry.id}/{entry.content}") for entry in batch.scenes]
    own = _by_id(batch.labels)
    pairs: list[Pair] = [(scene, _last_fitting(store, scene, own.get(scene.id, []))) for scene in scenes]
    if all(label for _, label in pairs):
        return pairs, batch.batch
    kept = _kept(store, [scene.id for scene, label in pairs if label is None])
    complete = [(scene, label or _newest_fitting(store, scene, kept.get(scene.id, []))) for scene, label in pairs]
    return complete, batch.batch if complete == pairs else f"{batch.batch}-{_pairs_digest(complete)}"


def pairs_of_store(store: Store, ids: Sequence[str] = ()) -> tuple[list[Pair], str]:
    """The newest content of the scenes named, or of all, with the newest label that fits; a name for their verdicts.

    Raises:
        DataRefused: If a scene named is not there.
        UsageError: If the store holds none at all.
    """
    scenes = newest(list_scenes(store))
    missing = sorted(set(ids) - {scene.id for scene in scenes})
    if missing:
        raise DataRefused(f"there is no scene '{missing[0]}'", where=store.uri, fix="Ingest it first")
    if ids:
        scenes = [scene for scene in scenes if scene.id in ids]
    if not scenes:
        raise UsageError("the store holds no scene", where=store.uri, fix="Ingest some first")
    kept = _kept(store, [scene.id for scene in scenes])
    pairs = [(scene, _newest_fitting(store, scene, kept.get(scene.id, []))) for scene in scenes]
    return pairs, _pairs_digest(pairs)


def _pairs_digest(pairs: Sequence[Pair]) -> str:
    return json_digest([[scene.key, label.key if label else None] for scene, label in pairs])[:SHORT]


def _by_id(labels: Iterable[LabelKey]) -> dict[str, list[LabelKey]]:
    found: dict[str, list[LabelKey]] = {}
    for label in labels:
        found.setdefault(label.id, []).append(label)
    return found


def _kept(store: Store, ids: Iterable[str]) -> dict[str, list[LabelKey]]:
    """The labels that the store holds for these ids."""
    wanted = set(ids)
    parts = [key.split("/") for key in store.list("labels") if key.endswith("/label.json")]
    return _by_id(LabelKey(*part[1:4]) for part in parts if part[1] in wanted)


def _last_fitting(store: Store, scene: Scene, labels: Sequence[LabelKey]) -> LabelKey | None:
    return next((label for label in reversed(labels) if _fits(store, scene, label)), None)


def _newest_fitting(store: Store, scene: Scene, labels: Sequence[LabelKey]) -> LabelKey | None:
    """The label that came last of those that lie on the scene's grid."""
    ordered = labels
    if len(labels) > 1:
        ordered = sorted(labels, key=lambda label: (str(store.get_json(label.record).get("created")), label.key))
    found = _last_fitting(store, scene, ordered)
    if labels and found is None:
        log.warning("%s: its %d labels lie on another grid; it is judged without", scene.id, len(labels))
    return found


def _fits(store: Store, scene: Scene, label: LabelKey) -> bool:
    """Whether a label lies on a scene's grid: by what is recorded, else by what both files say.

    A label that came before its scene may name the same grid in other words: its writer rounds otherwise.
    """
    if store.get_json(label.record).get("grid") == scene.grid:
        return True
    with (
        open_tiff(scene.raster_path, scene.id) as image,
        open_tiff(store.raster_path(label.key), label.key) as raster,
    ):
        return same_grid(image, raster) is None
