"""Sums over the processes that share a minibatch, and batch normalisation by them.

torch's own SyncBatchNorm refuses tensors of the CPU, and its differentiable all-reduce is deprecated.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn

from eo_models.losses import Total, alone


class _Sum(torch.autograd.Function):
    """The sum over all processes. What each loses by its part, all lose: gradients are summed too."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total


def total_over_processes(values: Tensor) -> Tensor:
    """The sum of a tensor over all processes, the same in each.

    A loss made of such sums is the same in each process. The gradient that reaches a weight is then `size` times
    this process's part of the loss's gradient, and their mean over processes, which is what DDP takes, is the
    gradient of the loss.
    """
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]  # torch leaves it without types
    return total


class SynchronizedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation by mean and variance of the whole minibatch; in evaluation torch's own, with its weights.

    Sums are of distances to the running mean: squares of values far from 0 would leave nothing of the variance.
    """

    total: Total = staticmethod(alone)

    def forward(self, values: Tensor) -> Tensor:
        """Normalised features `[N, channels, H, W]`; N may be 0 where others have chips."""
        if not self.training:
            plain: Tensor = super().forward(values)
            return plain
        origin = self.get_buffer("running_mean").clone()
        shifted = values - origin.view(1, -1, 1, 1)
        count = shifted.new_tensor([values.numel() / values.shape[1]])  # float32: bfloat16 counts to 256
        sums = self.total(torch.cat([shifted.sum(dim=(0, 2, 3)), (shifted * shifted).sum(dim=(0, 2, 3)), count]))
        number = sums[-1]
        mean, square = sums[:-1].view(2, -1) / number
        variance = (square - mean * mean).clamp(min=0)
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            self.get_buffer("running_mean").lerp_(origin + mean, momentum)
            self.get_buffer("running_var").lerp_(variance * number / (number - 1).clamp(min=1), momentum)
            self.get_buffer("num_batches_tracked").add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normalised: Tensor = (shifted - mean.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return normalised


def synchronize(network: nn.Module, total: Total) -> nn.Module:
    """Let every batch normalisation of a network go by the whole minibatch; names and weights stay.

    Args:
        network: Changed in place.
        total: Adds up over the processes.
    """
    for name, part in network.named_children():
        if isinstance(part, nn.BatchNorm2d):
            twin = SynchronizedBatchNorm2d(part.num_features, eps=part.eps, momentum=part.momentum or 0.1)
            twin.load_state_dict(part.state_dict())
            twin.total = total
            setattr(network, name, twin)
        else:
            synchronize(part, total)
    return network
