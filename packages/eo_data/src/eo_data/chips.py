"""`chip`: accepted scenes with labels become a dataset (see `eo_data.dataset` for its layout)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from odc.geo.geobox import GeoBox

from eo_data.cutting import CutPart, Part, cut_part, plan_rows
from eo_data.dataset import ChipRecord, Manifest, SceneRecord, Statistics
from eo_data.dataset_card import dataset_card
from eo_data.digests import json_digest
from eo_data.errors import DataRefused
from eo_data.provenance import git_commit
from eo_data.references import write_reference
from eo_data.scale import workers
from eo_data.scene import PIXELS, PLACE, SOURCE_SPLIT, Scene
from eo_data.selection import label_record, select_scenes
from eo_data.split_map import Footprints, split_map
from eo_data.statistics import RunningStatistics
from eo_data.store import Store
from eo_data.usecase import SPLITS, DataSection, UseCase
from eo_data.validate import Verdict

log = logging.getLogger(__name__)

CHIP_FORMAT: Final = 2
"""Raised when chipping changes meaning: it enters the dataset digest."""


@dataclass(frozen=True)
class _Source:
    """A scene that takes part: its record, its grid, and its parts but for the folder they go to."""

    record: SceneRecord
    geobox: GeoBox | None
    parts: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class _Chipped:
    """All that cutting gave, in the order of scenes and parts."""

    chips: tuple[ChipRecord, ...]
    left_out: dict[str, tuple[tuple[int, int, str], ...]]
    statistics: RunningStatistics


def chip(
    store: Store,
    usecase: UseCase,
    verdicts: str | None = None,
    *,
    ids: Collection[str] = (),
    dask: str | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Cut scenes accepted under this use case and suite into a dataset.

    Args:
        store: Where scenes lie and the dataset goes.
        usecase: Whose bands, classes, chips and split.
        verdicts: URI of a batch's verdicts: all scenes accepted so far, simulated or real as that batch is.
        ids: The scenes to take; without these and `verdicts` all, simulated ones only where there are no others.
        dask: Where parts are cut (see `eo_data.scale.workers`); the dataset is the same everywhere.
        progress: Whether to show a progress bar on stderr.

    Returns:
        The step's result: `dataset`, `digest`, `chips`, `unlabelled`, `simulated`, `simulated_left_out`,
        `existing`.

    Raises:
        DataRefused: If no scene is left or a split is empty, naming it.
        TemporaryFailure: If store or cluster are out of reach; nothing half-made is visible, and the same call goes on.
    """
    selection = select_scenes(store, usecase, verdicts, ids)
    sources = [_source(store, verdict, usecase.data) for verdict in selection.verdicts]
    digest = dataset_digest([source.record for source in sources], usecase.data)
    folder = f"datasets/{digest}"
    existing = store.exists(f"{folder}/manifest.json")
    if existing:
        log.info("chip: dataset %s is there already", digest[:12])
    else:
        chipped = _cut(store, folder, sources, usecase.data, dask, progress)
        _require_every_split(chipped, len(sources))
        _write(store, usecase, folder, digest, sources, chipped)
    manifest = store.get_record(f"{folder}/manifest.json", Manifest)
    learned = {record.scene for record in manifest.chips if record.split == "train"}
    rows = [verdict.features for verdict in selection.verdicts if verdict.id in learned]
    write_reference(store, usecase, digest, rows)  # again where the manifest's writer was stopped before it
    counts = Counter(record.split for record in manifest.chips)
    log.info("chip: %s", ", ".join(f"{counts[split]} {split}" for split in SPLITS))
    return {
        "dataset": store.resolve(folder),
        "digest": digest,
        "chips": {split: counts[split] for split in SPLITS},
        "unlabelled": selection.unlabelled,
        "simulated": all(scene.simulated for scene in manifest.scenes),
        "simulated_left_out": selection.simulated_left_out,
        "existing": existing,
    }


def dataset_digest(records: Sequence[SceneRecord], data: DataSection) -> str:
    """The digest of design 4.2; where scenes lie does not enter, nor the commit."""
    scenes = [record.model_dump(mode="json", exclude={"uri", "collection", "simulated"}) for record in records]
    return json_digest({"scenes": scenes, "data": data.model_dump(mode="json"), "chip_format": CHIP_FORMAT})


