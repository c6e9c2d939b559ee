"""Writing a set of simulated scenes to a folder: images, labels, items."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from eo_data.errors import UsageError
from eo_data.simulate.places import place
from eo_data.simulate.recipe import scene_id
from eo_data.simulate.scene import IGNORE, SimulatedScene, check_arguments, simulate_scene
from eo_data.simulate.spectra import BANDS
from eo_data.simulate.stac import SCALE, scene_item, scenes_collection

SIMULATOR_FORMAT: Final = 2
"""Raised when the same seed begins to give other files."""

DEFAULT_SCENES: Final = 192
"""Scenes of the default set. Each lies in a cell of its own and about four of five have water, so that every side
of a split of cells, by whatever salt, gets its share of water."""

DEFAULT_SIZE: Final = 128
"""Height and width of the default set's scenes, pixels: one chip, which fits into a cell at any latitude."""

Progress = Callable[[int, int], object]
"""Called after every scene with the number of scenes done and wanted."""

_README_BEGINS: Final = "Everything in this folder is SIMULATED by Terraloop"
_FOLDERS: Final = ("images", "labels", "items")
_DONE: Final = "simulation.json"  # written last
_FILES: Final = ("README.txt", "collection.json", _DONE)
_PARTIAL: Final = ".partial"
_OURS: Final = re.compile(r"^simulated-s\d+-\d{4,}\.(tif|json)(\.partial)?$")


def write_scenes(out: Path, *, scenes: int, size: int, seed: int, progress: Progress | None = None) -> list[str]:
    """Write a set of simulated scenes to `images/<id>.tif`, `labels/<id>.tif` and `items/<id>.json`.

    Every file is written under another name and renamed when it is whole; `simulation.json` comes last. A
    complete output of the same parameters is left as it is, an interrupted one is finished.

    Args:
        out: The folder; made where it is missing.
        scenes: How many.
        size: Height and width of each, pixels of 10 m.
        seed: The set's seed; scene k is the same however many there are.
        progress: Called after every scene with the number of scenes done and wanted.

    Returns:
        The ids of the scenes.

    Raises:
        UsageError: If an argument is out of range, or `out` holds something else, another set included.
    """
    check_arguments(scenes, size, seed)
    place(scenes - 1, size, seed)  # refuses what there is no room for
    ids = [scene_id(seed, number) for number in range(scenes)]
    parameters = {"simulated": True, "format": SIMULATOR_FORMAT, "scenes": scenes, "size": size, "seed": seed}
    done = out / _DONE
    _refuse_foreign(out, parameters)
    if done.is_file() and all(_is_written(out, one) for one in ids):
        return ids
    readme = _readme(scenes, size, seed)
    if _read(out / "README.txt") != readme:
        _remove_scenes(out)  # of an interrupted set with other parameters
    for folder in _FOLDERS:
        (out / folder).mkdir(parents=True, exist_ok=True)
    _write_text(out / "README.txt", readme)
    for number, one in enumerate(ids):
        if not _is_written(out, one):
            _write_scene(out, simulate_scene(number, size, seed))
        if progress is not None:
            progress(number + 1, scenes)
    _write_text(out / "collection.json", _json(scenes_collection(ids)))
    _write_text(done, _json(parameters))
    return ids


def write_image(path: Path, scene: SimulatedScene) -> None:
    """Write the 13 bands of a scene as a tiled GeoTIFF that says that it is simulated."""
    with rasterio.open(path, "w", **_profile(scene.dn, scene.geobox, 0), predictor=2, interleave="band") as target:
        target.write(scene.dn)
        target.descriptions = [band.name for band in BANDS]
        target.scales = [SCALE] * len(BANDS)
        target.offsets = [scene.offset] * len(BANDS)
        target.update_tags(**_tags(scene))


def write_label(path: Path, scene: SimulatedScene) -> None:
    """Write the label of a scene as a tiled GeoTIFF that says that it is simulated."""
    label = scene.label[None]
    with rasterio.open(path, "w", **_profile(label, scene.geobox, IGNORE)) as target:
        target.write(label)
        target.descriptions = ["water"]
        target.update_tags(**_tags(scene))


def _write_scene(out: Path, scene: SimulatedScene) -> None:
    """Write a scene's files, the item last."""
    for folder, write in (("images", write_image), ("labels", write_label)):
        target = out / folder / f"{scene.id}.tif"
        partial = target.with_name(target.name + _PARTIAL)
        write(partial, scene)
        partial.replace(target)
    _write_text(out / "items" / f"{scene.id}.json", _json(scene_item(scene)))


