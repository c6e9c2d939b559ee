"""JSON and npy in, masks out, without a network."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from eo_data.errors import DataRefused, TerraloopError, UsageError
from eo_data.usecase import UseCase
from eo_serving.invocation import Answer, Invocation, answer
from eo_serving.problem import NotOffered, Problem, TooLarge
from eo_serving.service import Service, open_service

INPUTS = [1, 2, 3, 7, 11, 12]  # places in the full list
GREEN, NIR = 1, 3  # places among the model's own


def ask(service: Service, document: Any, query: str = "", accept: str | None = None) -> Answer:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return answer(Invocation("application/json", accept, query, body), service)


def masks(result: Answer) -> NDArray[np.int64]:
    return np.array(json.loads(result.body)["predictions"])


def npy(array: NDArray[Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


@pytest.fixture
def batch() -> NDArray[np.int64]:
    """Three images of the model's own six bands, none of them nodata."""
    return np.random.default_rng(5).integers(1, 5000, (3, 6, 70, 50))


def expected(batch: NDArray[Any]) -> NDArray[np.int64]:
    return (batch[:, GREEN].astype(np.float64) > batch[:, NIR]).astype(np.int64)


@pytest.mark.parametrize("key", ["inputs", "instances"])
def test_mlflows_tensors(service: Service, batch: NDArray[Any], key: str) -> None:
    result = ask(service, {key: batch.tolist()})
    assert result.content_type == "application/json"
    np.testing.assert_array_equal(masks(result), expected(batch))
    assert result.headers["Terraloop-Model"] == "water/1"
    assert result.headers["Terraloop-Radiometry"] == "scale=0.0001 offset=0 (usecase)"


def test_fractions_count(service: Service, batch: NDArray[Any]) -> None:
    values = batch + 0.25
    np.testing.assert_array_equal(masks(ask(service, {"inputs": values.tolist()})), expected(values))


def test_one_pixel(service: Service) -> None:
    values = np.array([5, 9, 5, 4, 5, 5]).reshape(1, 6, 1, 1)
    assert json.loads(ask(service, {"inputs": values.tolist()}).body) == {"predictions": [[[1]]]}


def test_the_full_list_gives_the_same(service: Service, batch: NDArray[Any]) -> None:
    full = np.ones((3, 13, 70, 50), dtype=np.int64)
    full[:, INPUTS] = batch
    assert ask(service, {"inputs": full.tolist()}) == ask(service, {"inputs": batch.tolist()})


def test_the_query_names_bands(service: Service, batch: NDArray[Any]) -> None:
    backwards = {"inputs": batch[:, ::-1].tolist()}
    assert ask(service, backwards, "bands=B12,B11,nir,red,green,blue") == ask(service, {"inputs": batch.tolist()})
    with pytest.raises(DataRefused, match="2 band names for 6 bands"):
        ask(service, backwards, "bands=B12,B11")


def test_nodata_in_is_nodata_out(service: Service, batch: NDArray[Any]) -> None:
    batch[1, 4, 10, 10] = 0
    found = masks(ask(service, {"inputs": batch.tolist()}))
    assert found[1, 10, 10] == 255
    assert (found == 255).sum() == 1


def test_the_query_states_radiometry(water: UseCase, make_model: Any) -> None:
    strict = open_service(make_model(water, threshold=0.08), water)
    values = np.ones((1, 6, 2, 2))
    values[:, GREEN], values[:, NIR] = 1500, 1400
    plain, stated = ({"inputs": values.tolist()}, "scale=0.0001&offset=-0.1")
    assert masks(ask(strict, plain)).max() == 0
    result = ask(strict, plain, stated)
    assert masks(result).min() == 1
    assert result.headers["Terraloop-Radiometry"] == "scale=0.0001 offset=-0.1 (request)"


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i2", "<f4", "<f8", "u1"])
def test_npy_of_any_numbers(service: Service, dtype: str) -> None:
    values = np.random.default_rng(2).integers(1, 200, (6, 40, 30))
    for body in (npy(values.astype(dtype)), npy(np.asfortranarray(values[np.newaxis].astype(dtype)))):
        result = answer(Invocation("application/x-npy", None, "", body), service)
        assert result.content_type == "application/x-npy"
        np.testing.assert_array_equal(np.load(io.BytesIO(result.body)), expected(values[np.newaxis]))


