"""One call of `/invocations`, without a network: content type, query and body in, the answer's bytes out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

import numpy as np

from eo_data.errors import UsageError
from eo_data.tiling import array_reader
from eo_serving.call import Call
from eo_serving.doubts import HEADER as WARNING
from eo_serving.doubts import doubts, refuse_undeclared
from eo_serving.media import GEOJSON, JSON, NPY, TIFF, MediaType, Offer, negotiate
from eo_serving.problem import UnsupportedType
from eo_serving.raster_answers import RASTER_ANSWERS, npy_file
from eo_serving.raster_bodies import OpenBody, RasterBody, open_body
from eo_serving.raster_limits import check_size
from eo_serving.service import Service
from eo_serving.tensors import check_shape, parse_json, parse_npy, to_reflectance

if TYPE_CHECKING:
    from eo_data.radiometry import Radiometry
    from eo_serving.input_sample import InputStatistics

NPY_PROBABILITY: Final = Offer(NPY, (("band", "probability"),))
TENSOR_OFFERS: Final = {
    JSON: (Offer(JSON), Offer(NPY), NPY_PROBABILITY),
    NPY: (Offer(NPY), Offer(JSON), NPY_PROBABILITY),
}


@dataclass(frozen=True)
class Invocation:
    """What a client sent.

    Attributes:
        content_type: The Content-Type header.
        accept: The Accept header; None where there is none.
        query: The query string, without its question mark.
        body: The body.
        item: What a STAC item says of the body's values, as JSON; the front alone sends it. None without an item.
        seconds: In which the answer must be ready; None for what the use case allows.
    """

    content_type: str
    accept: str | None
    query: str
    body: bytes
    item: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Answer:
    """What goes back.

    Attributes:
        content_type: The type that was agreed on.
        body: The answer.
        headers: Which model answered, what the values meant, and what is doubtful about them.
        sample: What the input was like; None where nobody asked.
    """

    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    sample: InputStatistics | None = None


@dataclass(frozen=True)
class Query:
    """What the query string may say of the values that are sent.

    Attributes:
        radiometry: Scale and offset, each None where it is not said.
        bands: Names of the bands in their order; None where they are not said.
    """

    radiometry: tuple[float | None, float | None] = (None, None)
    bands: tuple[str, ...] | None = None

    @classmethod
    def parse(cls, text: str) -> Query:
        """Read `scale`, `offset` and `bands`.

        Raises:
            UsageError: If a key is unknown or stands twice, or a value is impossible.
        """
        said: dict[str, str] = {}
        for key, value in parse_qsl(text, keep_blank_values=True):
            if key not in {"scale", "offset", "bands"} or key in said:
                raise UsageError(
                    f"'{key[:40]}' is unknown or stands twice", where="query", fix="Known: scale, offset, bands"
                )
            said[key] = value
        scale, offset = (cls._number(said, key) for key in ("scale", "offset"))
        if scale is not None and scale <= 0:
            raise UsageError("a scale is greater than 0", where="scale", fix="Such as scale=0.0001")
        names = said["bands"].split(",") if "bands" in said else None
        return cls((scale, offset), None if names is None else tuple(name.strip() for name in names))

    @staticmethod
    def _number(said: Mapping[str, str], key: str) -> float | None:
        if key not in said:
            return None
        try:
            number = float(said[key])
        except ValueError:
            number = math.nan
        if not abs(number) <= 1e6:
            raise UsageError(f"'{said[key][:40]}' is no {key}", where=key, fix="Such as scale=0.0001&offset=-0.1")
        return number


def answer(invocation: Invocation, service: Service, call: Call | None = None, opener: OpenBody = open_body) -> Answer:
    """Answer one call.

    Args:
        invocation: What was sent.
        service: What answers.
        call: By when, and what its time goes to.
        opener: Opens rasters: in this process, or in one of their own.

    Raises:
        TerraloopError: If it is refused; `eo_serving.problem` has the status of each.
    """
    call = call or Call()
    kind = MediaType.parse(invocation.content_type)
    is_raster = kind.name == TIFF and kind.parameters.get("application", "geotiff") == "geotiff"
    if not is_raster and kind.name not in TENSOR_OFFERS:
        raise UnsupportedType(
            f"a body of type '{kind.name or 'none'}' is not taken",
            where="Content-Type",
            fix=f"Send {TIFF}, {JSON}, {NPY} or {GEOJSON}",
        )
    if not invocation.body:
        raise UsageError("the body is empty", where="body", fix="Send a GeoTIFF, or JSON with 'inputs'")
    query = Query.parse(invocation.query)
    if is_raster:
        return _answer_raster(invocation, query, service, call, opener)
    return _answer_tensor(invocation, query, service, call)


def _answer_tensor(invocation: Invocation, query: Query, service: Service, call: Call) -> Answer:
    kind = MediaType.parse(invocation.content_type).name
    offer = negotiate(invocation.accept, TENSOR_OFFERS[kind])
    with call.stage("decode"):
        values = parse_json(invocation.body) if kind == JSON else parse_npy(invocation.body)
        count, shape = check_shape(values)
        check_size(service.serve.limits, shape, count)
        batch = to_reflectance(values, service.data, request=query.radiometry, bands=query.bands, check=call.check)
    masks = np.empty((count, *shape), dtype=np.uint8)
    classes = len(service.model.description.output.classes) if offer is NPY_PROBABILITY else 0
    probability = np.empty((count, classes, *shape), dtype=np.float32)
    for number in range(count):
        read = array_reader(batch.pixels[number], batch.valid[number])
        for rows in service.rows(read, shape, call):
            at = slice(rows.top, rows.top + rows.mask.shape[0])
            masks[number, at] = rows.mask
            if classes:
                probability[number, :, at] = rows.probability
    with call.stage("encode"):
        array = probability if classes else masks
        body = npy_file(array) if offer.name == NPY else json.dumps({"predictions": masks.tolist()}).encode()
    return _answer(offer, body, batch.radiometry, service, call)


def _answer_raster(invocation: Invocation, query: Query, service: Service, call: Call, opener: OpenBody) -> Answer:
    offer = negotiate(invocation.accept, tuple(RASTER_ANSWERS))
    said = {} if invocation.item is None else json.loads(invocation.item)
    sent = RasterBody(
        invocation.body, service.data, service.serve.limits, query.radiometry, query.bands,
        said.get("asset"), said.get("properties"),
    )  # fmt: skip
    with call.stage("decode"), opener(sent, call.left) as image:
        if call.sample is not None:
            call.sample.locate(image)
        with call.stage("encode"):
            body = RASTER_ANSWERS[offer](image, service, call)
        return _answer(offer, body, image.radiometry, service, call)


def _answer(offer: Offer, body: bytes, rule: Radiometry, service: Service, call: Call) -> Answer:
    """An answer with what it says of itself.

    Raises:
        DataRefused: If the input cannot be what it was taken for.
    """
    headers = service.identity(rule)
    if call.sample is None:
        return Answer(offer.name, body, headers)
    found, expect = call.sample.statistics(), service.data.expectations
    refuse_undeclared(found, rule, expect)
    if said := doubts(found, rule, expect):
        headers[WARNING] = "; ".join(said)
    return Answer(offer.name, body, headers, found)
