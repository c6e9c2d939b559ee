"""The loader's label table says what `class_indexes` says, value by value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eo_data.errors import DataRefused
from eo_data.labels import class_indexes
from eo_data.loader.label_table import LabelTable
from eo_data.usecase import DataSection, UseCase

CLASSES = [((0,), (1,)), ((1,), (2,)), ((1, 7), (2,)), ((2,), (1,)), ((0,), (3,))]


def with_classes(data: DataSection, values: tuple[tuple[int, ...], ...], ignored: tuple[int, ...]) -> DataSection:
    section = data.model_dump(mode="json")
    for definition, own in zip(section["classes"], values, strict=True):
        definition["label_values"] = own
    return DataSection.model_validate({**section, "ignore_label_values": ignored})


@pytest.mark.parametrize("values", CLASSES)
@pytest.mark.parametrize("ignored", [(), (255,)])
@pytest.mark.parametrize("nodata", [None, 0, 1, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16])
def test_each_value_is_the_class_that_it_stands_for_or_refused(
    values: Any, ignored: tuple[int, ...], nodata: float | None, dtype: type[np.generic], water: UseCase
) -> None:
    data = with_classes(water.data, values, ignored)
    table = LabelTable(np.dtype(dtype), data, nodata)
    told = 0
    for value in (0, 1, 2, 3, 7, 100, 127):
        label = np.full((4, 4), value, dtype=dtype)
        target = np.zeros((4, 4), dtype=np.uint8)
        try:
            wanted = class_indexes(label, data, nodata)
        except DataRefused as refusal:
            with pytest.raises(DataRefused, match=refusal.what):
                table.look_up(label, target)
            continue
        table.look_up(label, target)
        np.testing.assert_array_equal(target, wanted)
        told += 1
    assert told >= 2
