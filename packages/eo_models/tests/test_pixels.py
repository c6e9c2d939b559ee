from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from eo_data.errors import UsageError
from eo_data.tiling import Pixels, TilePlan, predict_array
from eo_data.usecase import UseCase
from eo_models.configuration import TrainSection, train_section
from eo_models.export import check_export, export_network
from eo_models.networks import NETWORKS, build_network
from eo_models.pixels import PixelNetwork
from eo_models.training import train_network
from eo_models.unet import Probability, Reflectance

from .conftest import SECTIONS, World

BANDS = 4


def network(windows: tuple[int, ...] = (3, 11)) -> PixelNetwork:
    torch.manual_seed(0)
    reflectance = Reflectance([800.0] * BANDS, [400.0] * BANDS, [(1, 2)])
    return PixelNetwork(reflectance, classes=2, channels=8, windows=windows).eval()


@pytest.mark.parametrize("windows", [(3,), (5,), (3, 11)])
def test_it_looks_half_a_window_far(windows: tuple[int, ...]) -> None:
    image = torch.full((1, BANDS, 40, 40), 900.0, requires_grad=True)
    network(windows)(image)[0, 1, 20, 20].backward()
    assert image.grad is not None
    rows = torch.nonzero(image.grad[0].abs().sum(dim=(0, 2)))
    section = TrainSection(network="pixels", windows=windows)
    assert 20 - int(rows.min()) == int(rows.max()) - 20 == section.radius == max(windows) // 2


def test_where_tiles_lie_makes_no_difference() -> None:
    module = Probability(network())
    image = np.random.default_rng(0).integers(-200, 4000, (BANDS, 70, 93)).astype(np.float32)
    valid = np.ones(image.shape[1:], dtype=bool)

    def predict(tiles: Pixels) -> Pixels:
        with torch.inference_mode():
            found: Pixels = module(torch.from_numpy(tiles)).numpy()
        return found

    first, second = (predict_array(image, valid, predict, TilePlan(tile, 8, 0)) for tile in (40, 128))
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_exported_graph_equals_the_module_on_any_size() -> None:
    module = network()
    graph = export_network(module, BANDS)
    for shape in ((1, 64, 64), (3, 40, 96)):
        chips = np.random.default_rng(1).integers(-200, 4000, (shape[0], BANDS, *shape[1:])).astype(np.float32)
        assert check_export(module, graph, chips) < 1e-4


def test_a_use_case_may_name_it(make_world: Callable[..., World]) -> None:
    world = make_world(train={"network": "pixels", "channels": 16, "epochs": 20, "learning_rate": 0.01})
    section = train_section(world.usecase)
    artifact = train_network(world.usecase, world.dataset, section, [(1, 2)], lambda *_: None, progress=False)
    assert artifact.description.architecture == "pixels"
    assert (artifact.description.metrics["validation_iou"] or 0) > 0.8
    artifact.model().self_test()


def test_every_network_of_the_table_can_be_built() -> None:
    reflectance = Reflectance([800.0] * BANDS, [400.0] * BANDS, [])
    for name in NETWORKS:
        section = TrainSection.model_validate({"network": name, "tiles": {"blend": 16}})
        logits = build_network(reflectance, 3, section)(torch.zeros(2, BANDS, 32, 32))
        assert logits.shape == (2, 3, 32, 32)


@pytest.mark.parametrize(("values", "named"), [({"windows": [4]}, "odd"), ({"network": "forest"}, "train.network")])
def test_impossible_ones_are_named(values: dict[str, object], named: str) -> None:
    sections = {**SECTIONS, "train": {**SECTIONS["train"], **values}}  # type: ignore[dict-item]
    with pytest.raises(UsageError, match=named):
        train_section(UseCase("made-up", sections))
