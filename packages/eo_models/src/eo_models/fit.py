"""Fitting the network with Lightning: seeded, on a fixed number of threads, best epoch by validation IoU."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eo_data.dataset import Dataset
from eo_models.configuration import TrainSection
from eo_models.confusion import TARGET
from eo_models.distribution import ALONE, Processes

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule
    from torch import nn

    from eo_models.checkpoints import Checkpoints, Found
    from eo_models.epoch_keeper import EpochFigures, Keeper
    from eo_models.minibatches import Minibatches
    from eo_models.precision import PrecisionName

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """A trained network.

    Attributes:
        network: With the weights of the epoch that `section.keep` names.
        epoch: Which that was, from 1.
        epochs: How many there were.
        loss: Training loss of the last epoch.
        weights: How many numbers were fitted.
        precision: What convolutions were trained in.
        resumed: Epochs that an earlier process had trained.
    """

    network: nn.Module
    epoch: int
    epochs: int
    loss: float
    weights: int
    precision: PrecisionName
    resumed: int = 0


def fit(
    dataset: Dataset,
    section: TrainSection,
    pairs: list[tuple[int, int]],
    on_epoch: EpochFigures,
    *,
    progress: bool,
    processes: Processes = ALONE,
    checkpoints: Checkpoints | None = None,
    member: int = 0,
) -> Fitted:
    """Train the network of a `train` section on a dataset.

    Equal datasets, sections, code, libraries and processors give equal weights, whether in one go or killed and
    gone on with.

    Args:
        dataset: Its training split is learned from, its validation split chooses the epoch.
        section: How.
        pairs: Indexes of the band pairs whose normalised difference the network reads.
        on_epoch: Told of each epoch; also of those that an earlier process had trained.
        progress: Whether to show a progress bar on stderr.
        processes: Who trains: each takes its share of every minibatch. They are `joined` already.
        checkpoints: Where each epoch's goes, and what an earlier process left.
        member: Of the checkpoints.

    Raises:
        Diverged: If the loss is no finite number.
    """
    import torch

    from eo_models.epoch_keeper import Keeper
    from eo_models.losses import class_weights
    from eo_models.minibatches import Minibatches
    from eo_models.networks import build_network
    from eo_models.segmentation import Segmentation
    from eo_models.unet import Reflectance

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # devices and tips: nothing that a user of ours could act on
    torch.set_num_threads(section.threads)
    torch.manual_seed(section.seed)
    statistics = dataset.statistics
    network = build_network(Reflectance(statistics.mean, statistics.std, pairs), len(dataset.manifest.classes), section)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form
    if checkpoints is not None and processes.tell("nothing" if checkpoints.anothers else "each epoch") == "nothing":
        checkpoints = None
    found = checkpoints.newest(member, processes) if checkpoints else None
    minibatches = Minibatches(
        dataset,
        minibatch=section.minibatch,
        augmentation=section.augmentation,
        sampling=section.sampling,
        seed=section.seed,
        threads=section.threads,
        rank=processes.rank,
        size=processes.size,
    )
    weights = class_weights(statistics.class_counts, section.class_balance)
    precision = _precision(network, minibatches, weights, section, processes, found)
    keeper = Keeper(
        on_epoch,
        best=section.keep == "best",
        epochs=section.epochs,
        notes={"precision": precision},
        checkpoints=checkpoints,
        member=member,
        chief=processes.chief,
    )
    if found is not None:
        log.info("train: goes on after epoch %d of member %d, from %s", found.epoch, member + 1, found.path)
        for number, figures in enumerate(found.state["history"], start=1):
            on_epoch(number, figures)
    if found is not None and found.state["over"]:
        keeper.load_state_dict(dict(found.state))
    else:
        trained, total = _shared(network, processes)
        module = Segmentation(
            trained,
            section,
            weights,
            chip_size=dataset.manifest.chip_size,
            target_in_validation=any(chip.class_counts[TARGET] for chip in dataset.chips("validation")),
            precision=precision,
            processes=processes,
            total=total,
        )
        _run(module, minibatches, section, keeper, found, processes, progress=progress)
    network.load_state_dict(keeper.weights)
    return Fitted(
        network=network.eval(),
        epoch=keeper.epoch,
        epochs=len(keeper.history),
        loss=keeper.history[-1]["loss"],
        weights=sum(parameter.numel() for parameter in network.parameters()),
        precision=precision,
        resumed=found.epoch if found else 0,
    )


def _run(
    module: LightningModule,
    minibatches: LightningDataModule,
    section: TrainSection,
    keeper: Keeper,
    found: Found | None,
    processes: Processes,
    *,
    progress: bool,
) -> None:
    """Let Lightning train, from the beginning or from what was found."""
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import EarlyStopping
    from lightning.pytorch.strategies import DDPStrategy

    from eo_models.epoch_keeper import Bar, WholeFiles
    from eo_models.segmentation import SELECTION

    several: dict[str, Any] = {"devices": 1}
    if processes.size > 1:
        several = {
            "devices": processes.local_size,
            "num_nodes": processes.machines,
            # Buffers are equal in all processes: statistics are of the whole minibatch (`synchronized`).
            "strategy": DDPStrategy(process_group_backend="gloo", broadcast_buffers=False),
        }
    stopping = [EarlyStopping(SELECTION, mode="max", patience=section.patience)] if section.keep == "best" else []
    with warnings.catch_warnings():
        # Lightning 2.6 asks torch 2.13 in a way that torch has deprecated.
        warnings.filterwarnings("ignore", ".*treespec, LeafSpec.*", FutureWarning)
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=section.epochs,
            deterministic=True,
            callbacks=[keeper, *stopping, Bar(section.epochs, shown=progress and processes.chief)],
            plugins=[WholeFiles()],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            **several,
        )
        trainer.fit(module, minibatches, ckpt_path=found.path if found else None, weights_only=True)


def _shared(network: nn.Module, processes: Processes) -> tuple[nn.Module, Any]:
    """The network as it is trained, and what adds up over the processes."""
    from copy import deepcopy

    from eo_models.losses import alone
    from eo_models.synchronized import synchronize, total_over_processes

    if processes.size == 1:
        return network, alone
    return synchronize(deepcopy(network), total_over_processes), total_over_processes


def _precision(
    network: nn.Module,
    minibatches: Minibatches,
    weights: list[float],
    section: TrainSection,
    processes: Processes,
    found: Found | None,
) -> PrecisionName:
    """The precision to train in, said aloud; a training that goes on keeps its own."""
    import torch

    from eo_models.precision import choose_precision, has_bfloat16, try_bfloat16

    if found is not None:
        kept: Mapping[str, PrecisionName] = found.state["notes"]
        return kept["precision"]
    supported = has_bfloat16()
    trial = None
    if section.precision == "auto" and supported:
        images, labels = next(iter(minibatches.train_dataloader()))
        trial = try_bfloat16(network, images, labels, torch.tensor(weights), section)
    chosen = choose_precision(section.precision, trial, supported=supported)
    log.info("train: convolutions in %s: %s", chosen.name, chosen.why)
    if chosen.slow and processes.chief:
        log.warning("train: this processor has no bfloat16 instructions: it is slower than float32 here; say auto")
    return "bfloat16" if processes.tell(chosen.name) == "bfloat16" else "float32"
