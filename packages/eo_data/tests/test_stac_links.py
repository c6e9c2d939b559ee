"""What a static catalog may link."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eo_data.sources.stac import StacSource
from eo_data.usecase import DataSection, UseCase

from .conftest import ROOT
from .range_server import RangeServer
from .sentinel2_files import scene_item


@pytest.fixture
def l2a() -> DataSection:
    return UseCase.load(str(ROOT / "usecases" / "water-l2a")).data


@pytest.mark.parametrize("over", ["disk", "http"])
def test_only_a_catalog_of_this_machine_may_link_its_files(l2a: DataSection, tmp_path: Path, over: str) -> None:
    (tmp_path / "an item.json").write_text(json.dumps(scene_item("a")))
    links = [{"rel": "item", "href": (tmp_path / "an item.json").as_uri()}]
    root = {"type": "Catalog", "stac_version": "1.0.0", "id": "x", "description": "-", "links": links}
    (tmp_path / "catalog.json").write_text(json.dumps(root))
    with RangeServer(tmp_path) as server:
        (candidate,) = StacSource(f"{server.url}/catalog.json" if over == "http" else str(tmp_path), l2a).candidates()
    if over == "disk":
        assert (candidate.id, candidate.fault) == ("a", None)
    else:
        assert "links a file of this machine" in str(candidate.fault)