def test_json_and_npy_may_be_crossed(service: Service, batch: NDArray[Any]) -> None:
    as_npy = ask(service, {"inputs": batch.tolist()}, accept="application/x-npy")
    np.testing.assert_array_equal(np.load(io.BytesIO(as_npy.body)), expected(batch))
    call = Invocation("application/x-npy", "application/json", "", npy(batch))
    np.testing.assert_array_equal(masks(answer(call, service)), expected(batch))
    with pytest.raises(NotOffered):
        ask(service, {"inputs": batch.tolist()}, accept="image/tiff")


def nested(*shape: int) -> list[Any]:
    filled: list[Any] = np.ones(shape).tolist()
    return filled


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "empty"),
        (b"{", 400, "no JSON"),
        (b"\xff\xfe{}", 400, "no JSON"),
        (b'{"inputs": [[[["\xff"]]]]}', 400, "no JSON"),
        (b"[" * 100_000, 400, "no JSON"),
        (b'{"inputs":' + b"[" * 150 + b"]" * 150 + b"}", 400, "ragged|no list|numbers"),
        (b'{"inputs": [[[[NaN]]]]}', 400, "no JSON"),
        (b'{"inputs": [[[[Infinity]]]]}', 400, "no JSON"),
        (b"[[1]]", 400, "no object"),
        (b'"text"', 400, "no object"),
        (b"null", 400, "no object"),
        (b"{}", 400, "found nothing"),
        ({"data": [1]}, 400, "found 'data'"),
        ({"inputs": [1], "instances": [1]}, 400, "nothing else"),
        ({"inputs": nested(1, 6, 2, 2), "params": {}}, 400, "nothing else"),
        ({"href": "https://127.0.0.1/x.tif"}, 400, "found 'href'"),
        ({"dataframe_split": {"columns": ["a"], "data": [[1]]}}, 400, "dataframe_split.*images"),
        ({"dataframe_records": [{"a": 1}]}, 400, "dataframe_records.*images"),
        ({"inputs": {"reflectance": nested(1, 6, 2, 2)}}, 400, "no list"),
        ({"inputs": "text"}, 400, "no list"),
        ({"inputs": None}, 400, "no list"),
        ({"inputs": [[[[1, 2], [3]]]]}, 400, "ragged"),
        ({"inputs": [[[["1", "2"]]]]}, 400, "numbers"),
        ({"inputs": [[[[1, "2"]]]]}, 400, "numbers"),
        ({"inputs": [[[[1, None]]]]}, 400, "numbers"),
        ({"inputs": ["a" * 1_000_000] + ["b"] * 2000}, 400, "numbers"),  # 8 GB, were it an array
        ({"inputs": [[[[True, False]]]]}, 400, "numbers"),
        ({"inputs": [[[[{}]]]]}, 400, "numbers"),
        ({"inputs": [[[[10**400]]]]}, 400, "numbers"),
        ({"inputs": []}, 422, r"shape \[0\]"),
        ({"inputs": nested(1, 6, 0)}, 422, "shape"),
        ({"inputs": nested(6, 4, 4)}, 422, r"shape \[6, 4, 4\]"),
        ({"inputs": nested(1, 1, 6, 4, 4)}, 422, "shape"),
        ({"inputs": nested(1, 5, 4, 4)}, 422, "5 bands without descriptions, but 13 or 6"),
        ({"inputs": nested(1, 4, 4, 6)}, 422, "4 bands"),
        (b'{"inputs": [[[[1e999]],[[1]],[[1]],[[1]],[[1]],[[1]]]]}', 422, "not finite"),
        (b'{"inputs": [[[[1e300]],[[1]],[[1]],[[1]],[[1]],[[1]]]]}', 422, "too great"),
        (b'{"inputs": [[[[-1e10]],[[1]],[[1]],[[1]],[[1]],[[1]]]]}', 422, "too great"),
    ],
)
def test_what_is_no_tensor_is_refused_with_its_reason(service: Service, body: Any, status: int, reason: str) -> None:
    with pytest.raises(TerraloopError, match=reason) as refusal:
        ask(service, body)
    problem = Problem.of(refusal.value)
    assert problem.status == status
    assert problem.fix
    assert len(problem.body()) < 1000  # nothing of what was sent is echoed at length


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"junk", 400),
        (b"\x93NUMPY", 400),
        (b"\x93NUMPY\x01\x00", 400),
        (b"\x93NUMPY\x03\x00" + bytes(100), 400),
        (npy(np.ones((6, 4, 4)))[:-1], 400),
        (npy(np.ones((6, 4, 4))) + b"x", 400),
        (npy(np.array([{}], dtype=object), allow_pickle=True), 422),
        (npy(np.ones((6, 4, 4), dtype=complex)), 422),
        (npy(np.ones((6, 4, 4), dtype=bool)), 422),
        (npy(np.array([["a"]])), 422),
        (npy(np.zeros((6, 4), "M8[s]")), 422),
        (npy(np.ones((6, 4))), 422),
        (npy(np.ones((1, 6, 0, 4))), 422),
        (npy(np.array(3.0)), 422),
        (npy(np.full((6, 2, 2), np.nan)), 422),
        (npy(np.full((6, 2, 2), np.inf)), 422),
        (npy(np.ones((5, 2, 2))), 422),
    ],
)
def test_what_is_no_npy_tensor_is_refused(service: Service, body: bytes, status: int) -> None:
    with pytest.raises(TerraloopError) as refusal:
        answer(Invocation("application/x-npy", None, "", body), service)
    assert Problem.of(refusal.value).status == status


