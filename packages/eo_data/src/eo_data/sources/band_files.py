"""A scene whose GeoTIFF is made of other files: a file per band, or one JP2."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from eo_data.bands import band_indexes, band_key
from eo_data.decoding import require_plausible
from eo_data.errors import DataRefused
from eo_data.file_kinds import HEAD, is_jp2
from eo_data.rasters import open_tiff
from eo_data.sources.compose import BandFile, compose
from eo_data.usecase import DataSection


@dataclass(frozen=True)
class FetchedBand:
    """A local file of a scene.

    Attributes:
        band: The band's name as the source gives it; None where the file holds the whole scene.
        path: The file.
        where: What it is called in messages.
    """

    band: str | None
    path: Path
    where: str


def write_scene(files: Sequence[FetchedBand], data: DataSection, target: Path, where: str) -> None:
    """Write a scene's files as one GeoTIFF: the bands that the model reads, in its order.

    A band that has several files is taken from the one with the smallest pixels: Sentinel-2 L2A products hold
    the 10 m bands at 20 and 60 m too.

    Args:
        files: A file per band at least, or one file with all bands, described or in the order of the use case.
        data: The use case's data section.
        target: The file to write.
        where: What the scene is called in messages.

    Raises:
        DataRefused: If a file cannot be read, or it cannot be told which file or band is meant.
    """
    if files[0].band is None:
        bands = _bands_of(files[0], data)
    else:
        bands = [_finest(band.keys, files, band.name) for band in data.input_bands]
    compose(bands, data, target, where=where)


def _bands_of(file: FetchedBand, data: DataSection) -> list[BandFile]:
    with _opened(file) as dataset:
        indexes = band_indexes(dataset.descriptions, data.bands, data.input_bands, file.where)
    return [BandFile(band.name, str(file.path), index) for band, index in zip(data.input_bands, indexes, strict=True)]


def _finest(keys: frozenset[str], files: Sequence[FetchedBand], name: str) -> BandFile:
    sized: list[tuple[float, FetchedBand]] = []
    for file in files:
        if band_key(str(file.band)) not in keys:
            continue
        with _opened(file) as dataset:
            if dataset.count != 1:
                raise DataRefused(
                    f"a band's file has one band, this one has {dataset.count}", where=file.where, fix="Split it"
                )
            sized.append((abs(dataset.transform.determinant), file))
    sized.sort(key=lambda pair: pair[0])
    if len(sized) > 1 and sized[0][0] == sized[1][0]:
        raise DataRefused(
            f"band {name} stands twice: also in {sized[1][1].where}",
            where=sized[0][1].where,
            fix="Make the pattern in data.folders tell them apart, or remove one",
        )
    file = sized[0][1]
    return BandFile(str(file.band), str(file.path))


@contextmanager
def _opened(file: FetchedBand) -> Iterator[Any]:
    """A local GeoTIFF or JP2, open in rasterio.

    Raises:
        DataRefused: If it is neither, or its header claims more than it can hold.
    """
    with file.path.open("rb") as stream:
        jp2 = is_jp2(stream.read(HEAD))
    if not jp2:
        with open_tiff(str(file.path), file.where) as dataset:
            require_plausible(dataset, file.where)
            yield dataset
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(file.path, driver="JP2OpenJPEG") as dataset:
                require_plausible(dataset, file.where)
                yield dataset
        except RasterioError as error:
            raise DataRefused(
                "the JP2 is truncated or damaged", where=file.where, fix="Fetch the file again"
            ) from error
