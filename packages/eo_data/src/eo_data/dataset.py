"""A dataset: chips cut from validated scenes, with their index, split and training statistics.

```
datasets/<digest>/manifest.json          what it was made from, and a record per chip
datasets/<digest>/statistics.json        per-band mean and std, class counts: training split only
datasets/<digest>/chips/<scene>.<part>.images.npy   int16 [n, bands, size, size], reflectance x 10000
datasets/<digest>/chips/<scene>.<part>.labels.npy   uint8 [n, size, size], class index, 255 not scored
datasets/<digest>/card.md, map.png       the same for people
```

A pixel without data is 0 in every band, and no pixel with data is: a black one has 1 in its first band.
"""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from eo_data.store import Store
from eo_data.tiling import Pixels, Valid
from eo_data.usecase import Split


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChipRecord(_Record):
    """One chip of the index.

    Attributes:
        scene: Id of the scene that it was cut from.
        shard: Name of its two files under `chips/`.
        index: Its place in them.
        top: Its first row in the scene, pixels.
        left: Its first column in the scene, pixels.
        split: Its side.
        cell: The geographic cell (or, without a CRS, the place) that it lies in.
        valid_fraction: Share of pixels with data in every band and a label that is scored.
        class_counts: Scored pixels per class.
        longitude: Of its centre, degrees east; None without a CRS.
        latitude: Of its centre, degrees north.
    """

    scene: str
    shard: str
    index: int
    top: int
    left: int
    split: Split
    cell: str
    valid_fraction: float
    class_counts: tuple[int, ...]
    longitude: float | None = None
    latitude: float | None = None


class SceneRecord(_Record):
    """What of a scene enters the digest, and where it lies.

    Attributes:
        uri: Where the scene was when it was chipped (not part of the digest).
        pixels: Digest of the decoded pixels.
        label: Digest of the decoded label.
        grid: Its grid in words that are equal for equal grids.
        radiometry: Scale, offset, nodata and who said so.
        bands: Which of the raster's bands are the inputs, from 1.
        place: The place that the source gave.
        source_split: The source's list that it stands in.
    """

    id: str
    uri: str
    collection: str
    pixels: str
    label: str
    grid: str
    radiometry: str
    bands: tuple[int, ...]
    place: str | None
    source_split: str | None
    simulated: bool


class Manifest(_Record):
    """`manifest.json`."""

    digest: str
    chip_format: int
    usecase: str
    usecase_data_digest: str
    bands: tuple[str, ...]
    classes: tuple[str, ...]
    chip_size: int
    scenes: tuple[SceneRecord, ...]
    chips: tuple[ChipRecord, ...]
    dropped: dict[str, int]
    git_commit: str | None


class Statistics(_Record):
    """Of the training split alone: per input band over pixels with data, per class over scored pixels."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    pixels: int
    class_counts: tuple[int, ...]


class Dataset:
    """A dataset of the store, read lazily.

    Args:
        store: Where it lies.
        uri: URI or key of its folder or manifest.
    """

    def __init__(self, store: Store, uri: str) -> None:
        self._store = store
        self._folder = store.key(uri).removesuffix("/manifest.json")
        self.manifest = store.get_record(f"{self._folder}/manifest.json", Manifest)
        self.statistics = store.get_record(f"{self._folder}/statistics.json", Statistics)
        self._spool: tempfile.TemporaryDirectory[str] | None = None
        self._shard = lru_cache(maxsize=4096)(self._open_shard)

    @property
    def uri(self) -> str:
        """The URI of its folder."""
        return self._store.resolve(self._folder)

    @property
    def digest(self) -> str:
        """Its digest."""
        return self.manifest.digest

    def chips(self, *splits: Split) -> list[ChipRecord]:
        """The chips of the splits named, all without one, in the manifest's order."""
        return [chip for chip in self.manifest.chips if not splits or chip.split in splits]

    def read(self, chip: ChipRecord) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        """A chip's image `[bands, size, size]` (int16, reflectance x 10000) and label `[size, size]` (uint8)."""
        images, labels = self._shard(chip.shard)
        return images[chip.index], labels[chip.index]

    def shard(self, name: str) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        """All images `[n, bands, size, size]` and labels `[n, size, size]` of a shard; mapped in a store on disk."""
        return self._shard(name)

    def _open_shard(self, shard: str) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
        images, labels = (self._load(f"{self._folder}/chips/{shard}.{kind}.npy") for kind in ("images", "labels"))
        return images, labels

    def _load(self, key: str) -> NDArray[Any]:
        if self._store.uri.startswith("file://"):
            return np.load(self._store.raster_path(key), mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
        if self._spool is None:
            self._spool = tempfile.TemporaryDirectory(prefix="terraloop-chips-")
        path = Path(self._spool.name) / key.rsplit("/", 1)[1]
        path.write_bytes(self._store.get(key))  # mapped from disk: a dataset may be larger than memory
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def model_input(image: NDArray[np.int16]) -> tuple[Pixels, Valid]:
    """A chip's image as a model reads it: float32 `[bands, H, W]` and where it has data `[H, W]`."""
    valid: Valid = (image != 0).any(axis=0)
    return image.astype(np.float32), valid
