"""What a model is given: whether a dataset fits the use case, and where green, nir and the like stand in it."""

from __future__ import annotations

from collections.abc import Sequence

from eo_data.bands import Band, band_key
from eo_data.dataset import Dataset
from eo_data.errors import DataRefused, UsageError
from eo_data.usecase import DataSection, UseCase


def find_band(data: DataSection, *names: str) -> int | None:
    """Index among the input bands of the first that goes by one of the names; None where there is none."""
    for name in names:
        for index, band in enumerate(data.input_bands):
            if band_key(name) in band.keys:
                return index
    return None


def band_pairs(data: DataSection, pairs: Sequence[tuple[str, str]], where: str) -> list[tuple[int, int]]:
    """Indexes of pairs of input bands.

    Raises:
        UsageError: If the model does not read one of them.
    """
    found = []
    for pair in pairs:
        indexes = [find_band(data, name) for name in pair]
        for name, index in zip(pair, indexes, strict=True):
            if index is None:
                raise UsageError(
                    f"'{name}' is none of the inputs ({', '.join(data.inputs)})", where=where, fix="Name input bands"
                )
        found.append((indexes[0] or 0, indexes[1] or 0))
    return found


def model_bands(wanted: Sequence[str], have: Sequence[Band], where: str) -> list[int]:
    """Where the bands that a model reads stand among the bands of a dataset, by any of their names.

    Raises:
        DataRefused: If the dataset lacks one.
    """
    indexes = []
    for name in wanted:
        hits = [index for index, band in enumerate(have) if band_key(name) in band.keys]
        if not hits:
            raise DataRefused(
                f"the model reads band {name}, the dataset has {', '.join(band.name for band in have)}",
                where=where,
                fix="Evaluate it on a dataset with its bands: add the band to data.inputs and chip again",
            )
        indexes.append(hits[0])
    return indexes


def require_same_data(dataset: Dataset, usecase: UseCase) -> None:
    """Refuse a dataset that was made under another `data` section.

    Raises:
        UsageError: Saying so.
    """
    made, wanted = dataset.manifest.usecase_data_digest, usecase.digest("data")
    if made != wanted:
        raise UsageError(
            f"this dataset was made under another data section ({made[:12]}, the use case's is {wanted[:12]})",
            where=dataset.uri,
            fix="Run chip again under this use case, or name the use case that it was made for",
        )
