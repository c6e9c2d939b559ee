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
"""Greatest difference of a logit between the exported graph and the module it came from."""

RELATIVE: Final = 1e-5
"""The same as a part of the greatest logit, where that is more: float32 rounds large numbers more coarsely."""

LOGITS: Final = "logits"
"""Name of the output that a check adds to a graph."""

EXAMPLE: Final = (9, 13)
"""Height and width of the example that is traced, in steps of the grid: what divides no network's sizes, unequal."""


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
    # A batch of 1, equal sides or a coarsest resolution of one pixel would be frozen into the graph.
    example = torch.zeros(2, bands, EXAMPLE[0] * GRID, EXAMPLE[1] * GRID)
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
    """Compare the exported graph with the module on chips `[N, bands, H, W]`; the greatest difference of a logit.

    Raises:
        TerraloopError: If a logit differs by `TOLERANCE` or more (by `RELATIVE` of the greatest logit, where that is
            more), or a pixel's class differs. Pixels whose two best logits are nearer to each other than twice
            that limit are the one exception: rounding alone may decide them, and in them the class may differ.
    """
    import onnxruntime
    import torch

    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(chips)).numpy()
    session = onnxruntime.InferenceSession(graph_with_logits(graph), providers=["CPUExecutionProvider"])
    probability, found = session.run(["probability", LOGITS], {"reflectance": chips})
    difference = float(np.abs(found - expected).max())
    limit = max(TOLERANCE, RELATIVE * float(np.abs(expected).max()))
    ranked = np.sort(expected, axis=1)
    decided = ranked[:, -1] - ranked[:, -2] > 2 * limit
    other = int(((probability.argmax(axis=1) != expected.argmax(axis=1)) & decided).sum())
    if not difference < limit or other:
        raise TerraloopError(
            f"ONNX Runtime and torch differ: logits by {difference:.2g}, the class of {other} pixels",
            where="model.onnx",
            fix="This is a fault of the export; nothing was registered",
        )
    logging.getLogger(__name__).info("export: ONNX Runtime equals torch, logits to %.1e", difference)
    return difference


def graph_with_logits(graph: bytes) -> bytes:
    """The same graph with a second output, `LOGITS`: what goes into the softmax at its end. Not for serving."""
    import onnx

    model = onnx.load_from_string(graph)
    (last,) = (node for node in model.graph.node if "probability" in node.output)
    if last.op_type != "Softmax":
        raise TerraloopError(f"the graph ends with {last.op_type}, not with a softmax", where="model.onnx")
    model.graph.node.append(onnx.helper.make_node("Identity", [last.input[0]], [LOGITS]))
    shape = ["batch", None, "height", "width"]
    model.graph.output.append(onnx.helper.make_tensor_value_info(LOGITS, onnx.TensorProto.FLOAT, shape))
    data: bytes = model.SerializeToString()
    return data


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
