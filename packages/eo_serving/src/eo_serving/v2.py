"""The V2 (Open Inference) protocol: one tensor in, masks and, where they are asked for, probabilities out."""

from __future__ import annotations

from typing import Any

import numpy as np
from mlserver.codecs import NumpyCodec
from mlserver.types import Datatype, InferenceRequest, InferenceResponse, Parameters, RequestInput, ResponseOutput
from numpy.typing import NDArray

from eo_data.errors import DataRefused, UsageError
from eo_data.tiling import array_reader
from eo_serving.call import Call
from eo_serving.declaration import MASK, PROBABILITY
from eo_serving.doubts import HEADER as WARNING
from eo_serving.doubts import doubts, refuse_undeclared
from eo_serving.media import SAMPLE_HEADER
from eo_serving.metrics import TIMING, server_timing
from eo_serving.raster_limits import check_size
from eo_serving.service import Service
from eo_serving.tensors import V2_DTYPES, TensorBatch, check_dimensions, check_shape, numeric_array, to_reflectance


def infer(payload: InferenceRequest, service: Service, call: Call) -> InferenceResponse:
    """Answer one V2 request.

    Raises:
        TerraloopError: If it is refused.
    """
    if len(payload.inputs) != 1:
        raise UsageError(
            f"{len(payload.inputs)} tensors, one is needed", where="inputs", fix="Send one [N, bands, height, width]"
        )
    wanted = [output.name for output in payload.outputs or []] or [MASK]
    if not {MASK, PROBABILITY}.issuperset(wanted):
        raise UsageError("an unknown output is asked for", where="outputs", fix=f"Known: {MASK}, {PROBABILITY}")
    with call.stage("decode"):
        values = _tensor(payload.inputs[0])
        count, shape = check_shape(values)
        check_size(service.serve.limits, shape, count)
        batch = to_reflectance(values, service.data, check=call.check)
    results = _results(batch, service, call, with_probability=PROBABILITY in wanted)
    with call.stage("encode"):
        outputs = [_output(name, results[name]) for name in wanted]
    headers = {**service.identity(batch.radiometry), TIMING: server_timing(call.spent)}
    if call.sample is not None:
        found, expect = call.sample.statistics(), service.data.expectations
        refuse_undeclared(found, batch.radiometry, expect)
        if said := doubts(found, batch.radiometry, expect):
            headers[WARNING] = "; ".join(said)
        if service.serve.log.enabled:
            headers[SAMPLE_HEADER] = found.header()
    return InferenceResponse(
        model_name=service.label.split("/")[0],
        model_version=str(service.version),
        outputs=outputs,
        parameters=Parameters(headers=headers),
    )


def _tensor(tensor: RequestInput) -> NDArray[Any]:
    datatype = Datatype(tensor.datatype).value  # MLServer keeps the enum's value, types say the enum
    dtype = V2_DTYPES.get(datatype)
    if dtype is None:
        raise DataRefused(
            f"values of type {datatype} are no numbers of a sensor",
            where="inputs",
            fix=f"Send one of {', '.join(V2_DTYPES)}",
        )
    check_dimensions(tensor.shape, "inputs")
    values = numeric_array(tensor.data.root)
    size = 1
    for side in tensor.shape:
        size *= side
    if min(tensor.shape, default=0) < 1 or size != values.size:
        raise DataRefused(
            f"{values.size} values do not fill a tensor of shape {tensor.shape}",
            where="inputs",
            fix="Correct the shape",
        )
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        if values.min() < limits.min or values.max() > limits.max or (values != np.trunc(values)).any():
            raise DataRefused(f"a value is no {datatype}", where="inputs", fix="Send values of the declared type")
    return values.reshape(tensor.shape)


def _results(batch: TensorBatch, service: Service, call: Call, *, with_probability: bool) -> dict[str, NDArray[Any]]:
    """Masks `[N, H, W]` and, where they are asked for, probabilities `[N, classes, H, W]`, 0 without data."""
    count, height, width = batch.valid.shape
    classes = len(service.model.description.output.classes)
    masks = np.empty((count, height, width), dtype=np.uint8)
    probabilities = np.empty((count, classes, height, width) if with_probability else 0, dtype=np.float32)
    for number in range(count):
        read = array_reader(batch.pixels[number], batch.valid[number])
        for rows in service.rows(read, (height, width), call):
            at = slice(rows.top, rows.top + rows.mask.shape[0])
            masks[number, at] = rows.mask
            if with_probability:
                probabilities[number, :, at] = np.nan_to_num(rows.band.probability)
    return {MASK: masks, PROBABILITY: probabilities}


def _output(name: str, values: NDArray[Any]) -> ResponseOutput:
    return NumpyCodec.encode_output(name, values)
