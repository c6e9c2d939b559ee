"""What the values of a raster mean, and who says so (design 4.6)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eo_data.errors import DataRefused, UsageError
from eo_data.usecase import UseCase
from eo_serving.invocation import Answer, Invocation, answer
from eo_serving.service import Service, open_service

S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
INPUTS = ("B02", "B03", "B04", "B08", "B11", "B12")
GREEN, NIR, CIRRUS = 2, 7, 10  # places in the full list


def ask(
    service: Service, body: bytes, query: str = "", accept: str | None = None, content_type: str = "image/tiff"
) -> Answer:
    return answer(Invocation(content_type, accept, query, body), service)


def scene(height: int, width: int, seed: int = 0, dtype: str = "uint16") -> NDArray[Any]:
    """Thirteen bands of random values, none of them nodata."""
    return np.random.default_rng(seed).integers(1, 6000, (13, height, width)).astype(dtype)


def ndwi_mask(green: NDArray[Any], nir: NDArray[Any]) -> NDArray[np.uint8]:
    """What the model of the tests answers, computed without it."""
    return (green.astype(np.float64) > nir).astype(np.uint8)


class TestRadiometry:
    """An offset changes NDWI, so that a wrong rule changes the mask."""

    @staticmethod
    def values() -> NDArray[np.uint16]:
        pixels = scene(40, 40)
        pixels[GREEN], pixels[NIR] = 1500, 1400  # NDWI 0.034; without 1000 of offset 0.11
        return pixels

    @pytest.fixture
    def strict(self, water: UseCase, make_model: Any) -> Service:
        return open_service(make_model(water, threshold=0.08), water)

    def test_gdal_tags(self, strict: Service, tiff: Any, decode: Any) -> None:
        plain = ask(strict, tiff(self.values(), names=S2))
        tagged = ask(strict, tiff(self.values(), names=S2, scale=(0.0001, -0.1)))
        assert (decode(plain.body).pixels == 0).all()
        assert (decode(tagged.body).pixels == 1).all()
        assert tagged.headers["Terraloop-Radiometry"] == "scale=0.0001 offset=-0.1 (gdal)"

    def test_query(self, strict: Service, tiff: Any, decode: Any) -> None:
        said = ask(strict, tiff(self.values(), names=S2), "scale=0.0001&offset=-0.1")
        assert (decode(said.body).pixels == 1).all()
        assert said.headers["Terraloop-Radiometry"] == "scale=0.0001 offset=-0.1 (request)"

    def test_gdal_tags_count_before_the_query(self, strict: Service, tiff: Any) -> None:
        body = tiff(self.values(), names=S2, scale=(0.0001, -0.1))
        assert ask(strict, body, "scale=0.0001").headers["Terraloop-Radiometry"].endswith("(gdal)")

    def test_an_offset_that_only_the_values_tell(self, strict: Service, tiff: Any, decode: Any) -> None:
        """As `chip` finds it in the same pixels: cirrus is near 0 over clear ground, here it is near 1000."""
        values = self.values()
        values[CIRRUS] = 1012
        found = ask(strict, tiff(values, names=S2))
        assert (decode(found.body).pixels == 1).all()
        assert found.headers["Terraloop-Radiometry"] == "scale=0.0001 offset=-0.1 (values)"
        tensor = json.dumps({"inputs": values[np.newaxis].tolist()}).encode()
        same = ask(strict, tensor, content_type="application/json")
        assert np.all(json.loads(same.body)["predictions"])
        assert same.headers["Terraloop-Radiometry"] == "scale=0.0001 offset=-0.1 (values)"
        said = ask(strict, tiff(values, names=S2), "scale=0.0001")
        assert said.headers["Terraloop-Radiometry"] == "scale=0.0001 offset=0 (request)"

    def test_a_batch_has_one_radiometry(self, strict: Service) -> None:
        values = np.stack([self.values(), self.values()])
        values[0, CIRRUS], values[1, CIRRUS] = 1012, 12
        tensor = json.dumps({"inputs": values.tolist()}).encode()
        with pytest.raises(DataRefused, match="the images differ"):
            ask(strict, tensor, content_type="application/json")
        assert ask(strict, tensor, "scale=0.0001", content_type="application/json").body

    @pytest.mark.parametrize(
        "query",
        ["scale=0", "scale=-1", "scale=nan", "scale=inf", "scale=1e300", "scale=x", "scale=", "offset=-0.1",
         "ofset=1", "scale=1&scale=2", "scale=1;offset=2", "scale=0.0001&offset=%00"],
    )  # fmt: skip
    def test_impossible_queries_are_refused(self, strict: Service, tiff: Any, query: str) -> None:
        with pytest.raises(UsageError):
            ask(strict, tiff(self.values(), names=S2), query)
