"""Several networks as one: each trained from a seed of its own, their logits averaged inside one graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from eo_data.dataset import Dataset
from eo_models.configuration import TrainSection
from eo_models.distribution import ALONE, Processes
from eo_models.fit import Fitted, fit

if TYPE_CHECKING:
    from collections.abc import Callable

    from eo_models.checkpoints import Checkpoints
    from eo_models.epoch_keeper import EpochFigures

SEED_STEP = 1000
"""Between the seeds of two members: sections with neighbouring seeds share no member."""


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


def fit_members(
    dataset: Dataset,
    section: TrainSection,
    pairs: list[tuple[int, int]],
    on_epoch: EpochFigures,
    *,
    progress: bool,
    processes: Processes = ALONE,
    checkpoints: Checkpoints | None = None,
) -> Fitted:
    """Train `section.members` networks one after the other; what `eo_models.fit.fit` gives, for all of them.

    A single member is the plain network. Epochs are told and counted on from member to member; `epoch` is that of
    the last member. The first one's precision is that of all.

    Args:
        dataset: As for `fit`.
        section: How, and how many.
        pairs: As for `fit`.
        on_epoch: Told of each epoch of each member.
        progress: Whether to show a progress bar on stderr.
        processes: As for `fit`.
        checkpoints: As for `fit`; a member that an earlier process had trained is taken from there.
    """
    parts: list[Fitted] = []
    for number in range(section.members):
        before = sum(part.epochs for part in parts)
        own = section.model_copy(
            update={
                "seed": section.seed + SEED_STEP * number,
                "precision": parts[0].precision if parts else section.precision,
            }
        )
        part = fit(
            dataset,
            own,
            pairs,
            _counted_on(on_epoch, before),
            progress=progress,
            processes=processes,
            checkpoints=checkpoints,
            member=number,
        )
        parts.append(part)
    if len(parts) == 1:
        return parts[0]
    return Fitted(
        network=Members([part.network for part in parts]).eval(),
        epoch=sum(part.epochs for part in parts[:-1]) + parts[-1].epoch,
        epochs=sum(part.epochs for part in parts),
        loss=sum(part.loss for part in parts) / len(parts),
        weights=sum(part.weights for part in parts),
        precision=parts[0].precision,
        resumed=sum(part.resumed for part in parts),
    )


def _counted_on(on_epoch: EpochFigures, before: int) -> Callable[[int, dict[str, float]], None]:
    def tell(epoch: int, figures: dict[str, float]) -> None:
        on_epoch(before + epoch, figures)

    return tell
