"""A model version in memory: ONNX Runtime's session behind the shape that the tile plan calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eo_data.digests import mask_digest, sha256
from eo_data.errors import DataRefused
from eo_data.model.description import ModelDescription
from eo_data.tiling import predict_array
from eo_data.usecase import IGNORE

if TYPE_CHECKING:
    from eo_data.tiling import Pixels, Valid


class OnnxModel:
    """A graph and its description; call it with tiles, or ask it for the mask of an array.

    Args:
        graph: The bytes of `model.onnx`.
        description: Its `model.json`.
        threads: Threads of ONNX Runtime; results are bit-equal for any number.

    Raises:
        DataRefused: If the graph cannot be loaded or reads and gives other tensors than described.
    """

    def __init__(self, graph: bytes, description: ModelDescription, *, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no base class but Exception
            raise DataRefused(
                f"the graph cannot be loaded ({str(error).splitlines()[0][:200]})", where="model.onnx"
            ) from error
        self.description = description
        self.digest = sha256(graph)
        names = [[t.name for t in tensors] for tensors in (self._session.get_inputs(), self._session.get_outputs())]
        if names != [[description.input.name], [description.output.name]]:
            raise DataRefused(
                f"the graph's tensors are {names}, not those that model.json describes", where="model.onnx"
            )
        for tensor, wanted in (
            (self._session.get_inputs()[0], len(description.input.bands)),
            (self._session.get_outputs()[0], len(description.output.classes)),
        ):
            found = tensor.shape[1] if len(tensor.shape) == 4 else None
            if found is None or (isinstance(found, int) and found != wanted):  # a name stands for any number
                raise DataRefused(
                    f"the graph's tensor '{tensor.name}' is {tensor.shape}, model.json describes {wanted} channels",
                    where="model.onnx",
                )

    def __call__(self, tiles: Pixels) -> Pixels:
        """Probabilities `[n, classes, H, W]` of tiles `[n, bands, H, W]`, reflectance x 10000."""
        feed = {self.description.input.name: np.ascontiguousarray(tiles, dtype=np.float32)}
        result: Pixels = self._session.run([self.description.output.name], feed)[0]
        return result

    def probability(self, pixels: Pixels, valid: Valid) -> Pixels:
        """Probabilities `[classes, H, W]` of an array of any size through the version's own tile plan."""
        return predict_array(pixels, valid, self, self.description.tiling.plan())

    def mask(self, pixels: Pixels, valid: Valid) -> NDArray[np.uint8]:
        """The mask `[H, W]` of an array of any size: class index, 255 where `valid` is False."""
        return classify(self.probability(pixels, valid), valid)

    def self_test(self) -> None:
        """Predict the golden chip and compare.

        Raises:
            DataRefused: If the mask is another than the one that was recorded.
        """
        golden = self.description.golden
        pixels = golden.decode()
        found = mask_digest(self.mask(pixels, golden_valid(pixels)))
        if found != golden.mask_digest:
            raise DataRefused(
                f"the golden chip's mask has digest {found[:12]}, recorded is {golden.mask_digest[:12]}",
                where=f"{self.description.name} ({self.digest[:12]})",
                fix="Do not serve this version; train and register it again",
            )


def classify(probability: Pixels, valid: Valid) -> NDArray[np.uint8]:
    """The most probable class `[H, W]` of `[classes, H, W]`; the lower index on a tie, 255 without data.

    Where the graph gave no number (absurd values overflow inside it) nothing is known either.
    """
    known = valid & np.logical_and.reduce(np.isfinite(probability), axis=0)
    best, mask = probability[0], np.zeros(valid.shape, dtype=np.uint8)
    for value, own in enumerate(probability[1:], start=1):  # a quarter of the time of argmax over the first axis
        mask[own > best] = value
        best = np.maximum(best, own)
    mask[~known] = IGNORE
    return mask


def golden_valid(pixels: Pixels) -> Valid:
    """Where a golden chip has data: pixels that are 0 in every band have none."""
    valid: Valid = (pixels != 0).any(axis=0)
    return valid
