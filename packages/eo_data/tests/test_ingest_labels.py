"""`ingest --labels`: labels by scene id, before or after their scenes, from here, a web server or a bucket."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from eo_data.errors import DataRefused, UsageError
from eo_data.ingest_labels import add_labels, ingest_labels
from eo_data.scene import Scene
from eo_data.store import Store
from eo_data.validate import load_verdict, load_verdicts, validate

from .conftest import write_tiff
from .label_scenes import bring, case, ids, kept, scene
from .test_line import eo_data

HALF = np.zeros((1, 64, 64), np.uint8)
HALF[:, :32] = 1


def labels_of(store: Store, result: dict[str, Any]) -> dict[str, str | None]:
    """The label that each scene of a validation was judged with."""
    verdicts = load_verdicts(store, result["verdicts"]).verdicts
    return {scene_id: load_verdict(store, key).label for scene_id, key in verdicts.items()}


def test_rasters_by_id_are_kept_byte_by_byte_and_judged_with_their_scenes(tmp_path: Path, store: Store) -> None:
    scene(tmp_path / "in", "s1")
    scene(tmp_path / "in", "s2", origin=(600_000, 4_200_000))
    bring(store, tmp_path / "in")
    path = write_tiff(tmp_path / "hand drawn" / "s1.tif", HALF, nodata=255)
    result = add_labels(store, case(), str(tmp_path / "hand drawn"), progress=False)
    assert result["labels"] == {"added": ["s1"], "present": [], "refused": {}, "waiting": []}
    assert result["scenes"] == {"added": [], "present": ["s1"], "refused": {}}
    (key,) = [key for key in store.list("labels") if key.endswith("label.tif")]
    assert key.startswith("labels/s1/hand-drawn/")
    assert store.get(key) == path.read_bytes()
    record = store.get_json(key.replace("label.tif", "label.json"))
    assert record["grid"] == Scene.find(store, "s1").grid
    assert record["values"] == {"0": 2048, "1": 2048}
    judged = validate(store, case(chip={"size": 64}), batch=result["batch"], progress=False)
    assert judged["accepted"] == ["s1"]
    assert labels_of(store, judged) == {"s1": key}
    again = add_labels(store, case(), str(tmp_path / "hand drawn"), progress=False)
    assert again["labels"]["present"] == ["s1"]
    assert again["batch"] == result["batch"]


@pytest.mark.parametrize("name", ["labels/s1.tif", "LabelHand/s1_LabelHand.tif", "WaterLabel/s1.tif", "s1.tif"])
def test_a_folder_is_read_by_the_use_case_s_patterns(tmp_path: Path, store: Store, name: str) -> None:
    scene(tmp_path / "in", "s1")
    bring(store, tmp_path / "in")
    write_tiff(tmp_path / "drawn" / name, HALF)
    for folder in {tmp_path / "drawn", (tmp_path / "drawn" / name).parent}:
        _, labels, _ = ingest_labels(store, case(), str(folder), progress=False)
        assert ids(labels) == ["s1"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"pixels": HALF[:, :63]}, "size 63 x 64, the image has 64 x 64"),
        ({"crs": "EPSG:32631"}, "CRS EPSG:32631, the image has EPSG:32630"),
        ({"transform": Affine(10, 0, 500_003, 0, -10, 4_200_000)}, "a shifted or scaled grid"),
        ({"pixels": np.zeros((2, 64, 64), np.uint8)}, "a label has one band, this one has 2"),
        ({"pixels": HALF.astype(np.complex64)}, "complex values are no classes"),
    ],
)
def test_a_raster_that_does_not_fit_is_refused_and_the_rest_goes_on(
    tmp_path: Path, store: Store, how: dict[str, Any], said: str
) -> None:
    scene(tmp_path / "in", "s1")
    scene(tmp_path / "in", "good")
    bring(store, tmp_path / "in")
    write_tiff(tmp_path / "drawn" / "good.tif", HALF)
    write_tiff(tmp_path / "drawn" / "s1.tif", how.pop("pixels", HALF), **how)
    result = add_labels(store, case(), str(tmp_path / "drawn"), progress=False)
    assert said in result["labels"]["refused"]["s1"]
    assert str(tmp_path / "drawn" / "s1.tif") in result["labels"]["refused"]["s1"]
    assert result["labels"]["added"] == ["good"]
    assert result["scenes"]["present"] == ["good"]
    assert store.list("labels/s1") == []


def test_where_nothing_is_left_it_says_so(tmp_path: Path, store: Store) -> None:
    scene(tmp_path / "in", "s1")
    bring(store, tmp_path / "in")
    folder = tmp_path / "drawn"
    folder.mkdir()
    with pytest.raises(DataRefused, match=r"no label is found \(looked for labels/\{id\}\.tif, .*\{id\}\.tif\)"):
        ingest_labels(store, case(), str(folder), progress=False)
    (folder / "s1.tif").write_text("<html>")
    (folder / "s 2.tif").write_bytes(b"")
    with pytest.raises(DataRefused, match=r"all 2 labels were refused; the first, s 2: .*'s 2' is no id") as refusal:
        ingest_labels(store, case(), str(folder), progress=False)
    assert "drawn" in refusal.value.where
    for uri, said in (
        (str(tmp_path / "none.tif"), "no such file or folder"),
        (str(tmp_path / "in" / "images" / "s1.tif") + "x", "no such file or folder"),
        ("https://example.org/labels", "no kind of labels"),
    ):
        with pytest.raises(UsageError, match=said):
            ingest_labels(store, case(), uri, progress=False)
    text = tmp_path / "labels.txt"
    text.write_text("")
    with pytest.raises(UsageError, match=r"'\.txt' is no kind of labels.*\.tif.*\.gpkg"):
        ingest_labels(store, case(), str(text), progress=False)


@pytest.mark.parametrize("shift", [0.0, 1e-5])
def test_a_label_before_its_scene_waits_and_is_taken_when_it_comes(tmp_path: Path, store: Store, shift: float) -> None:
    """Also where its writer rounded the transform otherwise than the image's."""
    write_tiff(tmp_path / "drawn" / "s1.tif", HALF, origin=(500_000 + shift, 4_200_000))
    write_tiff(tmp_path / "drawn" / "s2.tif", HALF, origin=(400_000, 4_200_000))
    early = add_labels(store, case(), str(tmp_path / "drawn"), progress=False)
    assert early["labels"]["added"] == early["labels"]["waiting"] == ["s1", "s2"]
    assert early["scenes"] == {"added": [], "present": [], "refused": {}}
    with pytest.raises(DataRefused, match="holds no scene: its 2 labels wait for theirs"):
        validate(store, case(), batch=early["batch"], progress=False)
    scene(tmp_path / "in", "s1")
    scene(tmp_path / "in", "s2")  # on another grid than its label
    brought = bring(store, tmp_path / "in")
    judged = validate(store, case(), batch=brought["batch"], progress=False)
    assert "label_fault" not in judged["quarantined"].get("s1", "")
    taken = labels_of(store, judged)
    assert taken["s1"] is not None
    assert taken["s2"] is None
    assert labels_of(store, validate(store, case(), progress=False)) == taken


