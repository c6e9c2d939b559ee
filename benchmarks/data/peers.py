"""The field's ways to the chips, each as its documentation has it, and the limits that nobody can pass."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio
from rasterio.windows import Window

from benchmarks import torchvision_stub
from benchmarks.data.scene import TILE
from benchmarks.data.workload import CHIP, MINIBATCH, Workload
from benchmarks.protocol import Check, Variant

RASTERIO: Final = "rasterio, random windows"
RASTERIO_LABEL: Final = "rasterio, random windows, image and label"
TORCHGEO: Final = "TorchGeo image & label, RandomGeoSampler"
RIOXARRAY: Final = "rioxarray, lazy isel, random windows"
ZARR: Final = "zarr v3, chunk = chip (zstd), aligned"
GATHER: Final = "npy memmap gather"
GATHER_REUSED: Final = "npy memmap gather into a reused buffer"
CODEC: Final = "codec bound: libdeflate alone, the grid's tiles"

PASSES: Final = 12
"""Passes over the memory-mapped chips in a round."""


def make_peers(work: Workload, count: int) -> tuple[list[Variant], dict[str, Check]]:
    """Every peer over a workload, ready to run, and what they are checked for.

    Args:
        work: The scene.
        count: Random windows a round.
    """
    torchgeo, check = _torchgeo(work, count)
    variants = [
        Variant(RASTERIO, _rasterio(work, count, label=False)),
        Variant(RASTERIO_LABEL, _rasterio(work, count, label=True)),
        Variant(TORCHGEO, torchgeo),
        Variant(RIOXARRAY, _rioxarray(work, count)),
        Variant(ZARR, _zarr(work)),
        Variant(GATHER, _gather(work), "limit"),
        Variant(GATHER_REUSED, _gather_reused(work), "limit"),
        Variant(CODEC, _codec(work), "limit"),
    ]
    return variants, {"TorchGeo gives chips and labels": check}


def _rounds(count: int) -> Iterator[int]:
    """Lengths of minibatches that make up a count."""
    for start in range(0, count, MINIBATCH):
        yield min(MINIBATCH, count - start)


def _rasterio(work: Workload, count: int, *, label: bool) -> Callable[[], int]:
    image = rasterio.open(work.image)
    labels = rasterio.open(work.label) if label else None
    seeds = iter(range(1 << 30))

    def run() -> int:
        places = iter(work.random_places(count, next(seeds)).tolist())
        for length in _rounds(count):
            windows = [Window(left, top, CHIP, CHIP) for top, left in (next(places) for _ in range(length))]
            np.stack([image.read(window=window) for window in windows]).astype(np.float32)
            if labels is not None:
                np.stack([labels.read(1, window=window) for window in windows])
        return count

    return run


def _torchgeo(work: Workload, count: int) -> tuple[Callable[[], int], Check]:
    import torch

    torch.set_num_threads(1)
    torchvision_stub.install()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.utils.data import DataLoader
        from torchgeo.datasets import RasterDataset, stack_samples
        from torchgeo.samplers import RandomGeoSampler

        images = RasterDataset(str(work.image))
        labels = type("Labels", (RasterDataset,), {"is_image": False})(str(work.label))
        both = images & labels
    generator = torch.Generator().manual_seed(0)
    sampler = RandomGeoSampler(both, size=CHIP, length=count, generator=generator)
    loader: Any = DataLoader(both, batch_size=MINIBATCH, sampler=sampler, num_workers=0, collate_fn=stack_samples)

    def run() -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return sum(len(minibatch["image"]) for minibatch in loader)

    first = next(iter(loader))
    shapes = tuple(first["image"].shape), tuple(first["mask"].shape)
    wanted = (MINIBATCH, 6, CHIP, CHIP), (MINIBATCH, CHIP, CHIP)
    return run, Check(shapes == wanted and first["image"].dtype == torch.float32, f"shapes {shapes}")


def _rioxarray(work: Workload, count: int) -> Callable[[], int]:
    import rioxarray

    array: Any = rioxarray.open_rasterio(work.image, cache=False)
    seeds = iter(range(1 << 30))

    def run() -> int:
        places = iter(work.random_places(count, next(seeds)).tolist())
        for length in _rounds(count):
            chips = [
                array.isel(y=slice(top, top + CHIP), x=slice(left, left + CHIP)).values
                for top, left in (next(places) for _ in range(length))
            ]
            np.stack(chips).astype(np.float32)
        return count

    return run


def _zarr(work: Workload) -> Callable[[], int]:
    import zarr

    side = work.size // TILE * TILE
    with rasterio.open(work.image) as dataset:
        pixels = dataset.read(window=Window(0, 0, side, side))
        array: Any = zarr.create_array(
            str(work.folder / "scene.zarr"), shape=pixels.shape, chunks=(len(pixels), CHIP, CHIP), dtype=pixels.dtype
        )
        array[...] = pixels
    places = [(top, left) for top in range(0, side, CHIP) for left in range(0, side, CHIP)]
    rng = np.random.default_rng(0)

    def run() -> int:
        order = iter(rng.permutation(len(places)).tolist())
        for length in _rounds(len(places)):
            chosen = [places[next(order)] for _ in range(length)]
            np.stack([array[:, top : top + CHIP, left : left + CHIP] for top, left in chosen]).astype(np.float32)
        return len(places)

    return run


def _gather(work: Workload) -> Callable[[], int]:
    """As anyone writes it: chips stacked and cast to fresh arrays, no normalisation."""
    images, labels = _shards(work)
    rng = np.random.default_rng(0)

    def run() -> int:
        for _ in range(PASSES):
            order = rng.permutation(len(images)).tolist()
            for start in range(0, len(order), MINIBATCH):
                chosen = order[start : start + MINIBATCH]
                np.stack([images[chip] for chip in chosen]).astype(np.float32)
                np.stack([labels[chip] for chip in chosen])
        return PASSES * len(images)

    return run


def _gather_reused(work: Workload) -> Callable[[], int]:
    """The limit: one pass over the memory into buffers that stay, no normalisation."""
    images, labels = _shards(work)
    rng = np.random.default_rng(0)
    pixels = np.empty((MINIBATCH, *images[0].shape), dtype=np.float32)
    classes = np.empty((MINIBATCH, *labels[0].shape), dtype=np.uint8)

    def run() -> int:
        for _ in range(PASSES):
            for number, chip in enumerate(rng.permutation(len(images)).tolist()):
                slot = number % MINIBATCH
                np.copyto(pixels[slot], images[chip], casting="unsafe")
                np.copyto(classes[slot], labels[chip])
        return PASSES * len(images)

    return run


def _shards(work: Workload) -> tuple[list[Any], list[Any]]:
    """Every chip and label of the dataset, mapped, a view each."""
    files = sorted((work.folder / "store").glob("datasets/*/chips/*.images.npy"))
    images = [np.asarray(np.load(path, mmap_mode="r")) for path in files]
    labels = [np.asarray(np.load(str(path).replace(".images.", ".labels."), mmap_mode="r")) for path in files]
    return [chip for shard in images for chip in shard], [chip for shard in labels for chip in shard]


def _codec(work: Workload) -> Callable[[], int]:
    """Every full tile of image and label, from memory, decoded into one buffer; the predictor stays as it is."""
    from imagecodecs import deflate_decode

    packed = [tile for path in (work.image, work.label) for tile in _tiles(path, work.size)]
    target = memoryview(np.empty(TILE * TILE * 2, dtype=np.uint8).data)

    def run() -> int:
        for tile, size in packed:
            deflate_decode(tile, out=target[:size])
        return (work.size // TILE) ** 2 * (TILE // CHIP) ** 2

    return run


def _tiles(path: Path, side: int) -> list[tuple[bytes, int]]:
    """The compressed bytes of every tile that lies inside the raster whole, and their length decoded."""
    import tifffile

    full, across = side // TILE, -(-side // TILE)
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        content, size = path.read_bytes(), TILE * TILE * page.bitspersample // 8
        return [
            (content[offset : offset + count], size)
            for index, (offset, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True))
            if index % across < full and index // across % across < full
        ]
