"""The loss of a minibatch: cross-entropy or focal loss, and Dice, over the pixels that are scored.

Everything is computed from sums over pixels. Where several processes share a minibatch, the sums are added up over
them first: the loss is that of the whole minibatch, whoever holds which of its chips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from eo_data.usecase import IGNORE

Total = Callable[[Tensor], Tensor]
"""Adds a tensor up over all processes, and lets gradients through; alone it is the identity."""

LEAST: Final = 1e-6
"""Of a sum of weights that is divided by, and of a focal factor's base: both may be 0."""


def alone(values: Tensor) -> Tensor:
    """The total of one process: its own."""
    return values


def segmentation_loss(
    logits: Tensor, labels: Tensor, weights: Tensor, dice: float, focal: float = 0.0, total: Total = alone
) -> Tensor:
    """Weighted cross-entropy (or focal loss) plus Dice over the pixels that are scored; 0 where none is.

    With `y` a pixel's class, `p` the probability given to it and `w` the weights per class

        entropy = sum of w[y] * (1 - p) ** focal * -log(p)  /  sum of w[y]

    which is cross-entropy at `focal` 0 and else the focal loss (Lin et al. 2017, arXiv 1708.02002). With `q` the
    probability of a class in a pixel and `t` 1 where the pixel is of that class, else 0

        dice = mean over classes but the first of 1 - (2 * sum of q * t + 1) / (sum of q + t + 1)

    (Milletari et al. 2016, arXiv 1606.04797, with plain sums below). One pixel more on both sides: a minibatch
    without the class and without a false alarm has no loss.

    Args:
        logits: `[N, classes, H, W]`, float32.
        labels: `[N, H, W]`, integers, 255 not scored.
        weights: Per class, for the entropy.
        dice: Weight of the Dice loss.
        focal: How much a pixel that is right counts less.
        total: Adds up over the processes that share the minibatch.
    """
    scored = labels != IGNORE
    known = torch.where(scored, labels, 0).long()
    share = weights[known] * scored
    entropy = nn.functional.cross_entropy(logits, known, reduction="none")
    if focal:
        entropy = entropy * (-torch.expm1(-entropy)).clamp(min=LEAST) ** focal
    parts = [torch.stack([(entropy * share).sum(), share.sum()])]
    if dice:
        probability = torch.softmax(logits, dim=1)[:, 1:] * scored[:, None]
        target = nn.functional.one_hot(known, logits.shape[1]).movedim(-1, 1)[:, 1:] * scored[:, None]
        parts += [(probability * target).sum(dim=(0, 2, 3)), (probability + target).sum(dim=(0, 2, 3))]
    sums = total(torch.cat(parts))
    loss = sums[0] / sums[1].clamp(min=LEAST)
    if not dice:
        return loss
    overlap, extent = sums[2:].chunk(2)
    return loss + dice * (1 - (2 * overlap + 1) / (extent + 1)).mean()


def class_weights(counts: Sequence[int], balance: float) -> list[float]:
    """Weights per class, frequency to the power of minus `balance`, with mean 1; 0 for a class that never occurs.

    Args:
        counts: Scored pixels per class in the training split; at least one.
        balance: From 0, all alike, to 1, each class as heavy as any other.
    """
    total = sum(counts)
    raw = [(number / total) ** -balance if number else 0.0 for number in counts]
    return [value * len(raw) / sum(raw) for value in raw]
