"""Tensors of gRPC's messages, raw or typed, as arrays, and masks as its answers."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from mlserver.grpc import dataplane_pb2 as messages
from numpy.typing import NDArray

from eo_data.errors import DataRefused, UsageError
from eo_serving.declaration import MASK
from eo_serving.tensors import V2_DTYPES, check_dimensions

_CONTENTS: Final = {
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents",
}  # fmt: skip
"""Where numbers of a type stand that are not sent raw; half floats come raw only."""


def read_tensor(request: Any) -> NDArray[Any]:
    """The one tensor of a request, raw or typed.

    Raises:
        UsageError: If there is not exactly one.
        DataRefused: If it is of a type that no sensor has, or its values do not fill its shape.
    """
    if len(request.inputs) != 1:
        raise UsageError(
            f"{len(request.inputs)} tensors, one is needed", where="inputs", fix="Send one [N, bands, height, width]"
        )
    (tensor,) = request.inputs
    dtype = V2_DTYPES.get(tensor.datatype)
    if dtype is None:
        raise DataRefused(
            "values of this type are no numbers of a sensor", where="inputs", fix=f"Send one of {', '.join(V2_DTYPES)}"
        )
    shape = tuple(tensor.shape)
    check_dimensions(shape, "inputs")
    size = 1
    for side in shape:
        size *= side
    if request.raw_input_contents:
        raw = request.raw_input_contents[0]
        fits = len(request.raw_input_contents) == 1 and len(raw) == size * np.dtype(dtype).itemsize
        values = np.frombuffer(raw, np.dtype(dtype).newbyteorder("<")) if fits else np.empty(0)
    else:
        field = _CONTENTS.get(tensor.datatype)
        values = np.array(getattr(tensor.contents, field) if field else [])
        fits = values.size == size
        if fits and values.size and np.dtype(dtype).kind in "iu":
            bounds = np.iinfo(dtype)
            if values.min() < bounds.min or values.max() > bounds.max:
                raise DataRefused(
                    f"a value is no {tensor.datatype}", where="inputs", fix="Send values of the declared type"
                )
    if not fits or min(shape, default=0) < 1:
        raise DataRefused("the values do not fill the shape", where="inputs", fix="Correct the shape")
    return values.astype(dtype, copy=False).reshape(shape)


def write_response(request: Any, model: str, answers: list[tuple[str, NDArray[Any]]]) -> Any:
    """The answer to a request: raw where it was, typed where it was not.

    Args:
        request: The message that is answered.
        model: Label of the version that answers, NAME/VERSION.
        answers: The outputs in their order.
    """
    outputs, raw = [], []
    for name, values in answers:
        datatype = "UINT8" if name == MASK else "FP32"
        contents = None
        if request.raw_input_contents:
            raw.append(np.ascontiguousarray(values, dtype=V2_DTYPES[datatype]).tobytes())
        else:
            contents = messages.InferTensorContents(**{_CONTENTS[datatype]: values.ravel().tolist()})
        outputs.append(
            messages.ModelInferResponse.InferOutputTensor(
                name=name, datatype=datatype, shape=values.shape, contents=contents
            )
        )
    return messages.ModelInferResponse(
        model_name=request.model_name,
        model_version=model.rpartition("/")[2],
        id=request.id,
        outputs=outputs,
        raw_output_contents=raw,
    )
