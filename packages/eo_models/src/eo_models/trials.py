"""A trial of a study: settings drawn and checked, a training as `train` makes it, its figure on validation."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from eo_data.dataset import Dataset
from eo_data.errors import UsageError
from eo_data.model.session import classify
from eo_data.tiling import Pixels, Valid, predict_array
from eo_data.usecase import UseCase
from eo_models.code_identity import code_identity
from eo_models.configuration import TrainSection, require_extra, train_section
from eo_models.confusion import Counts
from eo_models.divergence import Diverged
from eo_models.inputs import band_pairs
from eo_models.members import fit_members
from eo_models.model_card import settings
from eo_models.registry import CODE_TAG, KIND_TAG, TRAIN_TAG, GivenUp, Registry
from eo_models.search_space import TuneSection, suggest, with_values
from eo_models.studies import REASON
from eo_models.tracked_run import Run
from eo_models.tracking import DATASET_TAG
from eo_models.versions import score_split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from optuna import Trial
    from torch import nn

log = logging.getLogger(__name__)

RUN: Final = "terraloop.run"
"""Attribute of a study, and of a trial: its MLflow run."""

CHOSEN: Final = "terraloop.chosen"
"""Attribute of a trial: the settings that it tried, as they go into a `train` section."""


class Pruned(GivenUp):
    """A trial is given up after an epoch: raised inside `fit`, which lets it through."""


class Failed(Exception):
    """A trial cannot give a value: its settings do not go together, or its training broke."""


@dataclass(frozen=True)
class Objective:
    """What Optuna calls for each trial.

    Attributes:
        registry: Whose experiment holds the runs.
        usecase: Its `train` section, but for what a trial draws.
        dataset: What is learned from, and validated on.
        section: The space.
        metric: The validation figure that is the trial's value.
        study: The study's name.
        parent: The run above the trials'.
    """

    registry: Registry
    usecase: UseCase
    dataset: Dataset
    section: TuneSection
    metric: str
    study: str
    parent: Run

    def __call__(self, trial: Trial) -> float:
        """Draw settings, check them, train, and give the figure.

        Raises:
            TrialPruned: If the trial is given up.
            Failed: If it gives no value; the reason stands in its attributes.
        """
        from optuna import TrialPruned

        chosen = suggest(self.section, trial)
        trial.set_user_attr(CHOSEN, chosen)
        try:
            value = self._train(trial, chosen)
        except Pruned as pruned:
            self._say(trial, f"given up after {pruned}")
            raise TrialPruned(str(pruned)) from pruned
        except (Failed, Diverged) as error:
            trial.set_user_attr(REASON, str(error))
            self._say(trial, f"failed: {error}")
            raise Failed(str(error)) from error
        self._say(trial, f"{self.metric} = {value:.4f}")
        return value

    def _train(self, trial: Trial, chosen: Mapping[str, Any]) -> float:
        """Train as `train` does, in a run of its own below the study's."""
        usecase = self.usecase.with_section("train", with_values(self.usecase.values("train"), chosen))
        try:  # what cannot be is found here, before anything is read
            section = train_section(usecase)
            require_extra(section)
            pairs = band_pairs(usecase.data, section.indices, "train.indices")
        except UsageError as error:
            raise Failed(error.what) from error
        tags = {
            KIND_TAG: "trial",
            DATASET_TAG: self.dataset.digest,
            TRAIN_TAG: usecase.digest("train"),
            CODE_TAG: code_identity(),
            "terraloop.usecase": usecase.name,
            "terraloop.study": self.study,
        }
        last: dict[str, float | None] = {}
        with self.registry.run(f"trial {trial.number}", tags, parent=self.parent) as run:
            trial.set_user_attr(RUN, run.id)
            run.log_parameters(settings(section.model_dump(mode="json")))

            def on_epoch(epoch: int, figures: dict[str, float]) -> None:
                run.log_metrics(figures, epoch)
                last.update(figures)
                self._judge(trial, figures.get(self.metric), epoch)

            fitted = fit_members(self.dataset, section, pairs, on_epoch, progress=False)
            figures = score_network(fitted.network, self.dataset, section).figures()
            last |= {f"validation_{name}": value for name, value in figures.items()}
            run.log_metrics(last, fitted.epochs)
            value = last.get(self.metric)
            if value is None or not math.isfinite(value):
                raise Failed(f"'{self.metric}' is undefined")
            return value

    def _judge(self, trial: Trial, value: float | None, epoch: int) -> None:
        """Tell Optuna of an epoch.

        Raises:
            Pruned: If it gives the trial up.
        """
        if value is None or not math.isfinite(value):
            return
        trial.report(value, epoch)
        if trial.should_prune():
            raise Pruned(f"epoch {epoch} with {self.metric} = {value:.4f}")

    def _say(self, trial: Trial, what: str) -> None:
        chosen = ", ".join(f"{key}={value}" for key, value in trial.user_attrs[CHOSEN].items())
        log.info("tune: trial %d (%s): %s", trial.number, chosen, what)


def score_network(network: nn.Module, dataset: Dataset, section: TrainSection) -> Counts:
    """Pooled counts of a network on validation, through the tile plan that serves.

    The exported graph's are the same but for rounding; an export is seconds, and nobody would use it.

    Args:
        network: Reflectance x 10000 `[N, bands, H, W]` to logits `[N, classes, H, W]`.
        dataset: Its validation chips are read.
        section: Its `tiles` are the plan.
    """
    import torch

    plan = section.tiles.tiling().plan()

    def probabilities(tiles: Pixels) -> Pixels:
        with torch.inference_mode():
            probability: Pixels = torch.softmax(network(torch.from_numpy(tiles)), dim=1).numpy()
        return probability

    def predict(pixels: Pixels, valid: Valid) -> NDArray[np.uint8]:
        return classify(predict_array(pixels, valid, probabilities, plan), valid)

    return score_split(predict, dataset, "validation")
