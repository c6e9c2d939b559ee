"""A network of pixels: what a pixel reflects and the means around it, and nothing further away."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eo_models.unet import Reflectance


class PixelNetwork(nn.Module):
    """Two hidden layers over each pixel's bands, indices and their means over windows around it.

    A handful of labelled hectares shows enough pixels to learn spectra from and too few places to learn shapes
    from. Where that is all there is, this keeps a U-Net from learning the places by heart. Any height and width;
    a window at the border averages what lies within.

    Args:
        reflectance: The normalisation.
        classes: How many classes.
        channels: Width of the hidden layers.
        windows: Sides of the windows, odd, pixels.
        dropout: Share of the hidden features that a training step leaves out.
    """

    def __init__(
        self, reflectance: Reflectance, *, classes: int, channels: int, windows: Sequence[int], dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.reflectance = reflectance
        self.windows = tuple(windows)
        self.layers = nn.Sequential(
            nn.Conv2d(reflectance.channels * (1 + len(self.windows)), channels, 1),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Conv2d(channels, channels, 1),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Conv2d(channels, classes, 1),
        )

    def forward(self, reflectance: Tensor) -> Tensor:
        """Logits `[N, classes, H, W]` of reflectance x 10000 `[N, bands, H, W]`."""
        features = self.reflectance(reflectance)
        means = [
            nn.functional.avg_pool2d(features, side, stride=1, padding=side // 2, count_include_pad=False)
            for side in self.windows
        ]
        logits: Tensor = self.layers(torch.cat([features, *means], dim=1))
        return logits
