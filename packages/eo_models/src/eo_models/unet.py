"""The network: a small U-Net that reads reflectance x 10000 and carries its own normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eo_models.configuration import LEVELS


class Reflectance(nn.Module):
    """From reflectance x 10000 `[N, bands, H, W]` to what convolutions like, inside the graph.

    Bands are normalised by the training split's mean and standard deviation and clamped, so that a glint or a
    cloud cannot swamp the rest. Normalised differences of band pairs follow them; the denominator is of
    absolute values, hence they stay within -1 and 1 also where atmospheric correction left negative
    reflectances. Pixels that are 0 in every band have no data and become 0, the mean.

    Args:
        mean: Per band, reflectance x 10000.
        std: Per band, likewise.
        pairs: Indexes of the band pairs.
    """

    LIMIT = 5.0
    """Greatest normalised value, in standard deviations."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], pairs: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("scale", 1 / torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))
        self.pairs = tuple(pairs)
        self.channels = len(mean) + len(self.pairs)

    def forward(self, reflectance: Tensor) -> Tensor:
        """Features `[N, channels, H, W]`."""
        has_data = (reflectance != 0).any(dim=1, keepdim=True).to(reflectance.dtype)
        mean, scale = self.get_buffer("mean"), self.get_buffer("scale")
        features = [((reflectance - mean) * scale).clamp(-self.LIMIT, self.LIMIT)]
        for first, second in self.pairs:
            a, b = reflectance[:, first : first + 1], reflectance[:, second : second + 1]
            features.append(2 * (a - b) / (a.abs() + b.abs() + 1))
        return torch.cat(features, dim=1) * has_data


class UNet(nn.Module):
    """A U-Net of four resolutions with batch normalisation; any height and width that 8 divides.

    Batch normalisation folds into the convolutions once trained. Nothing in it looks at a whole tile (no
    instance norm, no global pooling), so that a pixel's class depends on its surroundings alone, wherever
    the tile lies (see `eo_models.configuration.TileShape`).

    Args:
        reflectance: The normalisation.
        classes: How many classes.
        channels: At full resolution; doubled at each halving.
        convolutions: 3 x 3 convolutions per resolution.
        dropout: Share of the feature maps below full resolution that a training step leaves out.
    """

    def __init__(
        self,
        reflectance: Reflectance,
        *,
        classes: int,
        channels: int,
        convolutions: Sequence[int],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(LEVELS)]
        inputs = [reflectance.channels, *widths[:-1]]
        self.reflectance = reflectance
        self.down = nn.ModuleList(map(_convolutions, inputs, widths, convolutions))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in widths[:-1])
        self.merge = nn.ModuleList(
            _convolutions(2 * width, width, count) for width, count in zip(widths[:-1], convolutions, strict=False)
        )
        self.head = nn.Conv2d(channels, classes, 1)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, reflectance: Tensor) -> Tensor:
        """Logits `[N, classes, H, W]` of reflectance x 10000 `[N, bands, H, W]`."""
        features = self.reflectance(reflectance)
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            features = block(features if level == 0 else nn.functional.max_pool2d(features, 2))
            skips.append(features)
        skips[1:] = [self.dropout(coarse) for coarse in skips[1:]]
        features = skips[-1]
        for level in range(LEVELS - 2, -1, -1):
            features = self.merge[level](torch.cat([skips[level], self.up[level](features)], dim=1))
        logits: Tensor = self.head(features)
        return logits


class Probability(nn.Module):
    """What is exported: the network with its probabilities.

    Args:
        network: Gives logits.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, reflectance: Tensor) -> Tensor:
        """Probabilities `[N, classes, H, W]` that add up to 1."""
        return torch.softmax(self.network(reflectance), dim=1)


def _convolutions(inputs: int, outputs: int, count: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(count):
        layers += [
            nn.Conv2d(inputs if number == 0 else outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
