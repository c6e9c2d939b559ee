"""Labels that cannot be written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eo_data.errors import TemporaryFailure
from eo_data.label_store import LabelType, write_label
from eo_data.rasters import open_tiff

from .conftest import write_tiff


def test_a_disk_that_takes_no_label_is_no_fault_of_the_scene(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "image.tif", np.ones((1, 32, 32), np.uint8))
    with pytest.raises(TemporaryFailure, match="the label cannot be written"), open_tiff(str(path), "s1") as image:
        write_label(tmp_path / "gone" / "label.tif", image, LabelType("uint8", 255), lambda *_: np.ones((32, 32), "u1"))
