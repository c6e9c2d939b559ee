"""One client after the other, and four at once: the endpoint beside the work that no endpoint can save.

The *bare* work of a request is what its answer takes in process: the model over the very tiles that the answer is made
of, and for GeoTIFF the decoding and encoding by rasterio. So the ratio is what the endpoint adds.
"""

from __future__ import annotations

import io
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx
import numpy as np
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from eo_data.model.session import classify
from eo_data.tiling import Pixels, array_reader, predict_rows

if TYPE_CHECKING:
    from eo_data.model.session import OnnxModel

CLIENTS: Final = 4


@dataclass(frozen=True)
class Way:
    """One way to get a mask.

    Attributes:
        name: What it is called.
        ask: Gets it, `[H, W]`.
    """

    name: str
    ask: Callable[[], NDArray[np.uint8]]


def bare_mask(model: OnnxModel, pixels: Pixels) -> NDArray[np.uint8]:
    """The model over the tiles of its own plan, and the class of each pixel: nothing else."""
    _, height, width = pixels.shape
    valid = np.ones((height, width), dtype=bool)
    read, plan = array_reader(pixels, valid), model.description.tiling.plan()
    parts = [classify(band.probability, band.valid) for band in predict_rows(read, (height, width), model, plan)]
    return np.concatenate(parts)


def bare_tiff(model: OnnxModel, body: bytes) -> NDArray[np.uint8]:
    """Decode with rasterio, the model, encode with rasterio as a deflated GeoTIFF."""
    with MemoryFile(body) as memory, memory.open(driver="GTiff") as source:
        pixels = source.read().astype(np.float32)
        profile = {**source.profile, "count": 1, "dtype": "uint8", "compress": "deflate", "nodata": 255}
    mask = bare_mask(model, pixels)
    profile.pop("predictor", None)
    with MemoryFile() as memory, memory.open(**profile) as target:
        target.write(mask, 1)
    return mask


def geotiff(client: httpx.Client, url: str, body: bytes) -> NDArray[np.uint8]:
    """A GeoTIFF in, the mask's COG out, decoded."""
    content = _post(client, f"{url}/invocations", body, "image/tiff")
    with MemoryFile(content) as memory, memory.open(driver="GTiff") as answer:
        mask: NDArray[np.uint8] = answer.read(1)
    return mask


def npy(client: httpx.Client, url: str, pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """An npy file in and out."""
    stream = io.BytesIO()
    np.save(stream, pixels)
    mask: NDArray[np.uint8] = np.load(
        io.BytesIO(_post(client, f"{url}/invocations", stream.getvalue(), "application/x-npy"))
    )[0]
    return mask


def mlflow_json(client: httpx.Client, url: str, pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """MLflow's JSON, as this endpoint answers it: classes."""
    body = json.dumps({"inputs": [pixels.tolist()]}).encode()
    answer = json.loads(_post(client, f"{url}/invocations", body, "application/json"))
    return np.asarray(answer["predictions"][0], dtype=np.uint8)


def v2_json(client: httpx.Client, url: str, pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """V2 over HTTP, as this endpoint answers it: classes."""
    data = pixels.ravel().tolist()
    tensor = {"name": "x", "shape": [1, *pixels.shape], "datatype": "UINT16", "data": data}
    body = json.dumps({"inputs": [tensor]}).encode()
    answer = json.loads(_post(client, f"{url}/v2/models/water/infer", body, "application/json"))
    return np.asarray(answer["outputs"][0]["data"], dtype=np.uint8).reshape(pixels.shape[1:])


def scoring_server(client: httpx.Client, url: str, tiles: Pixels) -> NDArray[np.uint8]:
    """`mlflow models serve`: one tile in, its probabilities out, classes here."""
    body = json.dumps({"inputs": {"reflectance": tiles.tolist()}}).encode()
    answer = json.loads(_post(client, f"{url}/invocations", body, "application/json"))["predictions"]
    probability = np.asarray(answer["probability"] if isinstance(answer, dict) else answer, dtype=np.float32)
    return np.asarray(probability[0].argmax(axis=0), dtype=np.uint8)


def stock_v2(client: httpx.Client, url: str, tiles: Pixels) -> NDArray[np.uint8]:
    """MLServer's MLflow runtime over V2 JSON: one tile in, its probabilities out, classes here."""
    tensor = {"name": "reflectance", "shape": list(tiles.shape), "datatype": "FP32", "data": tiles.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    (output,) = json.loads(_post(client, f"{url}/v2/models/water/infer", body, "application/json"))["outputs"]
    probability = np.asarray(output["data"], dtype=np.float32).reshape(output["shape"])
    return np.asarray(probability[0].argmax(axis=0), dtype=np.uint8)


def latencies(ways: list[Way], rounds: int) -> dict[str, float]:
    """Median seconds of each way, asked in turn, there and back again."""
    taken: dict[str, list[float]] = {way.name: [] for way in ways}
    for way in ways:
        way.ask()  # code, files and connections are warm
    for number in range(rounds):
        for way in ways if number % 2 == 0 else reversed(ways):
            began = time.perf_counter()
            way.ask()
            taken[way.name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def throughput(make: Callable[[], Callable[[], Any]], workers: int, seconds: float) -> float:
    """Answers per second that so many workers get at once.

    Args:
        make: Makes what a worker does again and again.
        workers: How many.
        seconds: For how long.
    """
    done = [0] * workers
    works = [make() for _ in range(workers)]
    for work in works:
        work()
    end = time.perf_counter() + seconds

    def loop(number: int) -> None:
        while time.perf_counter() < end:
            works[number]()
            done[number] += 1

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(workers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - began)


@contextmanager
def client() -> Iterator[httpx.Client]:
    """A client that keeps its connections and asks no proxy."""
    with httpx.Client(trust_env=False, timeout=120) as opened:
        yield opened


def _post(client: httpx.Client, url: str, body: bytes, content_type: str) -> bytes:
    response = client.post(url, content=body, headers={"Content-Type": content_type})
    if response.status_code != 200:
        raise RuntimeError(f"{url} answered {response.status_code}: {response.text[:300]}")
    return response.content
