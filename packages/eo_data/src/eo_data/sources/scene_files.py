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
from eo_data.jp2_structure import is_complete, looks_like_jp2
from eo_data.rasters import open_tiff
from eo_data.sources.compose import BandFile, compose
from eo_data.usecase import DataSection


@dataclass(frozen=True)
class SceneFile:
    """A local file of a scene.

    Attributes:
        band: The band's name as the source gives it; None where the file holds the whole scene.
        path: The file.
        where: What it is called in messages.
    """

    band: str | None
    path: Path
    where: str


def write_scene(files: Sequence[SceneFile], data: DataSection, target: Path, where: str) -> None:
    """Write a scene's files as one GeoTIFF.

    A band that has several files is taken from the one with the smallest pixels: Sentinel-2 L2A products hold
    the 10 m bands at 20 and 60 m too.

    Args:
        files: A file per band, or one file with all bands, described or in the order of the use case.
        data: The use case's data section.
        target: The file to write.
        where: What the scene is called in messages.

    Raises:
        DataRefused: If a file cannot be read, or it cannot be told which file or band is meant.
        TemporaryFailure: If the target cannot be written.
    """
    if files[0].band is None:
        bands = _bands_of(files[0], data)
    else:
        keys = [band.keys for band in data.bands]
        known = [[file for file in files if band_key(str(file.band)) in names] for names in keys]
        bands = [_finest(offered) for offered in known if offered]
    try:
        compose(bands, data, target, where=where)
    except DataRefused as error:  # a copy in the workspace is called by where it came from
        names = {str(file.path): file.where for file in files}
        raise DataRefused(error.what, where=names.get(error.where, error.where), fix=error.fix) from error


def _bands_of(file: SceneFile, data: DataSection) -> list[BandFile]:
    with _opened(file) as dataset:
        said = dataset.descriptions
    band_indexes(said, data.bands, data.input_bands, file.where)  # refuses what lacks a band
    if not any(said):
        said = [band.name for band in (data.bands if len(said) == len(data.bands) else data.input_bands)]
    return [BandFile(name, str(file.path), index) for index, name in enumerate(said, start=1) if name]


def _finest(files: Sequence[SceneFile]) -> BandFile:
    sized: list[tuple[float, SceneFile]] = []
    for file in files:
        with _opened(file) as dataset:
            if dataset.count != 1:
                raise DataRefused(
                    f"a band's file has one band, this one has {dataset.count}", where=file.where, fix="Split it"
                )
            sized.append((abs(dataset.transform.determinant), file))
    sized.sort(key=lambda pair: pair[0])
    if len(sized) > 1 and sized[0][0] == sized[1][0]:
        raise DataRefused(
            f"band {sized[0][1].band} stands twice: also in {sized[1][1].where}",
            where=sized[0][1].where,
            fix="Make the pattern in data.folders tell them apart, or remove one",
        )
    file = sized[0][1]
    return BandFile(str(file.band), str(file.path))


@contextmanager
def _opened(file: SceneFile) -> Iterator[Any]:
    """A local GeoTIFF or JP2, open in rasterio.

    Raises:
        DataRefused: If it is neither, or its header claims more than it can hold.
    """
    with file.path.open("rb") as stream:
        jp2 = looks_like_jp2(stream.read(12))
        whole = is_complete(stream, file.path.stat().st_size)
    damaged = DataRefused("the JP2 is truncated or damaged", where=file.where, fix="Fetch the file again")
    if not whole:
        raise damaged
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
            raise damaged from error
