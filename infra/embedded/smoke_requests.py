"""Requests of every kind to a stack that was just brought up, and what each answer must be.

This one runs with the Python of environment `serve`: it reads rasters. It imports none of the packages, since it
stands where a client stands.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import urllib.parse
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import rasterio
import rasterio.errors
import yaml
from numpy.typing import NDArray
from rasterio.io import MemoryFile
from rasterio.windows import Window

from infra.embedded.smoke_client import INVOCATIONS, Client, Wrong, require

NODATA: Final = 255
CROP: Final = 64
PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Raster:
    """A scene's raster as a client would send it.

    Attributes:
        body: The GeoTIFF.
        pixels: Sensor values `[bands, H, W]`.
        grid: CRS, transform and shape.
        query: What a tensor of these bands needs to say of itself.
    """

    body: bytes
    pixels: NDArray[Any]
    grid: tuple[Any, ...]
    query: str


def main() -> int:
    """Send everything; 0 if every answer was right."""
    parser = argparse.ArgumentParser(description=__doc__)
    for flag in ("--endpoint", "--image", "--mask-digest", "--model", "--digest", "--usecase"):
        parser.add_argument(flag, required=True)
    parser.add_argument("--query", default="", help="what only the scene's item says of its values")
    options = parser.parse_args()
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)  # scenes without a CRS are meant
    client = Client(options.endpoint, options.model, options.digest)
    failures = 0
    for name, check in checks(client, options):
        try:
            check()
            print(f"ok      {name}", flush=True)
        except (Wrong, OSError, ValueError, KeyError, rasterio.errors.RasterioError) as error:
            failures += 1
            print(f"FAILED  {name}: {type(error).__name__}: {error}", flush=True)
    return 1 if failures else 0


def checks(client: Client, options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], None]]]:
    """Every check and its name, in order: what must be answered, what must be refused, what must still be answered."""
    image = Path(options.image)
    whole, crop, bare = read(image), read(image, CROP), read(image, CROP, bare=declared_bands(options))
    whole_mask = partial(mask, client, whole, options.mask_digest, options.query)
    yield "image/tiff -> image/tiff: the mask of `predict`, on the scene's grid", whole_mask
    yield "image/tiff -> image/tiff; band=probability", partial(probability, client, crop)
    yield "image/tiff -> image/png", partial(quicklook, client, crop)
    yield "image/tiff -> application/x-npy", partial(array, client, crop)
    for key in ("inputs", "instances"):
        yield f"application/json {key}: the crop's mask", partial(tensor, client, crop, key)
    yield "application/x-npy: the crop's mask", partial(npy, client, crop)
    yield "V2: the crop's mask", partial(v2, client, bare)
    for name, body, content_type, statuses in junk(whole):
        yield f"{name} is refused", partial(refused, client, body, content_type, statuses)
    yield "an unknown route is 404", partial(unknown_route, client)
    yield "the server lives on", whole_mask


def declared_bands(options: argparse.Namespace) -> list[int]:
    """Which bands of the raster the use case declares, in its order, counted from 1."""
    with rasterio.open(options.image) as source:
        found = [str(description or "").lower() for description in source.descriptions]
    if not any(found):
        return list(range(1, len(found) + 1))
    bands = yaml.safe_load(Path(options.usecase).read_text(encoding="utf-8"))["data"]["bands"]
    called = [{band["name"], band.get("common_name") or band["name"], *band.get("aliases", ())} for band in bands]
    return [found.index(name) + 1 for names in called for name in sorted(map(str.lower, names)) if name in found]


def read(image: Path, size: int | None = None, *, bare: list[int] | None = None) -> Raster:
    """A raster, or its upper left corner, as a GeoTIFF of its own; bare bands say nothing of their values."""
    with rasterio.open(image) as source:
        window = Window(0, 0, min(size or source.width, source.width), min(size or source.height, source.height))
        pixels = source.read(bare, window=window)
        transform = source.window_transform(window) if source.crs else source.transform
        profile = {
            "driver": "GTiff",
            "dtype": source.dtypes[0],
            "nodata": None if bare else source.nodata,
            "crs": source.crs,
            "transform": transform,
        }
        profile |= dict(zip(("count", "height", "width"), pixels.shape, strict=True))
        with MemoryFile() as memory:
            with memory.open(**profile) as target:
                target.write(pixels)
                if not bare:
                    target.descriptions = source.descriptions
                    target.scales, target.offsets = source.scales, source.offsets
            body = memory.read()
        said: dict[str, str] = {}
        if not bare and all(source.descriptions):
            said["bands"] = ",".join(source.descriptions)
        if not bare and source.scales[0] != 1:
            said |= {"scale": repr(source.scales[0]), "offset": repr(source.offsets[0])}
    grid = (profile["crs"], transform, pixels.shape[1:])
    return Raster(body, pixels, grid, "?" + urllib.parse.urlencode(said) if said else "")


def opened(body: bytes) -> tuple[NDArray[Any], tuple[Any, ...], float | None]:
    """Pixels `[bands, H, W]`, grid and nodata of a GeoTIFF."""
    with MemoryFile(body) as memory, memory.open() as source:
        return source.read(), (source.crs, source.transform, source.shape), source.nodata


def crop_mask(client: Client, crop: Raster) -> NDArray[np.uint8]:
    """The mask of a crop, as a GeoTIFF gives it."""
    pixels, _, _ = opened(client.good(crop.body, "image/tiff").body)
    return np.asarray(pixels[0], dtype=np.uint8)


def mask(client: Client, scene: Raster, digest: str, query: str) -> None:
    """The endpoint's mask is pixel by pixel that of `predict`, on exactly the input's grid."""
    answer = client.good(scene.body, "image/tiff; application=geotiff", "image/tiff", INVOCATIONS + query)
    require(answer.headers["content-type"].startswith("image/tiff"), answer.headers["content-type"])
    pixels, grid, nodata = opened(answer.body)
    require(grid == scene.grid, f"grid {grid}, not {scene.grid}")
    require(pixels.dtype == np.uint8 and pixels.shape[0] == 1 and nodata == NODATA, f"{pixels.dtype}, {nodata}")
    require(bool((pixels != NODATA).any()), "no pixel has data")
    found = hashlib.sha256(np.ascontiguousarray(pixels[0]).tobytes()).hexdigest()
    require(found == digest, f"its pixels have digest {found}, `predict` gave {digest}")


def probability(client: Client, crop: Raster) -> None:
    """Probabilities add up to 1 where there is data, and the mask is the most probable class."""
    classes, grid, _ = opened(client.good(crop.body, "image/tiff", "image/tiff; band=probability").body)
    expected = crop_mask(client, crop)
    valid = expected != NODATA
    require(grid == crop.grid, f"grid {grid}, not {crop.grid}")
    require(bool(np.allclose(classes[:, valid].sum(axis=0), 1, atol=1e-4)), "they do not add up to 1")
    require(bool((classes[:, valid].argmax(axis=0) == expected[valid]).all()), "the mask is another class")


def quicklook(client: Client, crop: Raster) -> None:
    """A PNG comes back."""
    found = client.good(crop.body, "image/tiff", "image/png").body
    require(found.startswith(PNG_SIGNATURE), f"{found[:16]!r}")


def same_mask(client: Client, crop: Raster, found: NDArray[Any]) -> None:
    """A mask that came another way, `[1, H, W]`, is that of the crop as a GeoTIFF."""
    require(found.shape == (1, *crop.pixels.shape[1:]), f"shape {found.shape}")
    require(bool(np.array_equal(found[0], crop_mask(client, crop))), "it is another mask than that of the GeoTIFF")


def array(client: Client, crop: Raster) -> None:
    """The array holds the mask's pixels."""
    answer = client.good(crop.body, "image/tiff", "application/x-npy")
    same_mask(client, crop, np.load(io.BytesIO(answer.body), allow_pickle=False)[np.newaxis])


