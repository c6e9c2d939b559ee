"""Bodies that are no raster, or none that can be answered: each is refused for its own reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eo_data.errors import DataRefused, UsageError
from eo_serving.call import Call
from eo_serving.invocation import Answer, Invocation, answer
from eo_serving.problem import HttpRefusal, NotOffered, OutOfTime, TooLarge, UnsupportedType
from eo_serving.service import Service

S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
INPUTS = ("B02", "B03", "B04", "B08", "B11", "B12")
GREEN, NIR = 2, 7  # places in the full list


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


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "kind", "reason"),
        [
            (b"", UsageError, "empty"),
            (b"junk", DataRefused, "no GeoTIFF"),
            (b"<!doctype html><html><body>404</body></html>", DataRefused, "no GeoTIFF"),
            (b"II*\x00", DataRefused, "truncated or damaged"),
            (b"\x89PNG\r\n\x1a\n" + bytes(64), DataRefused, "no GeoTIFF"),
            (b'<VRTDataset rasterXSize="1" rasterYSize="1"/>', DataRefused, "no GeoTIFF"),
        ],
        ids=["empty", "junk", "html", "magic", "png", "vrt"],
    )
    def test_what_is_no_tiff(self, service: Service, body: bytes, kind: type[Exception], reason: str) -> None:
        with pytest.raises(kind, match=reason):
            ask(service, body)

    @pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.99])
    @pytest.mark.parametrize(
        "creation", [{}, {"compress": "deflate"}, {"tiled": True, "blockxsize": 64, "blockysize": 64}]
    )
    def test_truncated_tiffs(self, service: Service, tiff: Any, share: float, creation: dict[str, Any]) -> None:
        body = tiff(scene(200, 200), names=S2, **creation)
        with pytest.raises(DataRefused, match="truncated or damaged"):
            ask(service, body[: int(len(body) * share)])

    def test_damaged_pixels(self, service: Service, tiff: Any) -> None:
        smooth = np.broadcast_to(np.arange(1, 401, dtype=np.uint16), (13, 400, 400))
        body = bytearray(tiff(np.ascontiguousarray(smooth), names=S2, compress="deflate"))
        middle = len(body) // 2
        body[middle : middle + 2000] = b"\xa5" * 2000
        with pytest.raises(DataRefused, match="cannot be decoded"):
            ask(service, bytes(body))

    def test_complex_values(self, service: Service, tiff: Any) -> None:
        with pytest.raises(DataRefused, match="complex"):
            ask(service, tiff(np.ones((13, 4, 4), np.complex64), names=S2))

    def test_over_the_limits_before_decoding(self, service: Service, tiff: Any) -> None:
        sparse = tiff(np.zeros((13, 1, 20_000), np.uint8), names=S2, sparse_ok=True)
        with pytest.raises(TooLarge, match="16384 on a side"):
            ask(service, sparse)

    def test_out_of_time(self, service: Service, tiff: Any) -> None:
        call = Invocation("image/tiff", None, "", tiff(scene(20, 20), names=S2))
        with pytest.raises(OutOfTime):
            answer(call, service, Call(-1))

    def test_nothing_is_read_out_of_time(self, service: Service) -> None:
        def read(*_: int) -> Any:
            raise AssertionError("it was read")

        with pytest.raises(OutOfTime):
            next(service.rows(read, (20, 20), Call(-1)))

    @pytest.mark.parametrize(
        "content_type",
        ["", "text/plain", "text/csv", "application/octet-stream", "image/jpeg", "application/geo+json",
         "image/tiff; application=other", "garbage", "multipart/form-data; boundary=x"],
    )  # fmt: skip
    def test_other_types(self, service: Service, content_type: str) -> None:
        with pytest.raises(UnsupportedType, match="not taken") as refusal:
            ask(service, b"x", content_type=content_type)
        assert "image/tiff, application/json, application/x-npy or application/geo+json" in refusal.value.fix

    @pytest.mark.parametrize("accept", ["text/html", "application/geo+json;q=0", "image/jpeg", "image/tiff;q=0"])
    def test_answers_that_are_not_offered(self, service: Service, tiff: Any, accept: str) -> None:
        with pytest.raises(NotOffered) as refusal:
            ask(service, tiff(scene(4, 4), names=S2), accept=accept)
        assert refusal.value.fix.startswith("Offered: image/tiff, image/tiff; band=probability, application/geo+json")

    @pytest.mark.parametrize(
        ("accept", "given"),
        [
            ("*/*", "image/tiff"),
            ("image/*", "image/tiff"),
            ("image/tiff; application=geotiff", "image/tiff"),
            ("text/html, image/png;q=0.9, */*;q=0.1", "image/png"),
            ("image/png;q=0.5, image/tiff", "image/tiff"),
            ("image/tiff;q=0, image/*", "image/png"),
            ("image/tiff; name*=utf-8''x", "image/tiff"),
            ("image/tiff; name*=a; name*0=b, image/png", "image/png"),
        ],
    )
    def test_what_is_preferred_is_given(self, service: Service, tiff: Any, accept: str, given: str) -> None:
        assert ask(service, tiff(scene(4, 4), names=S2), accept=accept).content_type == given


class TestBlocks:
    """A block is unpacked whole: what it unpacks to is bounded, however small the body."""

    @pytest.mark.parametrize(("interleave", "size"), [("pixel", 13 * 700 * 700 * 8), ("band", 700 * 700 * 8)])
    def test_one_strip(self, service: Service, tiff: Any, decode: Any, interleave: str, size: int) -> None:
        flat = np.full((13, 700, 700), 700.0)
        strip = tiff(flat, names=S2, compress="deflate", interleave=interleave, blockysize=700)
        tiled = tiff(flat, names=S2, compress="deflate", interleave=interleave, tiled=True)
        assert len(strip) < 2**19
        with pytest.raises(TooLarge, match=rf"700 x 700 pixels, decodes to {size} bytes") as refusal:
            ask(_limited(service, max_block_bytes=size - 1), strip)
        assert "TILED=YES" in refusal.value.fix
        for body in (strip, tiled):
            mask = decode(ask(_limited(service, max_block_bytes=size), body).body)
            np.testing.assert_array_equal(mask.pixels, np.zeros((1, 700, 700)))
        assert decode(ask(_limited(service, max_block_bytes=size - 1), tiled).body).pixels.shape == (1, 700, 700)

    def test_all_blocks_together(self, service: Service, tiff: Any) -> None:
        small = _limited(service, max_block_bytes=2**20, max_pixels=512 * 512)
        creation = {"compress": "deflate", "interleave": "pixel", "tiled": True, "blockxsize": 64, "blockysize": 64}
        names = (*S2, *(f"extra{number}" for number in range(40)))
        whole = np.full((53, 512, 512), 700, np.uint16)
        with pytest.raises(TooLarge, match=f"decode to {whole.nbytes} bytes"):
            ask(small, tiff(whole, names=names, **creation))
        assert ask(small, tiff(whole[:13], names=S2, **creation)).content_type == "image/tiff"
        assert ask(small, tiff(whole, names=names, **{**creation, "interleave": "band"})).content_type == "image/tiff"


def _limited(service: Service, **limits: int) -> Service:
    changed = service.serve.limits.model_copy(update=limits)
    return replace(service, serve=service.serve.model_copy(update={"limits": changed}))


def test_refusals_have_a_status_each() -> None:
    def kinds(base: type[HttpRefusal]) -> list[type[HttpRefusal]]:
        return [kind for sub in base.__subclasses__() for kind in (sub, *kinds(sub))]

    stated = [kind.status for kind in kinds(HttpRefusal) if "status" in vars(kind)]
    assert sorted(stated) == [401, 404, 406, 408, 413, 415, 429, 503, 504]