def test_verdicts_of_a_batch_follow_labels_that_come_later(tmp_path: Path, store: Store) -> None:
    """Ingesting the same source again gives the same batch: its scenes must not lose labels that came since."""
    scene(tmp_path / "in", "s1")
    brought = bring(store, tmp_path / "in")
    first = validate(store, case(), batch=brought["batch"], progress=False)
    assert labels_of(store, first) == {"s1": None}
    write_tiff(tmp_path / "drawn" / "s1.tif", HALF)
    added = add_labels(store, case(), str(tmp_path / "drawn"), progress=False)
    assert added["batch"] != brought["batch"]
    with_label = labels_of(store, validate(store, case(), batch=added["batch"], progress=False))
    assert bring(store, tmp_path / "in")["batch"] == brought["batch"]
    second = validate(store, case(), batch=brought["batch"], progress=False)
    assert second["verdicts"] != first["verdicts"]
    assert labels_of(store, second) == with_label
    assert validate(store, case(), batch=brought["batch"], progress=False) == second
    write_tiff(tmp_path / "better" / "s1.tif", 1 - HALF)
    better = add_labels(store, case(), str(tmp_path / "better"), progress=False)
    assert "/better/" in str(labels_of(store, validate(store, case(), batch=better["batch"], progress=False))["s1"])
    assert "/better/" in str(labels_of(store, validate(store, case(), batch=brought["batch"], progress=False))["s1"])
    old = validate(store, case(), batch=added["batch"], progress=False)  # a batch's own label is its own
    assert labels_of(store, old) == with_label


def test_a_label_whose_values_stand_for_no_class_is_quarantined_with_the_value(tmp_path: Path, store: Store) -> None:
    scene(tmp_path / "in", "s1")
    bring(store, tmp_path / "in")
    write_tiff(tmp_path / "drawn" / "s1.tif", HALF * 77)
    result = add_labels(store, case(), str(tmp_path / "drawn"), progress=False)
    judged = validate(store, case(), batch=result["batch"], progress=False)
    assert "77" in judged["quarantined"]["s1"]


def test_a_south_up_label_of_a_south_up_scene_is_turned_with_it(tmp_path: Path, store: Store) -> None:
    turned: dict[str, Any] = {"transform": Affine(10, 0, 500_000, 0, 10, 4_199_360)}
    values = np.arange(64, dtype=np.uint8)[None, :, None].repeat(64, axis=2) % 2
    scene(tmp_path / "in", "s1", **turned)
    bring(store, tmp_path / "in")
    write_tiff(tmp_path / "drawn" / "s1.tif", values, **turned)
    write_tiff(tmp_path / "drawn" / "s2.tif", values, **turned)
    _, labels, tally = ingest_labels(store, case(), str(tmp_path / "drawn"), progress=False)
    assert (tally.added, tally.waiting) == (["s1", "s2"], ["s2"])
    for label in labels:
        assert np.array_equal(kept(store, label)[0], values[0, ::-1])
    assert store.get_json(labels[0].record)["grid"] == store.get_json(labels[1].record)["grid"]


