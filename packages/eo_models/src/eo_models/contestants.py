"""Those that an evaluation scores, and their counts on the same chips through the tile plan that serves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from eo_data.dataset import ChipRecord, Dataset, model_input
from eo_data.errors import DataRefused
from eo_data.model.description import ModelDescription
from eo_data.model.files import ModelFiles
from eo_data.model.session import OnnxModel
from eo_data.usecase import UseCase
from eo_models.confusion import Counts, count, pool
from eo_models.index_version import untuned_index
from eo_models.inputs import model_bands

ROLES: Final = ("candidate", "champion", "index", "index_untuned")


@dataclass(frozen=True)
class Contestant:
    """One of those that are scored.

    Attributes:
        uri: Its version; None for the untuned index, which is no version.
        model: In memory.
        bands: Where the bands that it reads stand in the dataset.
    """

    uri: str | None
    model: OnnxModel
    bands: list[int]

    @property
    def description(self) -> ModelDescription:
        """Its `model.json`."""
        return self.model.description

    def as_json(self) -> dict[str, Any]:
        """What an evaluation records of it."""
        return {"uri": self.uri, "digest": self.model.digest, "architecture": self.description.architecture}


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
    return Contestant(files.uri, model, model_bands(model.description.input.bands, usecase.data.input_bands, files.uri))


def untuned(usecase: UseCase, dataset: Dataset) -> Contestant:
    """The untuned index as a contestant."""
    return Contestant(None, untuned_index(usecase, dataset).model(), list(range(len(usecase.data.inputs))))


def score(
    contestants: dict[str, Contestant], dataset: Dataset, chips: Iterable[ChipRecord]
) -> list[tuple[ChipRecord, dict[str, Counts]]]:
    """Counts per chip and contestant; equal models are asked once."""
    result = []
    for chip in chips:
        image, label = dataset.read(chip)
        pixels, valid = model_input(image)
        by_digest: dict[str, Counts] = {}
        for contestant in contestants.values():
            if contestant.model.digest not in by_digest:
                mask = contestant.model.mask(pixels[contestant.bands], valid)
                by_digest[contestant.model.digest] = count(mask, label)
        result.append((chip, {role: by_digest[c.model.digest] for role, c in contestants.items()}))
    return result


def summarise(scores: Sequence[tuple[ChipRecord, dict[str, Counts]]], seen: frozenset[str]) -> dict[str, Any]:
    """One split of an evaluation: pooled figures and counts per cell, without the cells that a model has seen.

    Args:
        scores: Counts per chip and role.
        seen: Cells that are dropped, and counted.
    """
    cells: dict[str, list[dict[str, Counts]]] = defaultdict(list)
    dropped: dict[str, int] = defaultdict(int)
    for chip, counts in scores:
        if chip.cell in seen:
            dropped[chip.cell] += 1
        else:
            cells[chip.cell].append(counts)
    per_cell = {cell: {role: pool(c[role] for c in parts) for role in ROLES} for cell, parts in sorted(cells.items())}
    pooled = {role: pool(counts[role] for counts in per_cell.values()) for role in ROLES}
    return {
        "chips": sum(map(len, cells.values())),
        "dropped": {"cells": len(dropped), "chips": sum(dropped.values())},
        "pooled": {role: {**counts.figures(), "counts": counts.as_list()} for role, counts in pooled.items()},
        "cells": [
            {"cell": cell, "chips": len(cells[cell]), **{role: counts[role].as_list() for role in ROLES}}
            for cell, counts in per_cell.items()
        ],
    }
