"""The client, against the real endpoint and against servers that fail in every way."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eo_data.errors import DataRefused, TemporaryFailure, TerraloopError, UsageError
from eo_serving import Client

Respond = Callable[[http.server.BaseHTTPRequestHandler, bytes], None]


@pytest.fixture
def client(server: Any) -> Iterator[Client]:
    with Client(server.url) as opened:
        yield opened


@pytest.fixture
def scene(tmp_path: Path, tiff_chip: bytes) -> Path:
    path = tmp_path / "scene.tif"
    path.write_bytes(tiff_chip)
    return path


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eo_serving.client._wait", lambda attempt, said: 0.01)


class TestAgainstTheEndpoint:
    def test_every_answer(self, client: Client, scene: Path, tmp_path: Path, registry: Any, decode: Any) -> None:
        mask = client.mask(scene)
        assert (mask.model, mask.digest) == ("water/2", registry.versions[2].digest)
        assert mask.run == registry.versions[2].run
        assert mask.radiometry.startswith("scale=")
        saved = decode(mask.save(tmp_path / "mask.tif").read_bytes())
        assert saved.grid == decode(scene.read_bytes()).grid
        np.testing.assert_array_equal(saved.pixels[0], mask.array())
        assert set(np.unique(mask.array())) == {0, 1, 255}
        probability = client.probability(scene.read_bytes()).array()
        assert (probability.shape, probability.dtype.name) == ((2, *mask.array().shape), "float32")
        water = client.statistics(scene).json()["classes"][1]
        assert water["pixels"] == np.count_nonzero(mask.array() == 1)
        parts = client.polygons(scene).json()["features"]
        assert sum(p["properties"]["pixels"] for p in parts if p["properties"]["class"] == 1) == water["pixels"]
        assert client.quicklook(scene).content.startswith(b"\x89PNG")

    def test_tensors(self, client: Client, chip: Any, scene: Path) -> None:
        masks = client.predict(chip)
        np.testing.assert_array_equal(masks.array()[0], client.mask(scene).array())

    def test_what_the_raster_does_not_say(self, client: Client, scene: Path) -> None:
        said = client.mask(scene, scale=0.0002, offset=-0.1)
        assert said.radiometry == "scale=0.0002 offset=-0.1 (request)"
        with pytest.raises(DataRefused, match="band names"):
            client.mask(scene, bands=["B02", "B03"])

    def test_refusals_are_the_errors_of_this_project(self, client: Client, tmp_path: Path) -> None:
        (tmp_path / "junk.tif").write_bytes(b"junk")
        with pytest.raises(DataRefused, match="no GeoTIFF") as refused:
            client.mask(tmp_path / "junk.tif")
        assert (refused.value.where, bool(refused.value.fix)) == ("body", True)
        with pytest.raises(UsageError, match="cannot be read"):
            client.mask(tmp_path / "absent.tif")
        with pytest.raises(UsageError, match="is empty"):
            client.mask(b"")
        with pytest.raises(UsageError, match="unknown or stands twice"):
            client.mask(b"junk", junk=1)
        with pytest.raises(DataRefused, match="longer than"):
            client.mask(bytes(5 * 2**20))

    def test_what_is_doubtful_is_told(self, client: Client, scene: Path, tiff: Any) -> None:
        assert client.mask(scene).warning == ""
        doubtful = client.mask(tiff(np.full((6, 40, 40), 65535, np.uint16)))
        assert "no reflectance of this sensor" in doubtful.warning

    def test_objects_are_no_tensor(self, client: Client) -> None:
        with pytest.raises(DataRefused, match="type object are no numbers"):
            client.predict(np.array([[[None]]] * 6))

    def test_answers_of_another_kind(self, client: Client, scene: Path) -> None:
        with pytest.raises(UsageError, match="no JSON"):
            client.mask(scene).json()
        with pytest.raises(UsageError, match="no array"):
            client.statistics(scene).array()

    def test_a_token(self, start_server: Any, tmp_path: Path, scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        server = start_server(tmp_path / "state", options=())
        server.await_status("/readyz", 200)
        token = (server.state / "endpoint-token").read_text().strip()
        with Client(server.url) as without, pytest.raises(UsageError, match="token"):
            without.statistics(scene)
        with Client(server.url, token=token) as given:
            assert given.statistics(scene).model == "water/2"
        monkeypatch.setenv("TERRALOOP_ENDPOINT_TOKEN", token)
        with Client(f"{server.url}/invocations") as surroundings:
            assert surroundings.statistics(scene).model == "water/2"
        server.stop()


@pytest.fixture
def serve() -> Iterator[Callable[[Respond], tuple[str, list[bytes]]]]:
    """Start a server that answers as told; its address, and the bodies that it got."""
    running: list[http.server.ThreadingHTTPServer] = []

    def start(respond: Respond) -> tuple[str, list[bytes]]:
        bodies: list[bytes] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                respond(self, bodies[-1])

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        running.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}", bodies

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def send(handler: Any, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
    handler.send_response(status)
    for key, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
        handler.send_header(key.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


class TestAgainstOthers:
    @pytest.mark.parametrize("status", [429, 503])
    def test_what_was_not_begun_is_sent_again(self, serve: Any, scene: Path, status: int) -> None:
        answers = iter([status, status, 200])
        url, bodies = serve(lambda handler, body: send(handler, next(answers), b"{}", Retry_After="1"))
        with Client(url) as client:
            assert client.statistics(scene).json() == {}
        assert bodies == [scene.read_bytes()] * 3

    @pytest.mark.parametrize("status", [400, 401, 413, 422, 500, 504])
    def test_what_was_refused_is_not(self, serve: Any, scene: Path, status: int) -> None:
        document = json.dumps({"detail": "because", "where": "here", "fix": "mend it"}).encode()
        url, bodies = serve(lambda handler, body: send(handler, status, document, "application/problem+json"))
        with Client(url) as client, pytest.raises(TerraloopError, match="because") as refused:
            client.mask(scene)
        assert (refused.value.where, refused.value.fix, len(bodies)) == ("here", "mend it", 1)

    def test_tries_end(self, serve: Any, scene: Path) -> None:
        url, bodies = serve(lambda handler, body: send(handler, 503, b""))
        with Client(url, tries=3) as client, pytest.raises(TemporaryFailure, match="503"):
            client.mask(scene)
        assert len(bodies) == 3

    def test_nobody_is_there(self, scene: Path) -> None:
        with Client("http://127.0.0.1:9", tries=2) as client, pytest.raises(TemporaryFailure, match="does not answer"):
            client.mask(scene)

    def test_an_answer_that_does_not_come_is_not_asked_for_again(self, serve: Any, scene: Path) -> None:
        done = threading.Event()
        url, bodies = serve(lambda handler, body: done.wait(5))
        with Client(url, timeout=0.3) as client, pytest.raises(TemporaryFailure, match="ReadTimeout"):
            client.mask(scene)
        done.set()
        assert len(bodies) == 1

    @pytest.mark.parametrize("address", ["", "junk", "ftp://x", "http://", "http://[", "http://x:99999"])
    def test_what_is_no_address(self, address: str) -> None:
        with pytest.raises(UsageError, match="no address"):
            Client(address)


class TestPredictByAnEndpoint:
    def test_is_what_predict_makes_here(
        self, server: Any, registry: Any, water: Any, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from urllib.parse import urlsplit

        from eo_serving.prediction import predict
        from eo_serving.remote_prediction import predict_remotely

        monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.tracking)
        there = predict_remotely(water, registry.store, str(scene), str(tmp_path / "there"), server.url)
        here = predict(water, registry.store, str(scene), str(tmp_path / "here"), "models:/water/2")

        def content(result: dict[str, Any], key: str) -> bytes:
            return Path(urlsplit(result[key]).path).read_bytes()

        assert content(there, "mask") == content(here, "mask")
        assert content(there, "quicklook") == content(here, "quicklook")
        items = [json.loads(content(result, "item")) for result in (there, here)]
        for item in items:
            del item["properties"]["created"]
            item["properties"].pop("end_datetime", None)
        assert items[0] == items[1]
        same = ("mask_digest", "radiometry", "model", "digest")
        assert [there[key] for key in same] == [here[key] for key in same]
        again = predict_remotely(water, registry.store, str(scene), str(tmp_path / "there"), server.url)
        assert again == there

    def test_refusals(self, server: Any, registry: Any, water: Any, tmp_path: Path) -> None:
        from eo_serving.remote_prediction import predict_remotely

        with pytest.raises(UsageError, match="sent a file"):
            predict_remotely(water, registry.store, "some-scene", None, server.url)
        with pytest.raises(DataRefused, match="no such file"):
            predict_remotely(water, registry.store, str(tmp_path / "absent.tif"), None, server.url)
        (tmp_path / "junk.tif").write_bytes(b"junk")
        with pytest.raises(DataRefused, match="no GeoTIFF"):
            predict_remotely(water, registry.store, str(tmp_path / "junk.tif"), str(tmp_path / "out"), server.url)
        assert not (tmp_path / "out").exists()