def test_source_and_labels_in_one_call_give_one_batch(tmp_path: Path, store: Store) -> None:
    scene(tmp_path / "old", "s0", origin=(600_000, 4_200_000))
    bring(store, tmp_path / "old")
    scene(tmp_path / "in", "s1")
    scene(tmp_path / "in", "s2", origin=(700_000, 4_200_000))
    write_tiff(tmp_path / "in" / "labels" / "s1.tif", HALF)
    write_tiff(tmp_path / "drawn" / "s0.tif", HALF, origin=(600_000, 4_200_000))
    write_tiff(tmp_path / "drawn" / "s1.tif", 1 - HALF)
    place = str(tmp_path / "store")
    code, result, _ = eo_data(
        "ingest", "--store", place, "--source", str(tmp_path / "in"), "--labels", str(tmp_path / "drawn")
    )
    assert code == 0
    assert result["scenes"] == {"added": ["s1", "s2"], "present": ["s0"], "refused": {}}
    assert result["labels"] == {"added": ["s1", "s0"], "present": [], "refused": {}, "waiting": []}
    taken = labels_of(store, validate(store, case(), batch=result["batch"], progress=False))
    assert taken["s2"] is None
    assert "/drawn/" in str(taken["s0"])
    assert "/drawn/" in str(taken["s1"])  # what was named last counts
    code, _, error = eo_data("ingest", "--store", place)
    assert code == 2
    assert "Give --source URI, --labels URI, or both" in error


def test_a_scene_without_crs_takes_rasters_by_id_only(tmp_path: Path, store: Store) -> None:
    scene(tmp_path / "in", "s1", crs=None)
    (tmp_path / "in" / "items").mkdir()
    (tmp_path / "in" / "items" / "s1.json").write_text('{"properties": {"terraloop:place": "a lake"}}')
    bring(store, tmp_path / "in")
    write_tiff(tmp_path / "drawn" / "s1.tif", HALF, crs=None)
    _, labels, _ = ingest_labels(store, case(), str(tmp_path / "drawn"), progress=False)
    assert ids(labels) == ["s1"]
    whole = write_tiff(tmp_path / "map.tif", HALF)
    with pytest.raises(DataRefused, match="a scene without a CRS takes rasters by its id only"):
        ingest_labels(store, case(), str(whole), progress=False)


def test_labels_that_come_later_make_a_dataset(
    make_folder: Callable[[int], Path], tmp_path: Path, store: Store
) -> None:
    folder, place = make_folder(24), str(tmp_path / "store")
    (folder / "labels").rename(tmp_path / "drawn")
    code, brought, _ = eo_data("ingest", "--store", place, "--source", str(folder))
    assert (code, len(brought["scenes"]["added"])) == (0, 24)
    judged = validate(store, case(), batch=brought["batch"], progress=False)
    assert len(judged["accepted"]) == 24
    code, _, error = eo_data("chip", "--store", place, "--verdicts", judged["verdicts"])
    assert code == 3
    assert "no accepted scene has a label" in error
    code, labelled, _ = eo_data("ingest", "--store", place, "--labels", str(tmp_path / "drawn"))
    assert (code, len(labelled["labels"]["added"])) == (0, 24)
    judged = validate(store, case(), batch=labelled["batch"], progress=False)
    assert len(judged["accepted"]) == 24
    code, dataset, _ = eo_data("chip", "--store", place, "--verdicts", judged["verdicts"])
    assert code == 0
    assert min(dataset["chips"].values()) > 0
    assert dataset["unlabelled"] == 0


def test_real_land_cover_labels_real_scenes(test_data: Path, tmp_path: Path, store: Store) -> None:
    """TerraMesh: Sentinel-2 chips, and annual land cover on the same grids, as rasters by id and as a map."""
    names = ("water", "trees", "flooded", "crops", "built", "bare", "snow", "cloud", "rangeland")
    usecase = case(
        "cover",
        classes=[{"name": n, "color": "#102030", "label_values": [k]} for k, n in enumerate(names, 1)],
        ignore_label_values=[0],
    )
    source = tmp_path / "in" / "S2L1C"
    shutil.copytree(test_data / "terramesh" / "S2L1C", source)
    assert bring(store, source.parent, usecase)["labels"]["added"] == []
    result = add_labels(store, usecase, str(test_data / "terramesh" / "LULC"), progress=False)
    assert len(result["labels"]["added"]) == 3
    assert result["labels"]["refused"] == {}
    judged = validate(store, usecase, batch=result["batch"], progress=False)
    assert all(label and "/LULC/" in label for label in labels_of(store, judged).values())
    assert "label" not in "".join(judged["quarantined"].values())
    one = test_data / "terramesh" / "LULC" / "433D_629L_3_1.tif"
    _, labels, _ = ingest_labels(store, usecase, str(one), progress=False)
    assert ids(labels) == ["433D_629L_3_1"]
    with rasterio.open(one) as dataset:
        assert np.array_equal(kept(store, labels[0])[0], dataset.read(1))