def tensor(client: Client, crop: Raster, key: str) -> None:
    """The same pixels as numbers give the same mask as the GeoTIFF."""
    body = json.dumps({key: crop.pixels[np.newaxis].tolist()}).encode()
    answer = client.good(body, "application/json", target=INVOCATIONS + crop.query)
    same_mask(client, crop, np.asarray(json.loads(answer.body)["predictions"]))


def npy(client: Client, crop: Raster) -> None:
    """The same pixels as an array give the same mask as the GeoTIFF."""
    stream = io.BytesIO()
    np.save(stream, crop.pixels, allow_pickle=False)
    answer = client.good(stream.getvalue(), "application/x-npy", target=INVOCATIONS + crop.query)
    same_mask(client, crop, np.load(io.BytesIO(answer.body), allow_pickle=False))


def v2(client: Client, bare: Raster) -> None:
    """V2 gives the same mask as the GeoTIFF, a bare one, since V2 cannot say anything of the values either."""
    values = bare.pixels[np.newaxis]
    datatype = {"u": "UINT", "i": "INT", "f": "FP"}[values.dtype.kind] + str(8 * values.dtype.itemsize)
    given = {"name": "reflectance", "shape": values.shape, "datatype": datatype, "data": values.ravel().tolist()}
    path = f"/v2/models/{client.model.split('/')[0]}/infer"
    answer = client.good(json.dumps({"inputs": [given]}).encode(), "application/json", target=path)
    result = {output["name"]: output for output in json.loads(answer.body)["outputs"]}["mask"]
    same_mask(client, bare, np.asarray(result["data"]).reshape(result["shape"]))


