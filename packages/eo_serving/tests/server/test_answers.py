"""What the running endpoint answers: rasters, MLflow's JSON, V2, and what it says of itself."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from eo_data.usecase import UseCase
from eo_serving.invocation import Invocation, answer
from eo_serving.service import Service, open_service

INPUTS = [1, 2, 3, 7, 11, 12]
TIFF = {"Content-Type": "image/tiff"}


@pytest.fixture(scope="module")
def champion(registry: Any, water: UseCase) -> Service:
    return open_service(registry.versions[2], water)


@pytest.fixture(scope="module")
def expected(champion: Service, tiff_chip: bytes, decode: Any) -> NDArray[np.uint8]:
    mask: NDArray[np.uint8] = decode(answer(Invocation("image/tiff", None, "", tiff_chip), champion).body).pixels[0]
    assert set(np.unique(mask)) == {0, 1, 255}
    return mask


def test_geotiff(server: Any, champion: Service, tiff_chip: bytes, decode: Any) -> None:
    with server.client() as client:
        response = client.post("/invocations", content=tiff_chip, headers=TIFF)
    assert (response.status_code, response.headers["content-type"]) == (200, "image/tiff")
    inside = answer(Invocation("image/tiff", None, "", tiff_chip), champion)
    assert response.content == inside.body
    assert {key: response.headers[key] for key in inside.headers} == dict(inside.headers)
    assert decode(response.content).grid == decode(tiff_chip).grid


@pytest.mark.parametrize("accept", ["image/tiff; band=probability", "image/png", "application/x-npy"])
def test_other_answers_to_a_raster(server: Any, champion: Service, tiff_chip: bytes, accept: str) -> None:
    with server.client() as client:
        response = client.post("/invocations?scale=0.0001", content=tiff_chip, headers={**TIFF, "Accept": accept})
    inside = answer(Invocation("image/tiff", accept, "scale=0.0001", tiff_chip), champion)
    assert (response.content, response.headers["content-type"]) == (inside.body, inside.content_type)
    assert response.headers["Terraloop-Radiometry"] == "scale=0.0001 offset=0 (request)"


@pytest.mark.parametrize("key", ["inputs", "instances"])
def test_mlflows_json(server: Any, chip: NDArray[Any], expected: NDArray[Any], key: str) -> None:
    for tensor in (chip[INPUTS], chip):
        with server.client() as client:
            response = client.post("/invocations", json={key: tensor[np.newaxis].tolist()})
        assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
        np.testing.assert_array_equal(response.json()["predictions"], expected[np.newaxis])


def test_npy(server: Any, chip: NDArray[Any], expected: NDArray[Any]) -> None:
    stream = io.BytesIO()
    np.save(stream, chip)
    with server.client() as client:
        response = client.post("/invocations", content=stream.getvalue(), headers={"Content-Type": "application/x-npy"})
    np.testing.assert_array_equal(np.load(io.BytesIO(response.content)), expected[np.newaxis])


class TestV2:
    @staticmethod
    def infer(server: Any, tensor: NDArray[Any], datatype: str, **document: Any) -> httpx.Response:
        data = document.pop("data", tensor.ravel().tolist())
        inputs = [{"name": "x", "shape": list(tensor.shape), "datatype": datatype, "data": data}]
        with server.client() as client:
            response: httpx.Response = client.post("/v2/models/water/infer", json={"inputs": inputs, **document})
        return response

    @pytest.mark.parametrize("datatype", ["FP32", "FP64", "FP16", "UINT16", "INT16", "INT64"])
    def test_mask(self, server: Any, chip: NDArray[Any], expected: NDArray[Any], datatype: str) -> None:
        response = self.infer(server, chip[np.newaxis, INPUTS], datatype)
        assert response.status_code == 200, response.text
        document = response.json()
        (output,) = document["outputs"]
        assert (document["model_name"], document["model_version"]) == ("water", "2")
        assert (output["name"], output["datatype"], output["shape"]) == ("mask", "UINT8", [1, 120, 100])
        np.testing.assert_array_equal(np.reshape(output["data"], output["shape"])[0], expected)
        assert response.headers["Terraloop-Model"] == "water/2"

    def test_nested_lists_and_probability(
        self, server: Any, chip: NDArray[Any], expected: NDArray[Any], champion: Service
    ) -> None:
        tensor = chip[np.newaxis, INPUTS, 50:60, 50:60]
        response = self.infer(
            server, tensor, "FP32", data=tensor.tolist(), outputs=[{"name": "probability"}, {"name": "mask"}], id="7"
        )
        document = response.json()
        assert document["id"] == "7"
        probability, mask = (np.reshape(output["data"], output["shape"]) for output in document["outputs"])
        assert probability.shape == (1, 2, 10, 10)
        direct = champion.model.probability(tensor[0].astype(np.float32), np.ones((10, 10), bool))
        np.testing.assert_array_equal(probability[0].astype(np.float32), direct)
        np.testing.assert_array_equal(mask[0], direct.argmax(axis=0))

    def test_metadata(self, server: Any) -> None:
        with server.client() as client:
            document = client.get("/v2/models/water").json()
        assert (document["name"], document["versions"]) == ("water", ["2"])
        assert [(t["name"], t["shape"]) for t in document["inputs"]] == [("reflectance", [-1, 6, -1, -1])]
        assert [t["name"] for t in document["outputs"]] == ["mask", "probability"]


def test_what_it_says_of_itself(server: Any, registry: Any) -> None:
    with server.client() as client:
        assert client.get("/healthz").json() == {"status": "alive"}
        assert client.get("/v2/health/live").status_code == 200
        for path in ("/readyz", "/v2/health/ready", "/v2/models/water/ready"):
            ready = client.get(path)
            assert (ready.status_code, ready.json()["model"]) == (200, "water/2")
            assert ready.json()["digest"] == registry.versions[2].digest
        page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    for text in ("water/2", registry.versions[2].digest, "0 land", "1 water", f"{server.url}/invocations"):
        assert text in page.text


def test_the_hand_labelled_spanish_chip(server: Any, champion: Service, test_data: Path, decode: Any) -> None:
    body = (test_data / "sen1floods11" / "S2Hand" / "Spain_7370579_S2Hand.tif").read_bytes()
    with server.client() as client:
        response = client.post("/invocations", content=body, headers=TIFF)
    assert response.status_code == 200
    mask, scene = decode(response.content), decode(body)
    assert mask.grid == scene.grid
    assert mask.crs.to_epsg() == 4326
    assert response.content == answer(Invocation("image/tiff", None, "", body), champion).body
    water = (mask.pixels == 1).mean()
    assert 0.01 < water < 0.99
