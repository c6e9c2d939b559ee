"""Lightning against a bare loop: the same network, minibatches, loss, optimiser, schedule and average."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from benchmarks.models import training_loop
from benchmarks.models.training_loop import Batch
from benchmarks.protocol import Check, Measured, Summary, Variant
from eo_data.dataset import Dataset
from eo_models.configuration import TrainSection
from eo_models.networks import build_network
from eo_models.segmentation import Segmentation
from eo_models.unet import Reflectance

LIGHTNING: Final = "U-Net of `water`: Lightning"
BARE: Final = "U-Net of `water`: bare loop"
NULL_LIGHTNING: Final = "null model, {} steps: Lightning"
NULL_BARE: Final = "null model, {} steps: bare loop"
EQUAL: Final = "{}: Lightning and the bare loop end with the same weights"

NULL_SIDE: Final = 8
"""Height and width of the null model's chip, pixels."""


@dataclass(frozen=True)
class Pair:
    """The same training by two loops; each returns the module with its final weights.

    Attributes:
        lightning: The product's way.
        bare: Torch alone.
        work: How many chips (null model: steps) each goes through.
    """

    lightning: Callable[[], Segmentation]
    bare: Callable[[], Segmentation]
    work: int

    def variants(self, lightning: str, bare: str) -> list[Variant]:
        """Both under their names."""

        def counted(train: Callable[[], Segmentation]) -> Callable[[], int]:
            def run() -> int:
                train()
                return self.work

            return run

        return [Variant(lightning, counted(self.lightning), "ours"), Variant(bare, counted(self.bare))]


def train_bare(module: Segmentation, batches: Iterable[Batch], steps: int, device: torch.device) -> None:
    """What one would write without Lightning, around the module's network and average."""
    section = module.section
    module.to(device).train()
    weights = module.get_buffer("weights")
    optimizer = torch.optim.AdamW(
        module.network.parameters(), lr=section.learning_rate, weight_decay=section.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=section.learning_rate, total_steps=steps, pct_start=0.2
    )
    module.on_train_epoch_start()  # it seeds what is dropped
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        logits = module.network(images.contiguous(memory_format=torch.channels_last))
        torch.autograd.backward(training_loop.segmentation_loss(logits, labels, weights, section.dice))
        optimizer.step()
        schedule.step()
        module.average.update_parameters(module.network)


def unet_pair(dataset: Dataset, section: TrainSection, pairs: list[tuple[int, int]], device: torch.device) -> Pair:
    """One epoch of a `train` section's network on a dataset."""
    chips = len(dataset.chips("train"))
    statistics = dataset.statistics

    def fresh() -> Segmentation:
        torch.manual_seed(section.seed)
        network = build_network(Reflectance(statistics.mean, statistics.std, pairs), 2, section)
        return training_loop.make_module(network, section, [1.0, 1.0], dataset.manifest.chip_size)

    def lightning() -> Segmentation:
        module = fresh()
        training_loop.fit_with_lightning(module, training_loop.make_minibatches(dataset, section), device)
        return module

    def bare() -> Segmentation:
        module = fresh()
        batches = training_loop.training_batches(dataset, section)
        train_bare(module, batches, -(-chips // section.minibatch), device)
        return module

    return Pair(lightning, bare, chips)


def null_pair(steps: int, section: TrainSection, device: torch.device) -> Pair:
    """A network that does next to nothing, one tiny chip a step: what is left is the loop."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 2, NULL_SIDE, NULL_SIDE, generator=generator) * 4000
    label = torch.randint(0, 2, (1, NULL_SIDE, NULL_SIDE), generator=generator)
    batches = training_loop.Repeated((image, label), steps)

    def fresh() -> Segmentation:
        torch.manual_seed(section.seed)
        return training_loop.make_module(nn.Conv2d(2, 2, 1), section, [1.0, 1.0], NULL_SIDE)

    def lightning() -> Segmentation:
        module = fresh()
        training_loop.fit_with_lightning(module, batches, device)
        return module

    def bare() -> Segmentation:
        module = fresh()
        train_bare(module, batches, steps, device)
        return module

    return Pair(lightning, bare, steps)


def null_variants(section: TrainSection, steps: Sequence[int], device: torch.device) -> list[Variant]:
    """Both loops at each number of steps."""
    found = []
    for number in steps:
        names = NULL_LIGHTNING.format(number), NULL_BARE.format(number)
        found += null_pair(number, section, device).variants(*names)
    return found


def step_milliseconds(measured: Sequence[Measured], template: str, steps: tuple[int, int]) -> Summary:
    """CPU milliseconds of one step, by the slope between few and many: what a run costs once drops out."""
    by_name = {entry.name: entry.samples for entry in measured}
    few, many = steps
    pairs = zip(by_name[template.format(few)], by_name[template.format(many)], strict=True)
    return Summary.of([1000 * (long.cpu - short.cpu) / (many - few) for short, long in pairs])


def equal_weights(pair: Pair, also: Pair | None = None) -> Check:
    """Whether both loops end with the same weights, bit for bit, those of the moving average included.

    Args:
        pair: What is compared.
        also: Lends its bare loop in place of the pair's own.
    """
    first, second = pair.lightning(), (also or pair).bare()
    difference = greatest_difference(first.state_dict(), second.state_dict())
    return Check(
        difference == 0, f"{len(first.state_dict())} tensors after training, greatest difference {difference:.3g}"
    )


def greatest_difference(first: dict[str, Any], second: dict[str, Any]) -> float:
    """Between equally named tensors; infinite where names or shapes differ, or a value is no number."""
    if first.keys() != second.keys():
        return float("inf")
    greatest = 0.0
    for name, value in first.items():
        other: Tensor = second[name]
        if value.shape != other.shape:
            return float("inf")
        gap = float((value.cpu().double() - other.cpu().double()).abs().max()) if value.numel() else 0.0
        if gap != gap:
            return float("inf")
        greatest = max(greatest, gap)
    return greatest
