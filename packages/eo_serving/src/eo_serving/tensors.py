"""Tensors in requests: JSON as MLflow writes it and npy, `[N, bands, H, W]`, sensor values to reflectance."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from eo_data.bands import band_indexes
from eo_data.dark_band import array_low_quantile, dark_band_index
from eo_data.errors import DataRefused, UsageError
from eo_data.radiometry import Radiometry, choose_radiometry, with_offset_by_values

if TYPE_CHECKING:
    from eo_data.tiling import Pixels, Valid
    from eo_data.usecase import DataSection

GREATEST_VALUE: Final = 1e9
"""No sensor counts further; beyond it arithmetic in float32 would lose or overflow."""

V2_DTYPES: Final = {
    "FP16": "float16", "FP32": "float32", "FP64": "float64",
    "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64",
    "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64",
}  # fmt: skip
"""NumPy's names of the numbers of V2."""

MOST_DIMENSIONS: Final = 8
"""More than any tensor that is answered has; fewer than numpy can hold."""
_FORM: Final = 'Send {"inputs": [[[[...]]]]} or {"instances": ...}, numbers [N, bands, height, width]'


@dataclass(frozen=True)
class TensorBatch:
    """A batch of images of one size.

    Attributes:
        pixels: Reflectance x 10000 `[N, bands, H, W]`, the model's bands, 0 without data.
        valid: Where all bands have data, `[N, H, W]`.
        radiometry: The rule that was applied.
    """

    pixels: Pixels
    valid: Valid
    radiometry: Radiometry


def parse_json(body: bytes) -> NDArray[Any]:
    """The array of MLflow's `inputs` or `instances`.

    Raises:
        UsageError: If it is no JSON, another form, ragged, or holds something else than numbers.
    """
    try:
        document = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise UsageError(f"this is no JSON ({error})", where="body", fix=_FORM) from error
    if not isinstance(document, dict):
        raise UsageError("the JSON is no object", where="body", fix=_FORM)
    frames = [key for key in document if key.startswith("dataframe")]
    if frames:
        raise UsageError(f"'{frames[0]}' holds tables, this model reads images", where="body", fix=_FORM)
    if len(document) != 1 or not {"inputs", "instances"} & set(document):
        found = ", ".join(f"'{str(key)[:40]}'" for key in list(document)[:5]) or "nothing"
        raise UsageError(
            f"one of 'inputs' and 'instances' is needed, and nothing else; found {found}", where="body", fix=_FORM
        )
    return numeric_array(next(iter(document.values())))


def numeric_array(nested: Any) -> NDArray[Any]:
    """Nested lists of numbers as an array.

    Raises:
        UsageError: If they are no list, ragged, or hold something else than numbers.
    """
    if not isinstance(nested, list):
        raise UsageError("the tensor is no list", where="body", fix=_FORM)
    if _holds_text(nested):  # numpy would make text of all, each as long as the longest
        raise _no_numbers()
    try:
        values = np.asarray(nested)
    except ValueError as error:  # ragged, or nested deeper than an array can be
        raise UsageError("the lists are ragged: rows differ in length", where="body", fix=_FORM) from error
    if values.dtype.kind not in "iuf":
        raise _no_numbers()
    return values


def _holds_text(nested: list[Any]) -> bool:
    kinds = set(map(type, nested))
    return str in kinds or (list in kinds and any(_holds_text(one) for one in nested if type(one) is list))


def _no_numbers() -> UsageError:
    return UsageError(
        "the tensor holds something else than numbers (null, text, true or false, or too great a whole number)",
        where="body",
        fix="Mark missing pixels with the sensor's nodata value",
    )


def check_dimensions(shape: Sequence[int], where: str) -> None:
    """Refuse a stated shape that no array can have, before one is made.

    Raises:
        DataRefused: If it is none of at most `MOST_DIMENSIONS` whole numbers.
    """
    if len(shape) > MOST_DIMENSIONS or not all(type(side) is int for side in shape):
        raise DataRefused(f"a tensor of {len(shape)} dimensions; four are needed", where=where, fix=_FORM)


