"""Whether a dataset can be learned from, and is still what its manifest says: looked at before anything is trained."""

from __future__ import annotations

import numpy as np

from eo_data.dataset import ChipRecord, Dataset
from eo_data.errors import DataRefused
from eo_data.usecase import IGNORE


def require_learnable(dataset: Dataset) -> None:
    """Refuse a dataset that nothing can be learned from: by its manifest alone.

    Raises:
        DataRefused: If the training or validation split has no chip or no scored pixel, or training labels hold one
            class alone.
    """
    for split in ("train", "validation"):
        chips = dataset.chips(split)
        if not chips:
            raise DataRefused(
                f"the {split} split has no chip", where=dataset.uri, fix="Bring more scenes, then run chip again"
            )
        if not any(sum(chip.class_counts) for chip in chips):
            raise DataRefused(
                f"every label of the {split} split is ignored",
                where=dataset.uri,
                fix="Look at data.classes and data.ignore_label_values, or bring other labels",
            )
    counts = np.sum([chip.class_counts for chip in dataset.chips("train")], axis=0)
    present = [name for name, number in zip(dataset.manifest.classes, counts, strict=True) if number]
    if len(present) == 1:
        raise DataRefused(
            f"the training labels hold {present[0]} alone: there is nothing to tell apart",
            where=dataset.uri,
            fix=f"Bring scenes with {' or '.join(n for n in dataset.manifest.classes if n not in present)} as well",
        )


def require_intact(dataset: Dataset) -> None:
    """Refuse a dataset that is not what its digest stands for, as far as what it says of itself shows.

    The digest is of the scenes, which are elsewhere. Chips are held against the manifest's counts per class, and the
    training chips' mean against the statistics; the manifest's digest against the folder's name. One pass over both
    splits.

    Raises:
        DataRefused: Naming the chips that differ.
    """
    named = dataset.uri.rsplit("/", 1)[-1]
    if named != dataset.digest:
        raise _changed(f"the manifest's digest is {dataset.digest[:12]}, the folder's {named[:12]}", dataset.uri)
    bands, size = len(dataset.manifest.bands), dataset.manifest.chip_size
    shape = (bands, size, size)
    sums = np.zeros(bands, dtype=np.int64)
    for chip in dataset.chips("train", "validation"):
        where = f"{dataset.uri}/chips/{chip.shard}"
        try:
            image, label = dataset.read(chip)
        except (OSError, ValueError, EOFError, IndexError) as error:
            raise _changed(f"chip {chip.index} cannot be read ({error})", where) from error
        if image.shape != shape or label.shape != shape[1:]:
            raise _changed(f"chip {chip.index} has the shape {image.shape}, not {shape}", where)
        _require_labels(chip, np.bincount(np.asarray(label).ravel(), minlength=IGNORE + 1), where)
        if chip.split == "train":
            sums += image.sum(axis=(1, 2), dtype=np.int64)  # pixels without data are 0
    means = [round(int(total) / dataset.statistics.pixels, 4) for total in sums]
    counts = tuple(int(n) for n in np.sum([chip.class_counts for chip in dataset.chips("train")], axis=0))
    if counts != dataset.statistics.class_counts or means != list(dataset.statistics.mean):
        raise _changed("statistics.json is not of these training chips", dataset.uri)


def _require_labels(chip: ChipRecord, found: np.typing.NDArray[np.int64], where: str) -> None:
    """Refuse a label with other classes than there are, or other pixels of them than the manifest counts."""
    classes = len(chip.class_counts)
    strange = [value for value in range(classes, IGNORE) if found[value]]
    if strange:
        raise DataRefused(
            f"the label of chip {chip.index} holds {strange[0]}, which is none of the {classes} classes",
            where=where,
            fix="Make the dataset anew: remove its folder and run chip again",
        )
    if tuple(int(number) for number in found[:classes]) != chip.class_counts:
        raise _changed(f"the label of chip {chip.index} has other pixels per class than the manifest", where)


def _changed(what: str, where: str) -> DataRefused:
    return DataRefused(
        f"the dataset is not what it was made as: {what}",
        where=where,
        fix="Remove its folder and run chip again",
    )