def _source(store: Store, verdict: Verdict, data: DataSection) -> _Source:
    assert verdict.label is not None  # noqa: S101 - `select_scenes` keeps labelled ones
    scene, label = Scene.load(store, verdict.scene), label_record(store, verdict.label)
    with scene.image(data) as image:
        radiometry, bands, geobox = image.radiometry, image.indexes, image.geobox
        rows = plan_rows(image.shape, image.blocks, data.chip.size, len(bands))
    record = SceneRecord(
        id=scene.id,
        uri=scene.uri,
        collection=scene.collection,
        pixels=scene.properties[PIXELS],
        label=label["pixels"],
        grid=scene.grid,
        radiometry=f"{radiometry} nodata={radiometry.nodata}",
        bands=bands,
        place=scene.properties.get(PLACE),
        source_split=scene.properties.get(SOURCE_SPLIT),
        simulated=scene.simulated,
    )
    shared = {"scene": verdict.scene, "label": verdict.label, "window": rows.window, "aligned": rows.aligned}
    parts = tuple({**shared, "top": top, "bottom": bottom} for top, bottom in rows.bounds)
    return _Source(record, geobox, parts)


def _cut(
    store: Store, folder: str, sources: Sequence[_Source], data: DataSection, dask: str | None, progress: bool
) -> _Chipped:
    from tqdm import tqdm

    parts = [Part(store=store, folder=folder, data=data, **part) for source in sources for part in source.parts]
    ids = [source.record.id for source in sources for _ in source.parts]
    chips: list[ChipRecord] = []
    left_out: dict[str, tuple[tuple[int, int, str], ...]] = {}
    statistics = RunningStatistics(len(data.inputs), len(data.classes))
    with (
        workers(dask) as run,
        tqdm(total=len(parts), desc="chip", unit="part", disable=not progress, mininterval=1.0) as bar,
    ):
        cut: CutPart
        for id_, cut in zip(ids, run(cut_part, parts), strict=True):
            chips += cut.chips
            left_out[id_] = (*left_out.get(id_, ()), *cut.left_out)
            statistics.merge(cut.statistics)
            bar.update()
    return _Chipped(tuple(chips), left_out, statistics)


def _require_every_split(chipped: _Chipped, scenes: int) -> None:
    counts = Counter(record.split for record in chipped.chips)
    for split in SPLITS:
        if not counts[split]:
            raise DataRefused(
                f"the split '{split}' is empty ({dict(counts)}, left out: {_dropped(chipped)})",
                where=f"{scenes} scenes",
                fix="Bring scenes of more places, or smaller chips, or other cells or fractions in data.split",
            )


def _dropped(chipped: _Chipped) -> dict[str, int]:
    return dict(sorted(Counter(reason for places in chipped.left_out.values() for *_, reason in places).items()))


def _write(
    store: Store, usecase: UseCase, folder: str, digest: str, sources: Sequence[_Source], chipped: _Chipped
) -> None:
    """Statistics, card and map, and the manifest, which makes the dataset visible, last."""
    data = usecase.data
    manifest = Manifest(
        digest=digest,
        chip_format=CHIP_FORMAT,
        usecase=usecase.name,
        usecase_data_digest=usecase.digest("data"),
        bands=tuple(band.name for band in data.input_bands),
        classes=tuple(definition.name for definition in data.classes),
        chip_size=data.chip.size,
        scenes=tuple(source.record for source in sources),
        chips=chipped.chips,
        dropped=_dropped(chipped),
        git_commit=git_commit(),
    )
    measured: Statistics = chipped.statistics.result()
    grids = {source.record.id: source.geobox for source in sources if source.geobox is not None}
    picture = split_map(manifest, Footprints.of(manifest, grids, chipped.left_out))
    store.put_json_new(f"{folder}/statistics.json", measured.model_dump(mode="json"))
    store.put_new(f"{folder}/map.png", picture)
    store.put_new(f"{folder}/card.md", dataset_card(manifest, measured, usecase).encode())
    store.put_json_new(f"{folder}/manifest.json", manifest.model_dump(mode="json"))
