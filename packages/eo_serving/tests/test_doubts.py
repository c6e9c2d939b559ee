"""What no sensor sends is not answered without a word: the header `Terraloop-Warning`, and the one refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eo_data.errors import DataRefused
from eo_data.usecase import UseCase
from eo_serving.call import Call
from eo_serving.input_sample import InputSample
from eo_serving.invocation import Answer, Invocation, answer
from eo_serving.prediction import predict
from eo_serving.problem import OutOfTime
from eo_serving.service import Service

INPUTS = ("B02", "B03", "B04", "B08", "B11", "B12")


def ask(service: Service, body: bytes, query: str = "", content_type: str = "image/tiff") -> Answer:
    call = Call(sample=InputSample(len(service.data.classes)))
    return answer(Invocation(content_type, None, query, body), service, call)


def scene(low: int = 80, high: int = 4000) -> NDArray[np.uint16]:
    return np.random.default_rng(3).integers(low, high, (6, 64, 64)).astype(np.uint16)


def warning(service: Service, tiff: Any, pixels: NDArray[Any], query: str = "", **how: Any) -> str | None:
    return ask(service, tiff(pixels, names=INPUTS, **how), query).headers.get("Terraloop-Warning")


def test_a_scene_of_the_sensor_is_not_doubted(service: Service, tiff: Any) -> None:
    assert warning(service, tiff, scene()) is None


def test_nothing_is_said_of_no_data(service: Service, tiff: Any) -> None:
    assert warning(service, tiff, np.zeros((6, 64, 64), np.uint16)) is None


def test_reflectance_that_nobody_declares_is_refused(service: Service, tiff: Any) -> None:
    fractions = (scene() / 1e4).astype(np.float32)
    with pytest.raises(DataRefused, match="nothing says what they are") as refusal:
        warning(service, tiff, fractions)
    assert "?scale=1" in (refusal.value.fix or "")
    tensor = json.dumps({"inputs": fractions[None].tolist()}).encode()
    with pytest.raises(DataRefused, match="nothing says what they are"):
        ask(service, tensor, content_type="application/json")


@pytest.mark.parametrize("how", ["query", "tags"])
def test_declared_reflectance_is_answered_as_sensor_values_are(service: Service, tiff: Any, how: str) -> None:
    fractions = (scene() / 1e4).astype(np.float64)
    said = {"scale": (1.0 + 1e-12, 0.0)} if how == "tags" else {}
    found = ask(service, tiff(fractions, names=INPUTS, **said), "scale=1" if how == "query" else "")
    assert "Terraloop-Warning" not in found.headers
    assert found.headers["Terraloop-Radiometry"].startswith("scale=1 offset=0")


@pytest.mark.parametrize(
    ("pixels", "query", "words"),
    [
        (scene() // 500, "", "reflectance 0..1 read as sensor values"),
        (scene() // 16, "", "an 8-bit picture"),
        (scene() + 1000, "", "do the values carry an offset"),
        (scene(), "scale=0.0001&offset=-0.3", "is the offset removed already"),
        (np.full((6, 64, 64), 65535, np.uint16), "", "outside -0.2 to 2"),
        (scene(), "scale=1", "outside -0.2 to 2"),
    ],
)
def test_what_is_doubted(service: Service, tiff: Any, pixels: NDArray[Any], query: str, words: str) -> None:
    said = warning(service, tiff, pixels, query)
    assert said is not None
    assert words in said
    assert said.isascii()


def test_a_stated_offset_is_believed(service: Service, tiff: Any) -> None:
    assert warning(service, tiff, scene() + 1000, "scale=0.0001&offset=-0.1") is None


def test_a_scale_that_makes_nothing_of_every_value(service: Service, tiff: Any) -> None:
    with pytest.raises(DataRefused, match="are no radiometry"):
        warning(service, tiff, scene(), "scale=1e-300")


def test_predict_refuses_as_the_endpoint_does(
    water: UseCase, registry: Any, tiff: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.tracking)
    path = tmp_path / "fractions.tif"
    path.write_bytes(tiff((scene() / 1e4).astype(np.float32), names=INPUTS))
    with pytest.raises(DataRefused, match="nothing says what they are"):
        predict(water, registry.store, str(path), (tmp_path / "out").as_uri(), None)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_thousands_of_tiny_images_end_with_the_time(service: Service) -> None:
    """The use case's dark band is looked at image by image: that too is within the request's time."""
    many = np.full((20_000, 13, 1, 1), 500, np.uint16)
    body = json.dumps({"inputs": many.tolist()}).encode()
    with pytest.raises(OutOfTime):
        answer(Invocation("application/json", None, "", body), service, Call(1e-3))
