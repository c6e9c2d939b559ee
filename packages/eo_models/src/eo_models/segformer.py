"""SegFormer of the library transformers, made from sizes alone: for any bands, with fresh weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from eo_models.configuration import SegFormerSizes
from eo_models.unet import Reflectance


class SegFormer(nn.Module):
    """A hierarchical transformer whose every pixel may look at the whole tile; any height and width.

    The encoder attends at four resolutions, a decoder of pointwise layers puts them together at a quarter of the
    input's (Xie et al. 2021, arXiv 2105.15203). Nothing is fetched: weights are random. Borders of sizes that 32
    does not divide are repeated, so that each resolution is half of the one before.

    Args:
        reflectance: The normalisation.
        classes: How many classes.
        sizes: Of encoder and decoder.
        dropout: Share of the features that a training step leaves out.
    """

    STRIDE = 32
    """From the input to the coarsest resolution."""

    REDUCTION = 4
    """From the input to the logits of the decoder."""

    def __init__(self, reflectance: Reflectance, *, classes: int, sizes: SegFormerSizes, dropout: float = 0.0) -> None:
        super().__init__()
        from transformers import SegformerConfig, SegformerForSemanticSegmentation

        self.reflectance = reflectance
        settings: dict[str, Any] = {
            "num_channels": reflectance.channels,
            "num_labels": classes,
            "hidden_sizes": sizes.hidden_sizes,
            "depths": sizes.depths,
            "num_attention_heads": sizes.heads,
            "decoder_hidden_size": sizes.decoder,
            "hidden_dropout_prob": dropout,
            "classifier_dropout_prob": dropout,
            "drop_path_rate": 0.0,  # layers are few: none is left out
            "attn_implementation": "eager",  # the exported graph then holds what torch computes, step by step
        }
        self.model = SegformerForSemanticSegmentation(SegformerConfig(**settings))

    def forward(self, reflectance: Tensor) -> Tensor:
        """Logits `[N, classes, H, W]` of reflectance x 10000 `[N, bands, H, W]`."""
        height, width = reflectance.shape[-2:]
        features = self.reflectance(reflectance)
        features = features.index_select(2, self._repeated(height, features.device))
        features = features.index_select(3, self._repeated(width, features.device))
        logits = nn.functional.interpolate(
            self.model(features).logits, scale_factor=self.REDUCTION, mode="bilinear", align_corners=False
        )
        cut: Tensor = logits[:, :, :height, :width]
        return cut

    def _repeated(self, length: int, device: torch.device) -> Tensor:
        """Indexes of an axis up to the next multiple of the stride, the last one repeated.

        Indexes, not padding: an exported graph computes them for every size, where padding would be frozen.
        """
        padded = (length + self.STRIDE - 1) // self.STRIDE * self.STRIDE
        return torch.arange(padded, device=device).clamp(max=length - 1)