def test_npy_headers_that_lie_about_their_size(service: Service) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (6, 4294967296, 4294967296), }"
    body = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    for text in (body, body.replace(b"4294967296, 4294967296", b"-1, -1")):
        with pytest.raises(UsageError, match=r"no npy|not as long"):
            answer(Invocation("application/x-npy", None, "", text), service)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (",
        b"{'descr': (), 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (\x001,), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (True, 1), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 1" + b"0" * 30 + b"), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"1, " * 70 + b"), }",
        b"{[]: 1}",
        b"-" * 9000 + b"1",
    ],
)
def test_npy_headers_that_are_none(service: Service, header: bytes) -> None:
    body = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(4)
    for sent in (body, body[:-4]):
        with pytest.raises(TerraloopError) as refusal:
            answer(Invocation("application/x-npy", None, "", sent), service)
        assert Problem.of(refusal.value).status in {400, 422}


def test_too_many_pixels(water: UseCase, make_model: Any, service: Service) -> None:
    from dataclasses import replace

    limits = service.serve.limits.model_copy(update={"max_pixels": 63})
    small = replace(service, serve=service.serve.model_copy(update={"limits": limits}))
    assert masks(ask(small, {"inputs": nested(1, 6, 7, 9)})).shape == (1, 7, 9)
    with pytest.raises(TooLarge, match="4 x 4 x 4 pixels"):
        ask(small, {"inputs": nested(4, 6, 4, 4)})


def test_a_model_of_other_bands_or_classes_is_not_served(water: UseCase, water_hls: UseCase, make_model: Any) -> None:
    with pytest.raises(DataRefused, match="the model reads B02"):
        open_service(make_model(water), water_hls)


def test_a_model_that_fails_its_golden_chip_is_not_served(water: UseCase, make_model: Any) -> None:
    with pytest.raises(DataRefused, match="golden chip"):
        open_service(make_model(water, golden="f" * 64), water)
