"""Torch against ONNX Runtime, one thread each, one tile at a time: the exported graph beside the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from benchmarks.models.precision import FORMS, PLAIN
from benchmarks.protocol import Check, Kind, Variant
from eo_data.errors import TerraloopError
from eo_data.tiling import Pixels
from eo_models.export import TOLERANCE, check_export, export_network
from eo_models.unet import Probability

EAGER: Final = "tile {}: torch, eager"
INFERENCE: Final = "tile {}: torch, inference_mode"
LAST: Final = "tile {}: torch, inference_mode, channels_last"
ONNX: Final = "tile {}: ONNX Runtime"
TEMPLATES: Final = (EAGER, INFERENCE, LAST, ONNX)
EQUAL: Final = "torch and ONNX Runtime give the same logits"
PIXELS: Final = 4 * 256 * 256
"""That a round goes through, at least."""


def make_variants(
    network: nn.Module, scene: Pixels, sizes: Sequence[int]
) -> tuple[list[Variant], dict[str, Check], float]:
    """All runtimes at all tile sizes, the check of equality, and the greatest difference of a logit.

    Args:
        network: A trained one, on the processor.
        scene: `[bands, H, W]`, reflectance x 10000; tiles are cut from it.
        sizes: Of tiles, pixels.
    """
    import onnxruntime

    graph = export_network(network, scene.shape[0])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    plain, last = (form.prepared(Probability(network)).eval() for form in (PLAIN, FORMS[1]))
    variants, tiles = [], {size: cut_tiles(scene, size) for size in sizes}
    for size, cut in tiles.items():
        runs: dict[str, Callable[[Pixels], Any]] = {
            EAGER: _torch(plain, torch.contiguous_format),
            INFERENCE: torch.inference_mode()(_torch(plain, torch.contiguous_format)),
            LAST: torch.inference_mode()(_torch(last, torch.channels_last)),
            ONNX: _onnx(session),
        }
        for template, run in runs.items():
            kind: Kind = "ours" if template == ONNX else "peer"
            variants.append(Variant(template.format(size), _repeat(run, cut), kind))
    check, difference = compare(network, graph, list(tiles.values()))
    return variants, {EQUAL: check}, difference


def compare(network: nn.Module, graph: bytes, tiles: Sequence[Sequence[Pixels]]) -> tuple[Check, float]:
    """Logits of ONNX Runtime and of torch in channels_last against torch as it is; the greatest difference.

    Args:
        network: Gives logits.
        graph: What was exported.
        tiles: Each `[1, bands, H, W]`, a list per size.
    """
    greatest, last = 0.0, FORMS[1].prepared(network).eval()
    try:
        for cut in tiles:
            chips = np.concatenate(list(cut[:2]))
            greatest = max(greatest, check_export(network, graph, chips))
            with torch.inference_mode():
                images = torch.from_numpy(chips)
                gap = PLAIN.logits(network, images) - FORMS[1].logits(last, images)
            greatest = max(greatest, float(gap.abs().max()))
    except TerraloopError as error:
        return Check(False, str(error)), float("inf")
    said = f"{len(tiles)} tile sizes, greatest difference of a logit {greatest:.2g}, and every class the same"
    return Check(greatest < TOLERANCE, said), greatest


def cut_tiles(scene: Pixels, size: int) -> list[Pixels]:
    """As many tiles `[1, bands, size, size]` as hold `PIXELS`, at least one; around the scene where it is too small."""
    count = max(1, PIXELS // size**2)
    side = scene.shape[1] // size
    places = [(number // side % side * size, number % side * size) for number in range(count)]
    return [np.ascontiguousarray(scene[None, :, top : top + size, left : left + size]) for top, left in places]


def _torch(module: nn.Module, layout: torch.memory_format) -> Callable[[Pixels], Any]:
    def run(tile: Pixels) -> Any:
        return module(torch.from_numpy(tile).contiguous(memory_format=layout)).detach().numpy()

    return run


def _onnx(session: Any) -> Callable[[Pixels], Any]:
    def run(tile: Pixels) -> Any:
        return session.run(["probability"], {"reflectance": tile})[0]

    return run


def _repeat(run: Callable[[Pixels], Any], tiles: Sequence[Pixels]) -> Callable[[], int]:
    def all_tiles() -> int:
        for tile in tiles:
            run(tile)
        return len(tiles)

    return all_tiles
