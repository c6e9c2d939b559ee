from __future__ import annotations

import math

import pytest
import torch

from eo_models.losses import class_weights, segmentation_loss


def test_pixels_that_are_not_scored_teach_nothing() -> None:
    logits = torch.randn(2, 2, 4, 4, requires_grad=True)
    labels = torch.randint(0, 2, (2, 4, 4))
    labels[:, :2] = 255
    torch.autograd.backward(segmentation_loss(logits, labels, torch.ones(2), 1.0))
    assert logits.grad is not None
    assert torch.equal(logits.grad[:, :, :2], torch.zeros(2, 2, 2, 4))
    assert (logits.grad[:, :, 2:] != 0).all()


def test_a_minibatch_without_a_scored_pixel_has_no_loss() -> None:
    loss = segmentation_loss(torch.randn(1, 2, 4, 4), torch.full((1, 4, 4), 255), torch.ones(2), 1.0)
    assert loss.item() == 0


def test_loss_prefers_what_is_right() -> None:
    labels = torch.tensor([[[0, 1], [1, 0]]])
    right = torch.stack([1 - labels, labels], dim=1).float() * 20
    weights = torch.ones(2)
    assert segmentation_loss(right, labels, weights, 1.0) < 0.01
    assert segmentation_loss(-right, labels, weights, 1.0) > 5


def test_class_weights() -> None:
    assert class_weights([900, 100], 0) == [1.0, 1.0]
    assert class_weights([900, 100], 1) == pytest.approx([0.2, 1.8])
    assert class_weights([900, 0], 0.5) == [2.0, 0.0]


# Two pixels of class 0 and one of class 1 that are scored, one that is not; class 1 gets these probabilities.
PROBABILITY = torch.tensor([[[0.2, 0.4], [0.9, 0.5]]])
LABELS = torch.tensor([[[0, 0], [1, 255]]])
LOGITS = torch.stack([torch.zeros_like(PROBABILITY), torch.log(PROBABILITY / (1 - PROBABILITY))], dim=1)
WEIGHTS = torch.tensor([1.0, 3.0])


def test_cross_entropy_by_hand() -> None:
    expected = -(math.log(0.8) + math.log(0.6) + 3 * math.log(0.9)) / (1 + 1 + 3)
    assert segmentation_loss(LOGITS, LABELS, WEIGHTS, 0.0).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("focal", [0.5, 2.0])
def test_focal_by_hand(focal: float) -> None:
    terms = [(1, 0.8), (1, 0.6), (3, 0.9)]
    expected = -sum(weight * (1 - p) ** focal * math.log(p) for weight, p in terms) / 5
    assert segmentation_loss(LOGITS, LABELS, WEIGHTS, 0.0, focal).item() == pytest.approx(expected, rel=1e-5)


def test_dice_by_hand() -> None:
    entropy = segmentation_loss(LOGITS, LABELS, WEIGHTS, 0.0).item()
    expected = 1 - (2 * 0.9 + 1) / ((0.2 + 0.4 + 0.9) + 1 + 1)
    found = segmentation_loss(LOGITS, LABELS, WEIGHTS, 0.5).item()
    assert found == pytest.approx(entropy + 0.5 * expected, rel=1e-5)


def test_dice_is_the_mean_over_the_classes_but_the_first() -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2])).view(1, 3, 1, 1)
    found = segmentation_loss(logits, torch.tensor([[[2]]]), torch.ones(3), 1.0).item()
    dice = ((1 - 1 / (0.3 + 1)) + (1 - (2 * 0.2 + 1) / (0.2 + 1 + 1))) / 2
    assert found == pytest.approx(-math.log(0.2) + dice, rel=1e-5)


def test_focal_loss_of_what_is_right_has_finite_gradients() -> None:
    logits = torch.tensor([[-200.0, 200.0]]).view(1, 2, 1, 1).requires_grad_()
    torch.autograd.backward(segmentation_loss(logits, torch.ones(1, 1, 1), torch.ones(2), 1.0, 0.5))
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_shares_of_a_minibatch_add_up_to_its_loss_and_gradient() -> None:
    generator = torch.Generator().manual_seed(3)
    whole = torch.randn(4, 2, 6, 6, generator=generator)
    labels = torch.randint(0, 2, (4, 6, 6), generator=generator)
    labels[0, :3] = 255  # shares do not hold equally many scored pixels
    expected = whole.clone().requires_grad_()
    loss = segmentation_loss(expected, labels, WEIGHTS, 1.0, 2.0)
    torch.autograd.backward(loss)
    shares = (slice(0, None, 2), slice(1, None, 2))
    sums: list[torch.Tensor] = []

    def note(own: torch.Tensor) -> torch.Tensor:
        sums.append(own)
        return own

    for share in shares:
        segmentation_loss(whole[share], labels[share], WEIGHTS, 1.0, 2.0, note)
    for share, others in zip(shares, reversed(sums), strict=True):
        part = whole[share].clone().requires_grad_()
        found = segmentation_loss(part, labels[share], WEIGHTS, 1.0, 2.0, others.add)
        torch.autograd.backward(found)
        assert found.item() == pytest.approx(loss.item(), rel=1e-5)
        assert expected.grad is not None
        torch.testing.assert_close(part.grad, expected.grad[share])
