"""The precision of convolutions in training: float32, or bfloat16 where the processor has it and a trial agrees."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor, nn

from eo_models.configuration import TrainSection
from eo_models.losses import segmentation_loss

PrecisionName = Literal["float32", "bfloat16"]

LOSS_TOLERANCE: Final = 0.01
"""Greatest relative difference of the trial's loss from that of float32."""

LOGIT_TOLERANCE: Final = 0.05
"""Greatest root mean square difference of the trial's logits, in standard deviations of those of float32."""

INSTRUCTIONS: Final = ("avx512_bf16", "amx_bf16")
"""Without one of these torch computes bfloat16 by way of float32, which is slower than float32."""


@dataclass(frozen=True)
class Precision:
    """What convolutions are computed in, and why.

    Attributes:
        name: The precision.
        why: One sentence without a full stop.
        slow: Whether the processor has no instructions for it.
    """

    name: PrecisionName
    why: str
    slow: bool = False


@dataclass(frozen=True)
class Trial:
    """How far one minibatch in bfloat16 is from the same in float32.

    Attributes:
        loss: Difference of the loss, as a share of it.
        logits: Root mean square difference of the logits, in their standard deviations.
    """

    loss: float
    logits: float

    @property
    def agrees(self) -> bool:
        """Whether both stay within the tolerances; what is no number does not."""
        return self.loss <= LOSS_TOLERANCE and self.logits <= LOGIT_TOLERANCE

    def __str__(self) -> str:
        """In words."""
        return f"on the first minibatch the loss differs by {self.loss:.2%}, logits by {self.logits:.2%}"


def has_bfloat16() -> bool:
    """Whether the processor computes bfloat16 itself."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in INSTRUCTIONS)


def try_bfloat16(network: nn.Module, images: Tensor, labels: Tensor, weights: Tensor, section: TrainSection) -> Trial:
    """Compare one minibatch in both precisions, on copies of a network: it stays as it is.

    Args:
        network: Gives logits.
        images: `[N, bands, H, W]`.
        labels: `[N, H, W]`.
        weights: Per class.
        section: Names the loss.
    """
    images = images.contiguous(memory_format=torch.channels_last)
    found = []
    for enabled in (False, True):
        copy = deepcopy(network).train()
        for part in copy.modules():
            if isinstance(part, nn.Dropout | nn.Dropout2d):
                part.p = 0.0  # chance is not what is compared
        with torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16, enabled=enabled):
            logits = copy(images)
        logits = logits.float()
        found.append((logits, segmentation_loss(logits, labels, weights, section.dice, section.focal)))
    (exact, loss), (rough, rough_loss) = found
    spread = exact.std().clamp(min=1e-12)
    return Trial(
        loss=float((rough_loss - loss).abs() / loss.abs().clamp(min=1e-12)),
        logits=float((rough - exact).square().mean().sqrt() / spread),
    )


def choose_precision(
    wanted: Literal["float32", "bfloat16", "auto"], trial: Trial | None, *, supported: bool
) -> Precision:
    """What to train in.

    Args:
        wanted: `train.precision`.
        trial: Of `auto` where the processor has bfloat16; else None.
        supported: Whether it has.
    """
    if wanted == "float32":
        return Precision("float32", "the train section says so")
    if wanted == "bfloat16":
        return Precision("bfloat16", "the train section says so", slow=not supported)
    if not supported:
        return Precision("float32", "this processor has no bfloat16 instructions")
    if trial is None or not trial.agrees:
        return Precision("float32", f"bfloat16 is too coarse: {trial}")
    return Precision("bfloat16", str(trial))