def _profile(values: NDArray[Any], geobox: GeoBox, nodata: int) -> dict[str, Any]:
    """Creation options of a raster."""
    block = min(256, -(-max(values.shape[1:]) // 16) * 16)
    profile = {
        "driver": "GTiff",
        "count": values.shape[0],
        "height": values.shape[1],
        "width": values.shape[2],
        "dtype": values.dtype.name,
        "crs": str(geobox.crs),
        "transform": geobox.transform,
        "nodata": nodata,
        "tiled": True,
        "blockxsize": block,
        "blockysize": block,
        "BIGTIFF": "IF_SAFER",
    }
    return profile | ({"compress": "zstd", "zstd_level": 1} if _has_zstd() else {"compress": "deflate", "zlevel": 1})


def _tags(scene: SimulatedScene) -> dict[str, str]:
    """TIFF tags that say what this is."""
    return {
        "SIMULATED": "YES",
        "TIFFTAG_IMAGEDESCRIPTION": f"SIMULATED, not measured. {scene.title}",
        "TIFFTAG_DATETIME": scene.datetime.strftime("%Y:%m:%d %H:%M:%S"),
    }


@cache
def _has_zstd() -> bool:
    """Whether this GDAL writes Zstandard."""
    try:
        with MemoryFile() as memory, memory.open(
            driver="GTiff", width=1, height=1, count=1, dtype="uint8", compress="zstd", crs="EPSG:32631",
            transform=rasterio.Affine(10, 0, 0, 0, -10, 0),
        ) as probe:  # fmt: skip
            probe.write(np.ones((1, 1, 1), dtype=np.uint8))
    except RasterioError:
        return False
    return True


def _refuse_foreign(out: Path, parameters: dict[str, Any]) -> None:
    """Refuse a folder that holds anything but this set, whole or in part."""
    if not out.exists():
        return
    strangers = _strangers(out) if out.is_dir() else [out.name]
    known = _read(out / _DONE)
    if strangers or (any(out.iterdir()) and not _read(out / "README.txt").startswith(_README_BEGINS)):
        named = f" ({', '.join(sorted(strangers)[:3])})" if strangers else ""
        raise UsageError(
            f"the folder holds files that the simulator has not made{named}",
            where=str(out),
            fix="Name a new or empty folder",
        )
    if known and known != _json(parameters):
        raise UsageError(
            f"the folder holds another simulated set: {' '.join(known.split())}",
            where=str(out),
            fix="Name another folder, or remove this one",
        )


def _strangers(out: Path) -> list[str]:
    """What in the folder does not come from the simulator, by name."""
    names = []
    for entry in out.iterdir():
        if entry.name in _FOLDERS and entry.is_dir():
            names += [f"{entry.name}/{inner.name}" for inner in entry.iterdir() if not _OURS.match(inner.name)]
        elif entry.name.removesuffix(_PARTIAL) not in _FILES:
            names.append(entry.name)
    return names


def _remove_scenes(out: Path) -> None:
    """Remove the simulator's own scene files."""
    for folder in _FOLDERS:
        for path in sorted((out / folder).glob("simulated-s*")):
            path.unlink()


def _is_written(out: Path, one: str) -> bool:
    """Whether all files of a scene are there."""
    names = (f"images/{one}.tif", f"labels/{one}.tif", f"items/{one}.json")
    return all((out / name).is_file() for name in names)


def _write_text(path: Path, text: str) -> None:
    """Write a text file that is either whole or absent."""
    partial = path.with_name(path.name + _PARTIAL)
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _read(path: Path) -> str:
    """A text file's content; empty where there is none."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _readme(scenes: int, size: int, seed: int) -> str:
    """What this folder is, in one paragraph."""
    return (
        f"{_README_BEGINS}: {scenes} scenes of {size} x {size} pixels of 10 m, seed {seed}, format {SIMULATOR_FORMAT}. "
        "No satellite has taken these images and the places do not look like this: spectra, rivers, lakes, fields, "
        "towns and clouds are drawn by a program. images/ holds 13 bands as Sentinel-2 L1C would have them, labels/ "
        "water masks (0 land, 1 water, 255 ignore), items/ a STAC item each in the collection 'simulated'. They serve "
        "to try the system offline and to load it; they say nothing about its quality on real scenes.\n"
    )
