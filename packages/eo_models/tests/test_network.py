from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from eo_data.errors import TerraloopError
from eo_data.tiling import TilePlan, predict_array
from eo_models.configuration import receptive_radius
from eo_models.export import check_export, export_network
from eo_models.unet import Probability, Reflectance, UNet

BANDS = 4


def small(convolutions: tuple[int, int, int, int] = (1, 1, 1, 1), seed: int = 0) -> UNet:
    """A network with weights and statistics as after some training."""
    torch.manual_seed(seed)
    reflectance = Reflectance([800.0] * BANDS, [400.0] * BANDS, [(1, 2)])
    network = UNet(reflectance, classes=2, channels=4, convolutions=convolutions)
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(2, BANDS, 32, 32) * 2000)
    return network.eval()


def pixels(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).integers(-200, 4000, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 40, 64), (3, 128, 24)])
def test_any_height_and_width_that_eight_divides(shape: tuple[int, int, int]) -> None:
    number, height, width = shape
    logits = small()(torch.from_numpy(pixels(number, BANDS, height, width)))
    assert logits.shape == (number, 2, height, width)


def test_normalisation_knows_missing_data_and_bounds_what_is_extreme() -> None:
    reflectance = Reflectance([800.0] * BANDS, [400.0] * BANDS, [(1, 2)])
    image = torch.full((1, BANDS, 1, 4), 800.0)
    image[:, :, :, 1] = 0
    image[:, :, :, 2] = 30_000
    image[:, 1, :, 3], image[:, 2, :, 3] = 500, -500  # a plain quotient would be 1000/0
    features = reflectance(image)
    assert features.shape == (1, BANDS + 1, 1, 4)
    assert torch.equal(features[:, :BANDS, :, 0], torch.zeros(1, BANDS, 1))
    assert torch.equal(features[..., 1], torch.zeros(1, BANDS + 1, 1))
    assert features[:, :BANDS, :, 2].max() == Reflectance.LIMIT
    assert torch.isfinite(features).all()
    assert features[0, BANDS, 0, 3] == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize("convolutions", [(1, 1, 1, 1), (2, 1, 1, 1), (2, 2, 1, 1), (2, 2, 2, 2)])
def test_the_network_looks_as_far_as_it_is_said_to(convolutions: tuple[int, int, int, int]) -> None:
    network = small(convolutions)
    for module in network.modules():  # no ReLU hides a path, no maximum prefers one
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            torch.nn.init.constant_(module.weight, 0.05)
    side = 16 * 8
    reached = 0
    for centre in range(side // 2, side // 2 + 8):
        image = torch.full((1, BANDS, side, side), 900.0, requires_grad=True)
        # Average pooling passes a gradient to every pixel that maximum pooling might pick.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.nn.functional, "max_pool2d", torch.nn.functional.avg_pool2d)
            network(image)[0, 1, centre, centre].backward()
        assert image.grad is not None
        rows = torch.nonzero(image.grad[0].abs().sum(dim=(0, 2)))
        reached = max(reached, centre - int(rows.min()), int(rows.max()) - centre)
    assert reached == receptive_radius(convolutions)


def test_where_tiles_lie_makes_no_difference() -> None:
    module = Probability(small())
    image = pixels(BANDS, 150, 203)
    valid = np.ones(image.shape[1:], dtype=bool)

    def predict(tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            result: NDArray[np.float32] = module(torch.from_numpy(tiles)).numpy()
        return result

    small_tiles, large_tiles = (
        predict_array(image, valid, predict, TilePlan(tile=tile, halo=32, blend=0)) for tile in (96, 304)
    )
    np.testing.assert_allclose(small_tiles, large_tiles, atol=1e-5)
    np.testing.assert_array_equal(small_tiles.argmax(axis=0), large_tiles.argmax(axis=0))


def test_exported_graph_equals_the_module() -> None:
    import onnxruntime

    network = small((2, 1, 1, 1))
    graph = export_network(network, BANDS)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for shape in ((1, 64, 64), (3, 40, 96), (2, 8, 8)):
        chips = pixels(shape[0], BANDS, *shape[1:])
        chips[:, :, :3] = 0
        with torch.inference_mode():
            expected = Probability(network)(torch.from_numpy(chips)).numpy()
        found = session.run(["probability"], {"reflectance": chips})[0]
        np.testing.assert_allclose(found, expected, atol=1e-4)
        np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
        assert check_export(network, graph, chips) < 1e-4


def test_exported_graph_is_plain_and_described() -> None:
    graph = export_network(small(), BANDS)
    model = onnx.load_from_string(graph)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    assert not model.metadata_props
    assert not model.graph.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    shapes = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (model.graph.input[0], model.graph.output[0])
    ]
    assert shapes == [["batch", BANDS, "height", "width"], ["batch", 2, "height", "width"]]
    assert [model.graph.input[0].name, model.graph.output[0].name] == ["reflectance", "probability"]


def test_dropout_is_of_training_alone() -> None:
    torch.manual_seed(0)
    reflectance = Reflectance([800.0] * BANDS, [400.0] * BANDS, [(1, 2)])
    network = UNet(reflectance, classes=2, channels=4, convolutions=(1, 1, 1, 1), dropout=0.5)
    image = torch.from_numpy(pixels(2, BANDS, 32, 32))
    assert not torch.equal(network.train()(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))
    assert b"Dropout" not in export_network(network, BANDS)


def test_another_network_is_not_taken_for_its_export() -> None:
    network = small()
    graph = export_network(network, BANDS)
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.head.weight += torch.tensor([0.5, -0.5]).view(2, 1, 1, 1)
    with pytest.raises(TerraloopError, match="differ"):
        check_export(other, graph, pixels(2, BANDS, 32, 32))
