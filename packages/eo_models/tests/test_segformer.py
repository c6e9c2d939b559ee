from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from eo_data.errors import UsageError
from eo_data.usecase import UseCase
from eo_models.configuration import SegFormerSizes, TrainSection, train_section
from eo_models.networks import build_network
from eo_models.segformer import SegFormer
from eo_models.training import train, train_network
from eo_models.unet import Reflectance

from .conftest import SECTIONS, World

SMALL = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "heads": [1, 1, 2, 2], "decoder": 16}
BLENDED = {"tile": 96, "halo": 16, "blend": 16}


def network(bands: int = 4, classes: int = 2, seed: int = 0) -> SegFormer:
    torch.manual_seed(seed)
    reflectance = Reflectance([800.0] * bands, [400.0] * bands, [(1, 2)])
    sizes = SegFormerSizes.model_validate(SMALL)
    return SegFormer(reflectance, classes=classes, sizes=sizes).eval()


def pixels(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(1).integers(-200, 4000, shape).astype(np.float32)


@pytest.mark.parametrize(("bands", "classes"), [(3, 2), (7, 2), (13, 5)])
def test_it_reads_any_number_of_bands(bands: int, classes: int) -> None:
    logits = network(bands, classes)(torch.from_numpy(pixels(2, bands, 64, 32)))
    assert logits.shape == (2, classes, 64, 32)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (33, 17), (64, 104)])
def test_it_reads_any_height_and_width(height: int, width: int) -> None:
    image = torch.from_numpy(pixels(1, 4, height, width))
    filled = torch.nn.functional.pad(image, (0, -width % 32, 0, -height % 32), mode="replicate")
    found = network()(image)
    assert found.shape == (1, 2, height, width)
    torch.testing.assert_close(found, network()(filled)[..., :height, :width])


def test_it_looks_at_the_whole_tile() -> None:
    image = torch.from_numpy(pixels(1, 4, 96, 96)).requires_grad_()
    network()(image)[0, 1, 3, 3].backward()
    assert image.grad is not None
    reached = image.grad[0].abs().sum(dim=0)
    assert float(reached[-8:, -8:].max()) > 0


def test_equal_seeds_give_equal_weights() -> None:
    first, second, other = (network(seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"tiles": {"tile": 96, "halo": 32, "blend": 0}}, "SegFormer looks at the whole tile.*tiles.blend"),
        ({"tiles": BLENDED, "segformer": {"heads": [3, 1, 1, 1]}}, "train.segformer.*divides"),
        ({"tiles": BLENDED, "segformer": {"depths": [0, 1, 1, 1]}}, "train.segformer.*at least 1"),
        ({"tiles": BLENDED, "segformer": {"width": 3}}, "train.segformer.width"),
    ],
)
def test_impossible_ones_are_named(values: dict[str, object], named: str) -> None:
    sections = {**SECTIONS, "train": {**SECTIONS["train"], "network": "SegFormer", **values}}  # type: ignore[dict-item]
    with pytest.raises(UsageError, match=named):
        train_section(UseCase("made-up", sections))


def test_without_the_extra_it_is_named(make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)  # as if it were not installed
    world = make_world(train={"network": "SegFormer", "tiles": BLENDED})
    section = train_section(world.usecase)
    with pytest.raises(UsageError, match=r"extra 'segformer'.*not installed"):
        build_network(Reflectance([1.0], [1.0], []), 2, section)
    with pytest.raises(UsageError, match=r"eo-models\[segformer\]"):
        train(world.store, world.usecase, world.dataset.uri, progress=False)
    assert build_network(Reflectance([1.0], [1.0], []), 2, TrainSection()) is not None


def test_a_use_case_may_name_it(make_world: Callable[..., World]) -> None:
    world = make_world(
        train={"network": "SegFormer", "segformer": SMALL, "tiles": BLENDED, "epochs": 6, "learning_rate": 0.01}
    )
    section = train_section(world.usecase)
    losses: list[float] = []
    artifact = train_network(
        world.usecase,
        world.dataset,
        section,
        [(1, 2)],
        lambda figures, epoch: losses.append(float(figures["loss"] or 0)),
        progress=False,
    )
    assert losses[-1] < 0.8 * losses[0]
    description = artifact.description
    assert (description.architecture, description.tiling.blend) == ("SegFormer", 16)
    assert description.total_parameters == sum(
        parameter.numel()
        for parameter in build_network(Reflectance([0.0] * 4, [1.0] * 4, [(1, 2)]), 2, section).parameters()
    )
    assert description.parameters["train"]["segformer"]["hidden_sizes"] == SMALL["hidden_sizes"]
    artifact.model().self_test()


def test_its_dropout_is_of_training_alone() -> None:
    torch.manual_seed(0)
    reflectance = Reflectance([800.0] * 4, [400.0] * 4, [])
    dropping = SegFormer(reflectance, classes=2, sizes=SegFormerSizes.model_validate(SMALL), dropout=0.5)
    image = torch.from_numpy(pixels(2, 4, 32, 32))
    assert not torch.equal(dropping.train()(image), dropping(image))
    dropping.eval()
    assert torch.equal(dropping(image), dropping(image))