def junk(whole: Raster) -> Iterator[tuple[str, bytes, str, tuple[int, ...]]]:
    """Bodies that must be refused: name, body, content type, statuses that are right."""
    yield "HTML as image/tiff", b"<html><body>404 Not Found</body></html>", "image/tiff", (400, 422)
    yield "a truncated TIFF", whole.body[: len(whole.body) // 2], "image/tiff", (400, 422)
    yield "an empty body", b"", "image/tiff", (400,)
    yield "a TIFF of one band", _one_band(), "image/tiff", (422,)
    yield "text", b"water?", "text/plain", (415,)
    yield "broken JSON", b'{"inputs": [[[', "application/json", (400,)
    yield "a data frame", b'{"dataframe_split": {"columns": ["a"], "data": [[1]]}}', "application/json", (400,)
    yield "ragged lists", b'{"inputs": [[[[1, 2], [3]]]]}', "application/json", (400, 422)
    yield "NaN", b'{"inputs": [[[[NaN]]]]}', "application/json", (400, 422)
    yield "a tensor of two axes", b'{"inputs": [[1, 2], [3, 4]]}', "application/json", (400, 422)


def refused(client: Client, body: bytes, content_type: str, statuses: tuple[int, ...]) -> None:
    """A bad request gets its status and a reason."""
    answer = client.post(body, content_type)
    require(answer.status in statuses, f"status {answer.status}, not {statuses}: {answer.body[:200]!r}")
    require(answer.headers["content-type"].startswith("application/problem+json"), answer.headers["content-type"])
    problem = json.loads(answer.body)
    require(problem["status"] == answer.status, f"it names status {problem['status']}")
    require(bool(problem.get("detail") or problem.get("title")), "it gives no reason")


def unknown_route(client: Client) -> None:
    """MLServer's own routes cannot be reached from outside."""
    answer = client.call("/v2/repository/index", b"{}", {"Content-Type": "application/json"})
    require(answer.status in (404, 405), f"status {answer.status}")


def _one_band() -> bytes:
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 1, "height": 8, "width": 8}
    with MemoryFile() as memory:
        with memory.open(**profile) as target:
            target.write(np.ones((1, 8, 8), np.uint16))
        return bytes(memory.read())


if __name__ == "__main__":
    sys.exit(main())
