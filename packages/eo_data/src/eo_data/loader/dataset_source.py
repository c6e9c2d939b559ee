"""Loading from a dataset's shards: chips that were decoded once, gathered straight from mapped memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eo_data.dataset import ChipRecord, Dataset
from eo_data.errors import DataRefused
from eo_data.loader.chip_list import Block, ChipList
from eo_data.loader.sources import Cut, CutAt, Readers, Task
from eo_data.tiling import Valid
from eo_data.usecase import Split

RUN: Final = 8
"""Chips that lie one after the other in a shard and are alike; they make a block."""

_ALL_VALID: Final = 1
"""Remembered of a chip once it was seen: it need not be looked through again."""


class DatasetSource:
    """The chips of a dataset, as a loader reads them.

    A pixel has data where a band is not 0 (`eo_data.dataset.model_input`).

    Args:
        dataset: The dataset.
        splits: Which of its splits; all without one.

    Attributes:
        records: The chips of these splits, in the order of `chips`.
    """

    def __init__(self, dataset: Dataset, *splits: Split) -> None:
        self.records: Sequence[ChipRecord] = dataset.chips(*splits)
        self._dataset = dataset
        self._shards = sorted({record.shard for record in self.records})
        self._size = dataset.manifest.chip_size
        lengths = dict.fromkeys(self._shards, 0)
        for record in self.records:
            lengths[record.shard] = max(lengths[record.shard], record.index + 1)
        self._known = [np.zeros(lengths[shard], dtype=np.uint8) for shard in self._shards]

    @property
    def chips(self) -> ChipList:
        """All chips, in the order of `records`; a shard counts as a raster one chip wide.

        A block is a run of consecutive chips of one shard.
        """
        size, numbers = self._size, {shard: number for number, shard in enumerate(self._shards)}
        places = [(numbers[record.shard], record.index) for record in self.records]
        blocks = {
            key: [index for _, index in group]
            for key, group in groupby(sorted(places), key=lambda place: (place[0], place[1] // RUN))
        }
        order = {key: number for number, key in enumerate(blocks)}
        return ChipList(
            size,
            tuple(
                Block(shard, run[0] * size, 0, (run[-1] + 1 - run[0]) * size, size)
                for (shard, _), run in blocks.items()
            ),
            np.array([order[shard, index // RUN] for shard, index in places], dtype=np.int64),
            np.array([index * size for _, index in places], dtype=np.int64),
            np.zeros(len(places), dtype=np.int64),
        )

    @property
    def bands(self) -> int:
        """How many bands a chip has."""
        return len(self._dataset.manifest.bands)

    def __len__(self) -> int:
        """How many shards."""
        return len(self._shards)

    def rule(self, raster: int) -> tuple[float, float]:
        """Chips hold reflectance x 10000 already."""
        return 1.0, 0.0

    def block_bytes(self, block: Block) -> int:
        """None: chips are gathered from where they lie."""
        return 0

    def readers(self) -> Readers:
        """The mapped shards."""
        return _Shards(self._dataset, self._shards, self._known)


class _Shards:
    def __init__(self, dataset: Dataset, names: Sequence[str], known: Sequence[NDArray[np.uint8]]) -> None:
        self._dataset, self._names, self._known = dataset, names, known

    def prepare(self, block: Block, buffer: NDArray[np.uint8]) -> Task:
        return Task(lambda: self._open(block), lambda: None)

    def close(self) -> None:
        pass

    def _open(self, block: Block) -> CutAt:
        name, known = self._names[block.raster], self._known[block.raster]
        try:
            images, labels = (np.asarray(part) for part in self._dataset.shard(name))
        except (OSError, ValueError, EOFError) as error:
            raise self._refused(name, f"the chips cannot be read ({error})") from error
        if min(len(images), len(labels)) < len(known):
            raise self._refused(name, "chips are missing")

        def cut(top: int, left: int, size: int) -> Cut:
            index = top // size
            image = images[index]
            if known[index] == _ALL_VALID:
                return Cut(image, labels[index], None)
            valid = _valid(image)
            known[index] = _ALL_VALID if valid is None else 0
            return Cut(image, labels[index], valid)

        return cut

    def _refused(self, name: str, what: str) -> DataRefused:
        return DataRefused(what, where=f"{self._dataset.uri}/chips/{name}", fix="Make the dataset anew")


def _valid(image: NDArray[np.int16]) -> Valid | None:
    """Where a chip has data, as `model_input` says it; None for everywhere."""
    if image[0].all():
        return None
    valid: Valid = np.bitwise_or.reduce(image, axis=0) != 0
    return None if valid.all() else valid
