"""A client of `/invocations`: a raster in, its mask, polygons, statistics or picture out.

```
with Client("http://127.0.0.1:5002") as client:
    answer = client.mask("scene.tif")
    answer.save("mask.tif")
    print(answer.model, client.statistics("scene.tif").json()["classes"])
```
"""

from __future__ import annotations

import io
import json
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx

from eo_data.errors import DataRefused, TemporaryFailure, TerraloopError, UsageError
from eo_data.step import write_atomically
from eo_serving.media import GEOJSON, JSON, NPY, PNG, TIFF
from eo_serving.problem import Problem
from eo_serving.tokens import ENDPOINT_TOKEN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PROBABILITY: Final = f"{TIFF}; band=probability"
_PART: Final = 2**20
_LATER: Final = frozenset({429, 503})
"""Nothing was begun: the same request may be sent again."""
_LONGEST_WAIT: Final = 30.0


@dataclass(frozen=True)
class ClientAnswer:
    """What the endpoint answered.

    Attributes:
        content: The answer's bytes.
        content_type: What they are.
        model: The version that answered, `<name>/<version>`.
        run: The MLflow run that made it.
        digest: sha256 of its graph.
        radiometry: What the values of the raster were taken to mean.
        warning: What is doubtful about them; empty where nothing is.
    """

    content: bytes
    content_type: str
    model: str
    run: str
    digest: str
    radiometry: str
    warning: str = ""

    def save(self, path: str | Path) -> Path:
        """Write the bytes to a file, whole or not at all, and the folders above it; its path."""
        target = Path(path)
        write_atomically(target, self.content)
        return target

    def json(self) -> Any:
        """Statistics, polygons or predictions.

        Raises:
            UsageError: If the answer is no JSON.
        """
        if self.content_type not in {JSON, GEOJSON}:
            raise UsageError(f"an answer of type {self.content_type} is no JSON", fix="Use array() or save()")
        return json.loads(self.content)

    def array(self) -> NDArray[Any]:
        """Mask `[H, W]` or `[N, H, W]` (uint8, 255 without data), or probabilities `[classes, H, W]` (float32).

        Raises:
            UsageError: If the answer is neither a TIFF nor npy.
        """
        import numpy as np

        if self.content_type == NPY:
            return np.lib.format.read_array(io.BytesIO(self.content), allow_pickle=False)
        if self.content_type.partition(";")[0] != TIFF:
            raise UsageError(f"an answer of type {self.content_type} is no array", fix="Use json() or save()")
        from eo_data.rasters import open_tiff

        with open_tiff(self.content, "answer") as dataset:
            values: NDArray[Any] = dataset.read()
        return values[0] if values.shape[0] == 1 else values


