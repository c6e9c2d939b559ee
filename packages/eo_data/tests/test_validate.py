"""Validate: verdicts by the use case's suite, for the newest contents, and for what is not there a clear word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from eo_data.errors import DataRefused, UsageError
from eo_data.ingest import ingest
from eo_data.scene import list_scenes
from eo_data.store import Store
from eo_data.suite import make_rules, suite_digest
from eo_data.usecase import UseCase
from eo_data.validate import load_verdict, load_verdicts, validate

from .conftest import ROOT, S2_BANDS, water_scene, write_tiff


def write(root: Path, name: str, pixels: Any = None, label: Any = None, **how: Any) -> None:
    own_pixels, own_label = water_scene(len(name))
    image = own_pixels if pixels is None else pixels
    write_tiff(root / "images" / f"{name}.tif", image, names=S2_BANDS[: len(image)], **how)
    if label is not False:
        write_tiff(root / "labels" / f"{name}.tif", own_label[None] if label is None else label)


def test_a_batch_with_nothing_to_measure_gives_verdicts(tmp_path: Path, store: Store, water: UseCase) -> None:
    """Columns of the feature rows that hold no value at all are judged too."""
    write(tmp_path / "source", "two", water_scene(0)[0][:2], label=False)
    batch = ingest(store, water, str(tmp_path / "source"), progress=False)["batch"]
    result = validate(store, water, batch=batch, progress=False)
    assert result["accepted"] == []
    assert "band B03 is missing" in result["quarantined"]["two"]


def test_all_and_ids_judge_the_newest_content_with_the_newest_label(
    tmp_path: Path, store: Store, water: UseCase
) -> None:
    root = tmp_path / "source"
    for value in (300, 1200, 700):  # contents are named by hashes: their order must not decide
        pixels = np.full((13, 128, 128), value, np.uint16) + np.arange(13, dtype=np.uint16)[:, None, None]
        write(root, "s1", pixels, np.full((1, 128, 128), value == 1200, np.uint8))
        ingest(store, water, str(root), progress=False)
    write(root, "s2", np.zeros((13, 128, 128), np.uint16), label=False)
    write(root, "s3", label=np.full((1, 128, 128), 255, np.uint8))
    write(root, "s4", label=np.full((1, 128, 128), 0.5, np.float32))
    ingest(store, water, str(root), progress=False)
    assert len(list_scenes(store)) == 6
    result = validate(store, water, progress=False)
    assert result["accepted"] == ["s1"]
    assert "too few pixels with data" in result["quarantined"]["s2"]
    assert "label has hardly a scored pixel" in result["quarantined"]["s3"]
    assert "label values 0.5 stand for no class" in result["quarantined"]["s4"]
    verdicts = load_verdicts(store, result["verdicts"])
    assert (verdicts.usecase, verdicts.suite) == ("water", suite_digest(water.data))
    verdict = load_verdict(store, verdicts.verdicts["s1"])
    assert (verdict.features["q02_B02"], verdict.features["q50_B08"], verdict.features["q98_B12"]) == (701, 707, 712)
    assert len(verdict.expectations) == len(make_rules(water.data))
    assert all(expectation["success"] for expectation in verdict.expectations)
    assert {expectation["severity"] for expectation in verdict.expectations} == {"critical", "warning"}
    assert (result["warnings"], result["skew"], result["skew_report"]) == ({}, None, None)
    assert verdict.label is not None
    label = store.get_json(verdict.label.replace("label.tif", "label.json"))
    assert label["created"] == max(
        store.get_json(key)["created"] for key in store.list("labels/s1") if key.endswith("label.json")
    )
    one = validate(store, water, ids=["s1", "s1"], progress=False)
    assert one["accepted"] == ["s1"]
    assert one["verdicts"] != result["verdicts"]
    again = validate(store, water, progress=False)
    assert again == result
    page = store.get(store.key(result["docs"])).decode()
    assert "<html" in page


def test_a_cluster_gives_the_same_verdicts_byte_by_byte(tmp_path: Path, water: UseCase) -> None:
    for number in range(3):
        origin = (400_000.0 + 9000 * number, 4_200_000.0)
        pixels, label = water_scene(number)
        write(tmp_path / "source", f"s{number}", pixels, label=False, origin=origin)
        write_tiff(tmp_path / "source" / "labels" / f"s{number}.tif", label[None], origin=origin)
    write(tmp_path / "source", "two", water_scene(0)[0][:2], label=False)
    found = []
    for name, dask in (("one", None), ("many", "local")):
        store = Store(str(tmp_path / name))
        batch = ingest(store, water, str(tmp_path / "source"), progress=False)["batch"]
        result = validate(store, water, batch=batch, dask=dask, progress=False)
        assert result["accepted"] == ["s0", "s1", "s2"]
        found.append({key: store.get(key) for key in store.list("verdicts")})
    assert len(found[0]) == 5
    assert found[0] == found[1]


def test_what_is_not_there_is_said_before_anything_is_judged(tmp_path: Path, store: Store, water: UseCase) -> None:
    with pytest.raises(UsageError, match="the store holds no scene"):
        validate(store, water, progress=False)
    with pytest.raises(DataRefused, match="there is no scene 'nine'"):
        validate(store, water, ids=["nine"], progress=False)
    for wrong in ("batches/none.json", store.resolve("batches/none.json")):
        with pytest.raises(DataRefused, match="no such object"):
            validate(store, water, batch=wrong, progress=False)
    for outside in ("", "/etc/passwd", "file:///elsewhere/batches/1.json"):
        with pytest.raises(UsageError, match="outside the store"):
            validate(store, water, batch=outside, progress=False)
    write(tmp_path / "source", "s1")
    ingest(store, water, str(tmp_path / "source"), progress=False)
    with pytest.raises(DataRefused, match="this is no batch record"):
        validate(store, water, batch=list_scenes(store)[0].uri, progress=False)
    store.put_new("batches/odd.json", b'{"batch": "odd", "source": "x", "scenes": [{"id": "s1"}], "labels": []}')
    with pytest.raises(DataRefused, match="this is no batch record"):
        validate(store, water, batch="batches/odd.json", progress=False)
    assert store.list("verdicts") == []


def test_the_suite_follows_the_expectations_and_what_feature_rows_depend_on() -> None:
    sections = yaml.safe_load((ROOT / "usecases" / "water" / "usecase.yaml").read_text())

    def suite(**data: Any) -> str:
        return suite_digest(UseCase("water", {"data": sections["data"] | data}).data)

    assert suite(sensor="another", chip={"size": 128}) == suite()
    assert suite(split={"salt": "other"}) == suite()
    changed = [
        suite(expectations={"min_size": 16}),
        suite(chip={"size": 64}),  # a scene holds at least one chip
        suite(inputs=["B02", "B03"]),
        suite(reflectance={"scale": 0.0002, "nodata": 0}),
        suite(ignore_label_values=[-1]),
    ]
    assert len({suite(), *changed}) == 6


@pytest.mark.parametrize(
    ("crs", "columns"),
    [("required", [(True,)]), ("absent", [(False,)]), ("any", [])],
)
def test_the_suite_asks_for_a_crs_as_the_use_case_does(crs: str, columns: list[tuple[bool]]) -> None:
    sections = yaml.safe_load((ROOT / "usecases" / "water" / "usecase.yaml").read_text())
    data = UseCase("water", {"data": sections["data"] | {"expectations": {"crs": crs}}}).data
    wanted = [tuple(dict(rule.arguments)["value_set"]) for rule in make_rules(data) if rule.column == "georeferenced"]
    assert wanted == columns
