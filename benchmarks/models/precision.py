"""Precision and memory layout: what each costs in training and inference, and how far it is from plain float32."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from benchmarks.models.training_loop import Batch, segmentation_loss
from benchmarks.protocol import Kind, Variant
from eo_models.configuration import TrainSection


@dataclass(frozen=True)
class Form:
    """How a network computes.

    Attributes:
        name: In tables.
        bfloat16: Whether convolutions run under autocast to it.
        channels_last: Whether channels lie side by side in memory.
    """

    name: str
    bfloat16: bool
    channels_last: bool

    @property
    def layout(self) -> torch.memory_format:
        """Torch's word for the layout."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def prepared(self, network: nn.Module) -> nn.Module:
        """A copy in this layout."""
        copied: Any = copy.deepcopy(network)
        result: nn.Module = copied.to(memory_format=self.layout)
        return result

    def logits(self, network: nn.Module, images: Tensor) -> Tensor:
        """Logits as float32; `network` was prepared."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bfloat16):
            result: Tensor = network(images.contiguous(memory_format=self.layout))
        return result.float()


PLAIN: Final = Form("float32", bfloat16=False, channels_last=False)
FORMS: Final = (
    PLAIN,
    Form("float32, channels_last", bfloat16=False, channels_last=True),
    Form("bfloat16", bfloat16=True, channels_last=False),
    Form("bfloat16, channels_last", bfloat16=True, channels_last=True),
)
PRODUCT: Final = FORMS[1].name
"""What the product trains in unless the `train` section says bfloat16."""

TRAIN: Final = "train, {}"
INFER: Final = "infer, {}"


@dataclass(frozen=True)
class Agreement:
    """How near two sets of logits are.

    Attributes:
        argmax: Share of pixels of the same class.
        logit: Greatest difference of a logit.
    """

    argmax: float
    logit: float

    @classmethod
    def of(cls, found: Tensor, expected: Tensor) -> Agreement:
        """Of logits `[N, classes, H, W]`."""
        same = (found.argmax(dim=1) == expected.argmax(dim=1)).double().mean()
        return cls(float(same), float((found - expected).abs().max()))


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given; a processor has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def train_steps(form: Form, network: nn.Module, batches: Sequence[Batch], section: TrainSection) -> nn.Module:
    """A copy of the network after one step on each batch."""
    trained = form.prepared(network).train().requires_grad_()  # of an average, which is followed, not trained
    optimizer = torch.optim.AdamW(trained.parameters(), lr=section.learning_rate, weight_decay=section.weight_decay)
    weights = torch.ones(2, device=batches[0][0].device)
    for images, labels in batches:
        optimizer.zero_grad()
        torch.autograd.backward(segmentation_loss(form.logits(trained, images), labels, weights, section.dice))
        optimizer.step()
    return trained.eval()


def make_variants(
    network: nn.Module, batches: Sequence[Batch], tiles: Tensor, section: TrainSection
) -> tuple[list[Variant], dict[str, Agreement]]:
    """All forms, and how near each is to plain float32.

    Args:
        network: A trained one, on the device of the data.
        batches: What is trained on; the networks after it are compared by their float32 logits of the tiles.
        tiles: `[N, bands, H, W]`, what is inferred, one at a time.
        section: The `train` section.
    """
    variants, near = [], {}
    plain: dict[str, Tensor] = {}
    for form in FORMS:
        trained = train_steps(form, network, batches, section)
        ready = form.prepared(network).eval()
        with torch.inference_mode():
            found = {
                TRAIN.format(form.name): PLAIN.logits(PLAIN.prepared(trained), tiles),
                INFER.format(form.name): torch.cat([form.logits(ready, tile[None]) for tile in tiles]),
            }
        if form is PLAIN:
            plain = {name.removesuffix(form.name): logits for name, logits in found.items()}
        for name, logits in found.items():
            near[name] = Agreement.of(logits, plain[name.removesuffix(form.name)])
        kind: Kind = "ours" if form.name == PRODUCT else "peer"
        variants.append(Variant(TRAIN.format(form.name), _training(form, network, batches, section), kind))
        variants.append(Variant(INFER.format(form.name), _inference(form, ready, tiles)))
    return variants, near


def _training(form: Form, network: nn.Module, batches: Sequence[Batch], section: TrainSection) -> Callable[[], int]:
    def run() -> int:
        train_steps(form, network, batches, section)
        synchronise(batches[0][0].device)
        return sum(len(images) for images, _ in batches)

    return run


def _inference(form: Form, ready: nn.Module, tiles: Tensor) -> Callable[[], int]:
    def run() -> int:
        with torch.inference_mode():
            for tile in tiles:
                form.logits(ready, tile[None])
        synchronise(tiles.device)
        return len(tiles)

    return run
