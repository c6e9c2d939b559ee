"""Those that an evaluation scores, and their counts on the same chips through the tile plan that serves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eo_data.dataset import ChipRecord, Dataset, model_input
from eo_data.errors import DataRefused
from eo_data.model.description import ModelDescription, Tiling
from eo_data.model.files import ModelFiles
from eo_data.model.session import OnnxModel, classify
from eo_data.tiling import Pixels, Valid
from eo_data.usecase import UseCase
from eo_models.confusion import Counts, count
from eo_models.index_version import baseline_indices, untuned_index
from eo_models.inputs import model_bands

ROLES: Final = ("candidate", "champion", "index", "index_untuned")
"""The roles that every evaluation has; beside them stand the baselines that the bands allow."""

Way = tuple[str, Tiling, tuple[int, ...]]
"""What a mask depends on beside the pixels: model digest, tile plan, bands."""

Observe = Callable[[ChipRecord, Way, Pixels, Valid, NDArray[np.uint8]], None]
"""Told of each chip, way, probability `[classes, H, W]`, where there is data, and label."""


@dataclass(frozen=True)
class Contestant:
    """One of those that are scored.

    Attributes:
        uri: Its version; None for an index that is no version.
        model: In memory.
        bands: Where the bands that it reads stand in the dataset.
        description_digest: sha256 of its `model.json` as registered; None for an index that is no version.
    """

    uri: str | None
    model: OnnxModel
    bands: list[int]
    description_digest: str | None = None

    @property
    def description(self) -> ModelDescription:
        """Its `model.json`."""
        return self.model.description

    @property
    def digest(self) -> str:
        """The model digest."""
        return self.model.digest

    @property
    def way(self) -> Way:
        """Equal for those that give equal masks."""
        return self.digest, self.description.tiling, tuple(self.bands)

    def probability(self, pixels: Pixels, valid: Valid) -> Pixels:
        """Probabilities `[classes, H, W]` of the dataset's bands `[bands, H, W]`."""
        return self.model.probability(pixels[self.bands], valid)

    def mask(self, pixels: Pixels, valid: Valid) -> NDArray[np.uint8]:
        """The mask `[H, W]` of the dataset's bands `[bands, H, W]`."""
        return classify(self.probability(pixels, valid), valid)

    def as_json(self) -> dict[str, Any]:
        """What an evaluation records of it."""
        description = self.description
        return {
            "uri": self.uri,
            "digest": self.digest,
            "description_digest": self.description_digest,
            "architecture": description.architecture,
            "threshold": description.parameters.get("threshold"),
        }


def registered(files: ModelFiles, usecase: UseCase) -> Contestant:
    """A registered version as a contestant.

    Raises:
        DataRefused: If it tells other classes apart than the use case, or reads bands that the dataset lacks.
    """
    classes = tuple(c.name for c in files.description.output.classes)
    wanted = tuple(c.name for c in usecase.data.classes)
    if classes != wanted:
        raise DataRefused(
            f"the model tells {', '.join(classes)} apart, the use case {', '.join(wanted)}",
            where=files.uri,
            fix="Evaluate it under a use case with its classes",
        )
    model = OnnxModel(files.graph, files.description)
    bands = model_bands(model.description.input.bands, usecase.data.input_bands, files.uri)
    return Contestant(files.uri, model, bands, files.description_digest)


def untuned(usecase: UseCase, dataset: Dataset) -> Contestant:
    """The untuned index as a contestant."""
    return Contestant(None, untuned_index(usecase, dataset).model(), list(range(len(usecase.data.inputs))))


def baselines(usecase: UseCase, dataset: Dataset) -> dict[str, Contestant]:
    """Every index that the bands allow, untuned and tuned on the dataset's training split."""
    bands = list(range(len(usecase.data.inputs)))
    return {
        role: Contestant(None, artifact.model(), bands) for role, artifact in baseline_indices(usecase, dataset).items()
    }


@dataclass(frozen=True)
class ChipScore:
    """Counts of one chip by role."""

    chip: ChipRecord
    counts: dict[str, Counts]


def score(
    contestants: dict[str, Contestant],
    dataset: Dataset,
    chips: Iterable[ChipRecord],
    observe: Observe | None = None,
) -> list[ChipScore]:
    """Counts per chip and contestant; what gives equal masks is asked once."""
    result = []
    for chip in chips:
        image, label = dataset.read(chip)
        pixels, valid = model_input(image)
        by_way: dict[Way, Counts] = {}
        for contestant in contestants.values():
            if contestant.way not in by_way:
                probability = contestant.probability(pixels, valid)
                by_way[contestant.way] = count(classify(probability, valid), label)
                if observe is not None:
                    observe(chip, contestant.way, probability, valid, label)
        result.append(ChipScore(chip, {role: by_way[c.way] for role, c in contestants.items()}))
    return result