def parse_npy(body: bytes) -> NDArray[Any]:
    """The array of an npy file; `[bands, H, W]` becomes a batch of one. Pickled objects are never read.

    Raises:
        UsageError: If it is no npy file or not as long as its header says.
        DataRefused: If it holds something else than numbers.
    """
    stream = io.BytesIO(body)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        shape, fortran, dtype = readers[np.lib.format.read_magic(stream)](stream)
    except Exception as error:  # numpy evaluates the header: what a strange one raises is of many kinds
        raise UsageError("this is no npy file", where="body", fix="Write it with numpy.save") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise DataRefused(f"values of type {dtype} are no numbers of a sensor", where="body", fix="Send numbers")
    check_dimensions(shape, "body")
    size = dtype.itemsize
    for side in shape:  # not numpy's product: it would overflow without a word
        size *= side
    if min(shape, default=0) < 0 or size != len(body) - stream.tell():
        raise UsageError("the file is not as long as its header says", where="body", fix="Send the file again")
    order = "F" if fortran else "C"
    flat = np.frombuffer(body, dtype, offset=stream.tell())
    try:
        values: NDArray[Any] = flat.reshape(shape, order=order)  # type: ignore[call-overload]
    except ValueError as error:  # nothing, by more than there can be
        raise UsageError("no array has this shape", where="body", fix="Send the file again") from error
    values = values.astype(dtype.newbyteorder("="), copy=False)
    return values[np.newaxis] if values.ndim == 3 else values


def check_shape(values: NDArray[Any]) -> tuple[int, tuple[int, int]]:
    """How many images a batch holds, and their height and width.

    Raises:
        DataRefused: If it is not `[N, bands, H, W]`, or holds nothing.
    """
    if values.ndim != 4 or 0 in values.shape:
        raise DataRefused(
            f"a tensor of shape {list(values.shape)}; [N, bands, height, width] is needed", where="body", fix=_FORM
        )
    return values.shape[0], (values.shape[2], values.shape[3])


def to_reflectance(
    values: NDArray[Any],
    data: DataSection,
    *,
    request: tuple[float | None, float | None] = (None, None),
    bands: Sequence[str | None] | None = None,
    check: Callable[[], None] = lambda: None,
) -> TensorBatch:
    """Sensor values `[N, bands, H, W]` to what the model reads.

    Args:
        values: The model's own bands in its order, the use case's full list, or what `bands` names.
        data: The use case's data section.
        request: Scale and offset that the request states.
        bands: Names of the tensor's bands in their order.
        check: Called between two images; what it raises ends the work.

    Raises:
        DataRefused: If the bands fit no list, or a value is no sensor's.
    """
    names = (None,) * values.shape[1] if bands is None else tuple(bands)
    if len(names) != values.shape[1]:
        raise DataRefused(
            f"{len(names)} band names for {values.shape[1]} bands", where="bands", fix="Name each band once"
        )
    indexes = [i - 1 for i in band_indexes(names, data.bands, data.input_bands, "body")]
    chosen = values[:, indexes]
    if not np.isfinite(chosen).all() or float(chosen.max()) > GREATEST_VALUE or float(chosen.min()) < -GREATEST_VALUE:
        raise DataRefused(
            "a value is not finite, or too great for any sensor",
            where="body",
            fix="Mark missing pixels with the sensor's nodata value",
        )
    rule = _radiometry(values, names, data, request, check)
    pixels, valid = rule.reflectance(np.moveaxis(chosen, 1, 0))
    return TensorBatch(np.moveaxis(pixels, 0, 1), valid, rule)


def _radiometry(
    values: NDArray[Any],
    names: Sequence[str | None],
    data: DataSection,
    request: tuple[float | None, float | None],
    check: Callable[[], None],
) -> Radiometry:
    """The one rule of a batch, as a GeoTIFF of each image would get it.

    Raises:
        DataRefused: If the images need different ones.
    """
    stated = choose_radiometry(data.reflectance, request=request)
    index = dark_band_index(names, data)
    if stated.source != "usecase" or index is None:
        return stated
    rules = set()
    for band in values[:, index - 1]:
        check()  # a body may hold thousands of images of one pixel
        rules.add(with_offset_by_values(stated, data.reflectance, array_low_quantile(band, stated.nodata)))
    if len(rules) > 1:
        raise DataRefused(
            "the images differ: the values of some carry an offset, those of others do not",
            where="body",
            fix="Send them apart, or remove the offset and state scale and offset",
        )
    return rules.pop()
