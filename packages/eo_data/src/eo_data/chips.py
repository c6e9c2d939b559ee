"""`chip`: accepted scenes with labels become a dataset (see `eo_data.dataset` for its layout)."""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eo_data.dataset import ChipRecord, Manifest, SceneRecord, Statistics
from eo_data.dataset_card import dataset_card
from eo_data.digests import json_digest
from eo_data.errors import DataRefused, UsageError
from eo_data.labels import read_label
from eo_data.provenance import git_commit
from eo_data.rasters import ImageRaster
from eo_data.scene import PIXELS, PLACE, SOURCE_SPLIT, Scene
from eo_data.split import Placement, place_chip, place_scene
from eo_data.statistics import RunningStatistics
from eo_data.store import Store
from eo_data.suite import suite_digest
from eo_data.tiling import Pixels, Valid
from eo_data.usecase import IGNORE, SPLITS, DataSection, UseCase
from eo_data.validate import Verdict, load_verdict, load_verdicts

log = logging.getLogger(__name__)

CHIP_FORMAT: Final = 1
"""Raised when chipping changes meaning: it enters the dataset digest."""

_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class Selection:
    """The scenes of a dataset, and how many were left out for want of a label or for being simulated."""

    verdicts: tuple[Verdict, ...]
    unlabelled: int
    simulated_left_out: int


def chip(store: Store, usecase: UseCase, verdicts: str, progress: bool = True) -> dict[str, Any]:
    """Cut every scene accepted so far under this use case and suite into a dataset.

    Args:
        store: Where scenes lie and the dataset goes.
        usecase: Whose bands, classes, chips and split.
        verdicts: URI of a batch's verdicts; that batch says whether simulated scenes take part.
        progress: Whether to show a progress bar on stderr.

    Returns:
        The step's result: `dataset`, `digest`, `chips`, `unlabelled`, `simulated`, `simulated_left_out`,
        `existing`.

    Raises:
        DataRefused: If no scene is left or a split is empty, naming it.
    """
    selection = select_scenes(store, usecase, verdicts)
    scenes = [Scene.load(store, verdict.scene) for verdict in selection.verdicts]
    records = [_scene_record(store, s, v, usecase.data) for s, v in zip(scenes, selection.verdicts, strict=True)]
    digest = dataset_digest(records, usecase.data)
    folder = f"datasets/{digest}"
    existing = store.exists(f"{folder}/manifest.json")
    if existing:
        log.info("chip: dataset %s is there already", digest[:12])
    else:
        _write(store, usecase, folder, digest, scenes, selection, records, progress)
    manifest = store.get_record(f"{folder}/manifest.json", Manifest)
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


def select_scenes(store: Store, usecase: UseCase, verdicts: str) -> Selection:
    """The newest accepted content of each scene with a label; simulated and real scenes never together.

    Where the newest batch has a real scene, simulated ones are left out and counted; else real ones are.

    Raises:
        UsageError: If the verdicts are of another use case or of other expectations than it has now.
        DataRefused: If there are no such verdicts, or no scene is left.
    """
    summary = load_verdicts(store, verdicts)
    if (summary.usecase, summary.suite) != (usecase.name, suite_digest(usecase.data)):
        raise UsageError(
            f"these verdicts are not of use case '{usecase.name}' as it is now", where=verdicts, fix="Validate again"
        )
    batch = [load_verdict(store, key) for key in summary.verdicts.values()]
    simulated = all(verdict.simulated for verdict in batch)
    found = [
        load_verdict(store, k)
        for k in store.list(f"verdicts/{summary.usecase}/{summary.suite}")
        if "/batches/" not in k
    ]
    accepted = [verdict for verdict in found if verdict.accepted]
    contents: dict[str, list[Verdict]] = {}
    for verdict in accepted:
        if verdict.simulated == simulated:
            contents.setdefault(verdict.id, []).append(verdict)
    in_batch = {(verdict.scene, verdict.label) for verdict in batch}
    chosen = {id_: _newest(store, verdicts_, in_batch) for id_, verdicts_ in contents.items()}
    labelled = tuple(chosen[id_] for id_ in sorted(chosen) if chosen[id_].label is not None)
    left_out = len({v.id for v in accepted if v.simulated}) if not simulated else 0
    if not labelled:
        raise DataRefused(
            f"no accepted scene has a label ({len(chosen)} accepted)", where=verdicts, fix="Ingest labelled scenes"
        )
    return Selection(labelled, len(chosen) - len(labelled), left_out)


def _newest(store: Store, verdicts: Sequence[Verdict], in_batch: set[tuple[str, str | None]]) -> Verdict:
    """Of several contents of one scene that of the newest batch, else the labelled one that came last."""
    if len(verdicts) == 1:
        return verdicts[0]

    def order(verdict: Verdict) -> tuple[bool, bool, str, str, str, str]:
        created = str(Scene.load(store, verdict.scene).properties.get("created"))
        labelled = "" if verdict.label is None else str(_label_record(store, verdict.label).get("created"))
        newest_batch = (verdict.scene, verdict.label) in in_batch
        return newest_batch, verdict.label is not None, created, labelled, verdict.scene, verdict.label or ""

    return max(verdicts, key=order)


def _label_record(store: Store, label: str) -> dict[str, Any]:
    return store.get_json(label.rsplit("/", 1)[0] + "/label.json")


