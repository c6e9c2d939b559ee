"""Several networks as one: their logits averaged inside one graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Members(nn.Module):
    """Networks whose logits are averaged: the geometric mean of their probabilities, normalised.

    It costs what its members cost, in training and in service.

    Args:
        networks: Each reflectance x 10000 `[N, bands, H, W]` to logits `[N, classes, H, W]`.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, reflectance: Tensor) -> Tensor:
        """The mean logits `[N, classes, H, W]`."""
        return torch.stack([network(reflectance) for network in self.networks]).mean(dim=0)