class Client:
    """A client of one endpoint. Use it as a context manager, or call `close`.

    Args:
        endpoint: The front's address, `http://host:port`, with or without `/invocations`.
        token: The bearer token; None takes `TERRALOOP_ENDPOINT_TOKEN`, and none where that is not set.
        timeout: Seconds without a byte in either direction.
        tries: How often a request is sent at most. It is sent again where nobody could be reached, and where the
            endpoint has no place or no model (429, 503); never where it was refused.

    Raises:
        UsageError: If this is no address.
    """

    def __init__(self, endpoint: str, *, token: str | None = None, timeout: float = 150.0, tries: int = 4) -> None:
        self.endpoint = endpoint.rstrip("/").removesuffix("/invocations")
        given = os.environ.get(ENDPOINT_TOKEN) if token is None else token
        headers = {"Authorization": f"Bearer {given}"} if given else {}
        self._tries = max(1, tries)
        try:
            parts = urlsplit(self.endpoint)
            if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:  # reading it checks it
                raise ValueError(self.endpoint)
            # The proxies of the surroundings are not asked: an endpoint is near.
            self._http = httpx.Client(base_url=self.endpoint, headers=headers, timeout=timeout, trust_env=False)
        except (httpx.InvalidURL, ValueError) as error:
            raise UsageError("this is no address", where="endpoint", fix="Such as http://127.0.0.1:5002") from error

    def __enter__(self) -> Client:
        """The client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def mask(self, raster: str | Path | bytes, **query: Any) -> ClientAnswer:
        """The mask as a GeoTIFF on the raster's own grid.

        Args:
            raster: A GeoTIFF: its path, or its bytes. A file is sent part by part.
            query: `scale`, `offset` and `bands` where the raster does not say them.

        Raises:
            UsageError: If the call is wrong, or the token.
            DataRefused: If the raster is.
            TemporaryFailure: If the endpoint is out of reach, busy, or has no model.
        """
        return self.ask(raster, TIFF, **query)

    def probability(self, raster: str | Path | bytes, **query: Any) -> ClientAnswer:
        """The probability of each class as a GeoTIFF; arguments as `mask`."""
        return self.ask(raster, PROBABILITY, **query)

    def polygons(self, raster: str | Path | bytes, **query: Any) -> ClientAnswer:
        """The parts of the mask as GeoJSON; arguments as `mask`."""
        return self.ask(raster, GEOJSON, **query)

    def statistics(self, raster: str | Path | bytes, **query: Any) -> ClientAnswer:
        """Pixels and hectares of each class as JSON; arguments as `mask`."""
        return self.ask(raster, JSON, **query)

    def quicklook(self, raster: str | Path | bytes, **query: Any) -> ClientAnswer:
        """A picture with a legend as PNG; arguments as `mask`."""
        return self.ask(raster, PNG, **query)

    def predict(self, tensor: NDArray[np.generic], **query: Any) -> ClientAnswer:
        """Masks `[N, H, W]` of a tensor of sensor values `[bands, H, W]` or `[N, bands, H, W]`, as npy.

        Raises:
            DataRefused: If it holds something else than numbers; else as `mask`.
        """
        import numpy as np

        if np.asarray(tensor).dtype.kind not in "iuf":
            raise DataRefused(f"values of type {np.asarray(tensor).dtype} are no numbers of a sensor", where="tensor")
        stream = io.BytesIO()
        np.lib.format.write_array(stream, np.ascontiguousarray(tensor), allow_pickle=False)
        return self.ask(stream.getvalue(), NPY, content_type=NPY, **query)

    def ask(self, body: str | Path | bytes, accept: str, *, content_type: str = TIFF, **query: Any) -> ClientAnswer:
        """Send a body of any type that the endpoint takes, and ask for any that it gives."""
        headers = {"Content-Type": content_type, "Accept": accept}
        bands = query.get("bands")
        if bands is not None and not isinstance(bands, str):
            query["bands"] = ",".join(bands)
        response = self._send(body, headers, {key: str(value) for key, value in query.items() if value is not None})
        raise_refusal(response)
        said = {key: response.headers.get(f"Terraloop-{key}", "") for key in ("Model", "Run", "Digest", "Radiometry")}
        return ClientAnswer(
            response.content,
            response.headers.get("content-type", ""),
            said["Model"],
            said["Run"],
            said["Digest"],
            said["Radiometry"],
            response.headers.get("Terraloop-Warning", ""),
        )

    def _send(self, body: str | Path | bytes, headers: dict[str, str], query: dict[str, str]) -> httpx.Response:
        for attempt in range(1, self._tries + 1):
            last = attempt == self._tries
            try:
                with _content(body) as (content, size):
                    sized = {**headers, "Content-Length": str(size)}
                    response = self._http.post("/invocations", content=content, headers=sized, params=query)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.RemoteProtocolError) as error:
                if last:
                    raise self._unreachable(error) from error
                time.sleep(_wait(attempt, None))
            except httpx.TransportError as error:  # it may be at work on it: not sent again
                raise self._unreachable(error) from error
            else:
                if last or response.status_code not in _LATER:
                    return response
                time.sleep(_wait(attempt, response.headers.get("Retry-After")))
        raise AssertionError("unreachable")

    def _unreachable(self, error: httpx.TransportError) -> TemporaryFailure:
        return TemporaryFailure(
            f"the endpoint does not answer ({type(error).__name__})",
            where=self.endpoint,
            fix="Check that `eo-serving serve` is running there",
        )


def raise_refusal(response: httpx.Response) -> None:
    """Turn a refusal of the server into the error of the same class here; nothing where it is none."""
    if response.is_success:
        return
    problem = Problem.from_body(response.status_code, response.content)
    usage = dict.fromkeys((400, 401, 404, 406, 415), UsageError)
    refused = dict.fromkeys((413, 422), DataRefused)
    later = dict.fromkeys((408, 429, 503, 504), TemporaryFailure)
    kinds: dict[int, type[TerraloopError]] = {**usage, **refused, **later}
    kind = kinds.get(problem.status, TerraloopError)
    raise kind(problem.detail, where=problem.where or str(response.url), fix=problem.fix)


@contextmanager
def _content(body: str | Path | bytes) -> Iterator[tuple[bytes | Iterator[bytes], int]]:
    """A body and its length; a file is opened anew for each try, and read part by part."""
    if isinstance(body, bytes):
        yield body, len(body)
        return
    try:
        stream = Path(body).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UsageError(
            f"this file cannot be read ({error.strerror})", where=str(body), fix="Check the path"
        ) from error
    with stream:
        yield iter(lambda: stream.read(_PART), b""), os.fstat(stream.fileno()).st_size


def _wait(attempt: int, said: str | None) -> float:
    """Seconds before the next try: what the server says, else twice as long each time; with jitter."""
    try:
        seconds = float(said) if said is not None else 0.5 * 2 ** (attempt - 1)
    except ValueError:
        seconds = 1.0
    return min(max(seconds, 0.0), _LONGEST_WAIT) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
