"""Which precision is trained in: by what the processor has, and by a trial."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from eo_models.configuration import TrainSection, train_section
from eo_models.fit import fit
from eo_models.precision import Trial, choose_precision, has_bfloat16, try_bfloat16
from eo_models.unet import Reflectance, UNet

from .conftest import World

GOOD, BAD = Trial(0.001, 0.01), Trial(0.001, 0.2)


@pytest.mark.parametrize(
    ("wanted", "trial", "supported", "name", "slow"),
    [
        ("float32", None, True, "float32", False),
        ("auto", None, False, "float32", False),
        ("auto", GOOD, True, "bfloat16", False),
        ("auto", BAD, True, "float32", False),
        ("auto", Trial(float("nan"), 0.0), True, "float32", False),
        ("bfloat16", None, True, "bfloat16", False),
        ("bfloat16", None, False, "bfloat16", True),
    ],
)
def test_the_choice(wanted: str, trial: Trial | None, supported: bool, name: str, slow: bool) -> None:
    chosen = choose_precision(wanted, trial, supported=supported)  # type: ignore[arg-type]
    assert (chosen.name, chosen.slow) == (name, slow)
    assert chosen.why


def test_the_trial_of_a_u_net_agrees_and_leaves_it_alone() -> None:
    torch.manual_seed(0)
    network = UNet(
        Reflectance([1000.0] * 4, [500.0] * 4, [(0, 1)]), classes=2, channels=8, convolutions=(2, 1, 1, 1), dropout=0.5
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images, labels = torch.rand(4, 4, 64, 64) * 3000, torch.randint(0, 2, (4, 64, 64))
    trial = try_bfloat16(network, images, labels, torch.ones(2), TrainSection())
    assert trial.agrees
    assert 0 < trial.logits < 0.05
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert network.dropout.p == 0.5


def test_the_trial_of_a_network_that_bfloat16_ruins_does_not_agree() -> None:
    class Difference(nn.Module):
        """Logits are small differences of large numbers, of which bfloat16 keeps nothing."""

        def __init__(self) -> None:
            super().__init__()
            self.near = nn.Conv2d(1, 2, 1, bias=False)
            nn.init.constant_(self.near.weight, 1.0)

        def forward(self, images: Tensor) -> Tensor:
            large: Tensor = self.near(images + 10000)
            return large - 10000

    images = torch.randn(2, 1, 16, 16)
    trial = try_bfloat16(Difference(), images, torch.ones(2, 16, 16).long(), torch.ones(2), TrainSection())
    assert not trial.agrees
    assert trial.logits > 1


def test_a_training_says_once_what_it_computes_in(
    make_world: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(train={"epochs": 1, "precision": "auto", "members": 1})
    caplog.set_level(logging.INFO)
    fitted = fit(world.dataset, train_section(world.usecase), [], lambda *_: None, progress=False)
    said = [record.message for record in caplog.records if "convolutions in" in record.message]
    assert len(said) == 1
    assert said[0].startswith(f"train: convolutions in {fitted.precision}: ")
    if not has_bfloat16():
        assert fitted.precision == "float32"
        assert said[0].endswith("this processor has no bfloat16 instructions")


@pytest.mark.skipif(has_bfloat16(), reason="this processor has bfloat16: nothing to warn of")
def test_bfloat16_by_name_works_without_instructions_and_is_called_slow(
    make_world: Callable[..., World], caplog: pytest.LogCaptureFixture
) -> None:
    world = make_world(train={"epochs": 1, "precision": "bfloat16"})
    fitted = fit(world.dataset, train_section(world.usecase), [], lambda *_: None, progress=False)
    assert fitted.precision == "bfloat16"
    assert "slower than float32 here" in caplog.text
