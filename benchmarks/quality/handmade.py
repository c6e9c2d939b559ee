"""A dataset written by hand, in the documented layout: for splits that the `chip` step does not make."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_data.dataset import ChipRecord, Dataset, Manifest
from eo_data.digests import json_digest, sha256
from eo_data.statistics import RunningStatistics
from eo_data.store import Store
from eo_data.usecase import Split, UseCase


@dataclass(frozen=True)
class Piece:
    """One chip.

    Attributes:
        name: Of its own.
        split: Its side.
        cell: The place that it lies in.
        image: int16 `[bands, size, size]`, reflectance x 10000, 0 without data.
        label: uint8 `[size, size]`, class index, 255 not scored.
    """

    name: str
    split: Split
    cell: str
    image: NDArray[np.int16]
    label: NDArray[np.uint8]


def write_dataset(store: Store, usecase: UseCase, pieces: Sequence[Piece]) -> Dataset:
    """Write chips as a dataset of the store; equal chips under equal names give an equal digest.

    Args:
        store: Where it goes.
        usecase: Whose bands and classes the chips have.
        pieces: Those of the training split also give the statistics.
    """
    digest = json_digest([[p.name, p.split, sha256(p.image.tobytes()), sha256(p.label.tobytes())] for p in pieces])
    folder = f"datasets/{digest}"
    classes = range(len(usecase.data.classes))
    statistics = RunningStatistics(len(usecase.data.inputs), len(classes))
    chips = []
    for piece in pieces:
        store.put_new(f"{folder}/chips/{piece.name}.images.npy", _npy(piece.image[None]))
        store.put_new(f"{folder}/chips/{piece.name}.labels.npy", _npy(piece.label[None]))
        counts = tuple(int((piece.label == k).sum()) for k in classes)
        chips.append(
            ChipRecord(
                scene=piece.name,
                shard=piece.name,
                index=0,
                top=0,
                left=0,
                split=piece.split,
                cell=piece.cell,
                valid_fraction=round(sum(counts) / piece.label.size, 6),
                class_counts=counts,
            )
        )
        if piece.split == "train":
            statistics.update(piece.image, piece.label)
    manifest = Manifest(
        digest=digest,
        chip_format=1,
        usecase=usecase.name,
        usecase_data_digest=usecase.digest("data"),
        bands=tuple(band.name for band in usecase.data.input_bands),
        classes=tuple(definition.name for definition in usecase.data.classes),
        chip_size=pieces[0].label.shape[0],
        scenes=(),
        chips=tuple(chips),
        dropped={},
        git_commit=None,
    )
    store.put_json_new(f"{folder}/statistics.json", statistics.result().model_dump(mode="json"))
    store.put_json_new(f"{folder}/manifest.json", manifest.model_dump(mode="json"))
    return Dataset(store, folder)


def _npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
