"""A dataset as MLflow's own kind of dataset: name, digest, where it lies, schema and counts."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from mlflow.data.dataset import Dataset as MlflowDataset
from mlflow.data.dataset_source_registry import get_dataset_source_from_json
from mlflow.data.schema import TensorDatasetSchema
from mlflow.types import Schema, TensorSpec

from eo_data.dataset import Dataset
from eo_data.usecase import SPLITS

DIGEST_LENGTH = 32
"""MLflow takes 36 characters at most; the whole digest stands in a tag of the run."""


class ChipDataset(MlflowDataset):
    """Chips of a store. `mlflow.data.get_source(...)` gives MLflow's own source, whose `load` fetches the folder.

    Args:
        chips: The dataset.
        name: What it is called: the use case.
    """

    def __init__(self, chips: Dataset, name: str) -> None:
        self._chips = chips
        kind = {"file": "local"}.get(urlsplit(chips.uri).scheme, urlsplit(chips.uri).scheme)
        source = get_dataset_source_from_json(json.dumps({"uri": chips.uri}), kind)
        super().__init__(source=source, name=name, digest=self._compute_digest())

    def _compute_digest(self) -> str:
        return self._chips.digest[:DIGEST_LENGTH]

    @property
    def schema(self) -> TensorDatasetSchema:
        """Images int16 `[n, bands, size, size]` and labels uint8 `[n, size, size]`."""
        size, bands = self._chips.manifest.chip_size, self._chips.manifest.bands
        images = TensorSpec(
            np.dtype(np.int16), (-1, len(bands), size, size), f"reflectance x 10000: {', '.join(bands)}"
        )
        classes = ", ".join(f"{number} {name}" for number, name in enumerate(self._chips.manifest.classes))
        labels = TensorSpec(np.dtype(np.uint8), (-1, size, size), f"classes: {classes}, 255 not scored")
        return TensorDatasetSchema(features=Schema([images]), targets=Schema([labels]))

    @property
    def profile(self) -> dict[str, Any]:
        """Counts: chips, cells and labelled pixels by split; `num_rows` and `num_elements` are what MLflow shows."""
        manifest = self._chips.manifest
        splits = {split: self._chips.chips(split) for split in SPLITS}
        pixels = len(manifest.chips) * manifest.chip_size**2
        return {
            "num_rows": len(manifest.chips),
            "num_elements": pixels * (len(manifest.bands) + 1),
            "scenes": len(manifest.scenes),
            "scenes_simulated": sum(scene.simulated for scene in manifest.scenes),
            "chips": {split: len(chips) for split, chips in splits.items()},
            "cells": {split: len({chip.cell for chip in chips}) for split, chips in splits.items()},
            "labelled_pixels": {
                split: {
                    name: sum(chip.class_counts[number] for chip in chips)
                    for number, name in enumerate(manifest.classes)
                }
                for split, chips in splits.items()
            },
        }

    def to_dict(self) -> dict[str, str]:
        """MLflow's fields, schema and profile as JSON texts."""
        return {
            **super().to_dict(),
            "schema": json.dumps(self.schema.to_dict()),
            "profile": json.dumps(self.profile),
        }