def dataset_digest(records: Sequence[SceneRecord], data: DataSection) -> str:
    """The digest of design 4.2; where scenes lie does not enter, nor the commit."""
    scenes = [record.model_dump(mode="json", exclude={"uri", "collection", "simulated"}) for record in records]
    return json_digest({"scenes": scenes, "data": data.model_dump(mode="json"), "chip_format": CHIP_FORMAT})


def _scene_record(store: Store, scene: Scene, verdict: Verdict, data: DataSection) -> SceneRecord:
    assert verdict.label is not None  # noqa: S101 - `select_scenes` keeps labelled ones
    label = _label_record(store, verdict.label)
    with scene.image(data) as image:
        radiometry, bands = image.radiometry, image.indexes
    return SceneRecord(
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


def _write(
    store: Store,
    usecase: UseCase,
    folder: str,
    digest: str,
    scenes: Sequence[Scene],
    selection: Selection,
    records: Sequence[SceneRecord],
    progress: bool,
) -> None:
    from tqdm import tqdm

    data = usecase.data
    chips: list[ChipRecord] = []
    dropped: Counter[str] = Counter()
    statistics = RunningStatistics(len(data.inputs), len(data.classes))
    pairs = list(zip(scenes, selection.verdicts, strict=True))
    for scene, verdict in tqdm(pairs, desc="chip", unit="scene", disable=not progress, mininterval=1.0):
        label = read_label(store.raster_path(str(verdict.label)), data, scene.id)
        with scene.image(data) as image:
            cut, images, labels = _cut(scene, image, label, data, dropped)
        if not cut:
            continue
        store.put_new(f"{folder}/chips/{scene.id}.images.npy", _npy(np.stack(images)))
        store.put_new(f"{folder}/chips/{scene.id}.labels.npy", _npy(np.stack(labels)))
        for record, chip_image, chip_label in zip(cut, images, labels, strict=True):
            chips.append(record)
            if record.split == "train":
                statistics.update(chip_image, chip_label)
    counts = Counter(record.split for record in chips)
    for split in SPLITS:
        if not counts[split]:
            raise DataRefused(
                f"the split '{split}' is empty ({dict(counts)}, left out: {dict(dropped)})",
                where=f"{len(scenes)} scenes",
                fix="Bring scenes of more places, or smaller cells or other fractions in data.split",
            )
    manifest = Manifest(
        digest=digest,
        chip_format=CHIP_FORMAT,
        usecase=usecase.name,
        usecase_data_digest=usecase.digest("data"),
        bands=tuple(band.name for band in data.input_bands),
        classes=tuple(definition.name for definition in data.classes),
        chip_size=data.chip.size,
        scenes=tuple(records),
        chips=tuple(chips),
        dropped=dict(sorted(dropped.items())),
        git_commit=git_commit(),
    )
    measured: Statistics = statistics.result()
    store.put_json_new(f"{folder}/statistics.json", measured.model_dump(mode="json"))
    store.put_new(f"{folder}/card.md", dataset_card(manifest, measured, usecase).encode())
    store.put_json_new(f"{folder}/manifest.json", manifest.model_dump(mode="json"))


def _cut(
    scene: Scene, image: ImageRaster, label: NDArray[np.uint8], data: DataSection, dropped: Counter[str]
) -> tuple[list[ChipRecord], list[NDArray[np.int16]], list[NDArray[np.uint8]]]:
    """The chips of one scene, a row of chips decoded at a time; every pixel is in one chip at most."""
    size, rule = data.chip.size, data.split
    height, width = image.shape
    whole = None
    if image.geobox is None:
        whole = place_scene(rule, scene.id, scene.properties.get(PLACE), scene.properties.get(SOURCE_SPLIT))
    records: list[ChipRecord] = []
    images: list[NDArray[np.int16]] = []
    labels: list[NDArray[np.uint8]] = []
    for top in range(0, height, size):
        rows = min(size, height - top)
        pixels, valid = image.read(top, 0, rows, width)
        for left in range(0, width, size):
            part = np.s_[:, left : left + size]
            chip_image, chip_label = _pad(
                pixels[:, :, left : left + size], valid[part], label[top : top + rows][part], size
            )
            scored = chip_label != IGNORE
            if scored.mean() < max(data.chip.min_valid_fraction, 1 / scored.size):
                dropped["too few scored pixels"] += 1
                continue
            placement: Placement | None = whole
            if image.geobox is not None:
                placement = place_chip(rule, image.geobox[top : top + rows, left : min(left + size, width)])
            if placement is None:
                dropped["on the border of two splits"] += 1
                continue
            records.append(
                ChipRecord(
                    scene=scene.id,
                    shard=scene.id,
                    index=len(images),
                    top=top,
                    left=left,
                    split=placement.split,
                    cell=placement.cell,
                    valid_fraction=round(float(scored.mean()), 6),
                    class_counts=tuple(int((chip_label == k).sum()) for k in range(len(data.classes))),
                )
            )
            images.append(chip_image)
            labels.append(chip_label)
    return records, images, labels


def _pad(
    pixels: Pixels, valid: Valid, label: NDArray[np.uint8], size: int
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """A chip of full size: int16 reflectance x 10000, 0 without data; labels 255 where either has none."""
    bands, rows, columns = pixels.shape
    image = np.zeros((bands, size, size), dtype=np.int16)
    image[:, :rows, :columns] = np.clip(np.rint(pixels), _INT16.min, _INT16.max).astype(np.int16)
    padded = np.full((size, size), IGNORE, dtype=np.uint8)
    padded[:rows, :columns] = np.where(valid, label, np.uint8(IGNORE))
    return image, padded


def _npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
