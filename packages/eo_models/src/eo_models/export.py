"""From torch to one code-free ONNX file, with nothing in it but the graph (design 4.3)."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from eo_data.errors import TerraloopError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onnx import GraphProto, ModelProto, NodeProto
    from torch import nn

    from eo_data.tiling import Pixels

OPSET: Final = 18

TOLERANCE: Final = 1e-4
"""Greatest difference of a probability between the exported graph and the module it came from."""


def export_network(network: nn.Module, bands: int) -> bytes:
    """The network with its probabilities as the bytes of `model.onnx`.

    Batch, height and width are dynamic. The network is set to evaluation.

    Args:
        network: Reflectance x 10000 `[N, bands, H, W]` to logits.
        bands: How many it reads.
    """
    import torch

    from eo_models.configuration import GRID
    from eo_models.unet import Probability

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of the operators of a missing torchvision
    for name in ("onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.WARNING)  # a line per pass over the graph
    module = Probability(network).eval()
    # A batch of 1 or equal sides would be frozen into the graph.
    example = torch.zeros(2, bands, 4 * GRID, 5 * GRID)
    auto = torch.export.Dim.AUTO
    with warnings.catch_warnings():
        # The exporter's own use of what torch has deprecated: nothing that a user could change.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        exported = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: auto, 2: auto, 3: auto},),
            input_names=["reflectance"],
            output_names=["probability"],
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    if exported is None:
        raise TerraloopError("torch exported nothing", where="model.onnx")
    return graph_bytes(exported.model_proto)


def graph_bytes(model: ModelProto) -> bytes:
    """The bytes of a graph once everything that is not the graph is gone: equal graphs give equal bytes.

    The exporter leaves stack traces with the machine's paths in metadata and doc strings.
    """
    _clear(model)
    for function in model.functions:
        _clear(function)
        _clear_all(function.value_info)
        _clear_nodes(function.node)
    _clear_graph(model.graph)
    name_dimensions(model.graph)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def name_dimensions(graph: GraphProto) -> None:
    """Call the dynamic dimensions of input and output what they are."""
    for value in (*graph.input, *graph.output):
        for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    del graph.value_info[:]  # shapes in between, in the exporter's own symbols; runtimes infer them


def check_export(network: nn.Module, graph: bytes, chips: Pixels) -> float:
    """Compare the exported graph with the module on chips `[N, bands, H, W]`; the greatest difference.

    Raises:
        TerraloopError: If a probability differs by `TOLERANCE`, or the most probable class of a pixel
            differs where torch's margin is more than twice that.
    """
    import onnxruntime
    import torch

    from eo_models.unet import Probability

    with torch.inference_mode():
        expected = Probability(network).eval()(torch.from_numpy(chips)).numpy()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found = session.run(["probability"], {"reflectance": chips})[0]
    difference = float(np.abs(found - expected).max())
    ranked = np.sort(expected, axis=1)
    # Classes that are as good as equally probable may change places by rounding; others may not.
    decided = ranked[:, -1] - ranked[:, -2] > 2 * TOLERANCE
    other = int(((found.argmax(axis=1) != expected.argmax(axis=1)) & decided).sum())
    if not difference < TOLERANCE or other:
        raise TerraloopError(
            f"ONNX Runtime and torch differ: probabilities by {difference:.2g}, the class of {other} pixels",
            where="model.onnx",
            fix="This is a fault of the export; nothing was registered",
        )
    logging.getLogger(__name__).info("export: ONNX Runtime equals torch to %.1e", difference)
    return difference


def _clear_graph(graph: GraphProto) -> None:
    _clear(graph)
    for values in (graph.input, graph.output, graph.value_info, graph.initializer):
        _clear_all(values)
    _clear_nodes(graph.node)


def _clear_nodes(nodes: Iterable[NodeProto]) -> None:
    for node in nodes:
        _clear(node)
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _clear_graph(graph)


def _clear_all(parts: Iterable[Any]) -> None:
    for part in parts:
        _clear(part)


def _clear(part: Any) -> None:
    for field in ("doc_string", "metadata_props"):
        part.ClearField(field)
