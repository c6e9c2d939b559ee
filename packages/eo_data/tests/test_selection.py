"""Which scenes take part in a dataset, and with which content and label."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from eo_data.chips import chip
from eo_data.cli import main
from eo_data.errors import DataRefused, UsageError
from eo_data.scene import Scene, list_scenes
from eo_data.selection import select_scenes
from eo_data.store import Store
from eo_data.usecase import UseCase

from .test_chips import small_usecase, write_pair, write_pairs
from .verdicts_by_hand import accept


def chosen_pixels(store: Store, usecase: UseCase, verdicts: str, scene_id: str) -> int:
    """The first pixel of the content that a dataset would take."""
    (verdict,) = [v for v in select_scenes(store, usecase, verdicts).verdicts if v.id == scene_id]
    with Scene.load(store, verdict.scene).image(usecase.data) as image:
        return int(image.values(0, 0, 1, 1)[0, 0, 0])


def constant(value: int) -> NDArray[np.uint16]:
    return np.full((13, 40, 40), value, np.uint16)


@pytest.mark.parametrize("seed", range(4))  # contents are named by hashes: their order must not decide
def test_of_a_scene_reissued_under_its_id_both_contents_stay_and_the_newest_counts(
    tmp_path: Path, store: Store, water: UseCase, seed: int
) -> None:
    for value in (1000 + seed, 2000 + seed, 1500 + seed):
        root = tmp_path / f"source{value}" / "scenes"
        write_pair(root, 0, pixels=constant(value))
        verdicts = accept(store, water, str(root))
        assert chosen_pixels(store, water, verdicts, "s00") == value
    assert len(list_scenes(store)) == 3
    write_pair(tmp_path / "later", 1)
    verdicts = accept(store, water, str(tmp_path / "later"))
    assert chosen_pixels(store, water, verdicts, "s00") == 1500 + seed
    with Scene.find(store, "s00").image(water.data) as image:
        assert (image.values(0, 0, 1, 1) == 1500 + seed).all()


def test_a_batch_that_brings_the_old_content_again_is_believed(tmp_path: Path, store: Store, water: UseCase) -> None:
    for value in (1000, 2000):
        write_pair(tmp_path / str(value) / "scenes", 0, pixels=constant(value))
    old, new = (accept(store, water, str(tmp_path / value / "scenes")) for value in ("1000", "2000"))
    assert chosen_pixels(store, water, new, "s00") == 2000
    assert chosen_pixels(store, water, old, "s00") == 1000


def test_of_differing_labels_the_newest_counts_and_both_stay(tmp_path: Path, store: Store, water: UseCase) -> None:
    root = tmp_path / "source"
    labels = []
    for value in (0, 1, 0, 1, 0):  # every label but the first two is there already
        label = np.full((40, 40), value, np.uint8)
        write_pair(root, 0, label=label)
        verdicts = accept(store, water, str(root))
        (verdict,) = select_scenes(store, water, verdicts).verdicts
        assert verdict.label is not None
        labels.append(verdict.label)
    assert labels[0] == labels[2] == labels[4] != labels[1] == labels[3]
    assert len([key for key in store.list("labels") if key.endswith("label.tif")]) == 2
    assert len(list_scenes(store)) == 1


def test_quarantined_and_unlabelled_scenes_take_no_part_and_are_counted(
    tmp_path: Path, store: Store, water: UseCase
) -> None:
    root = write_pairs(tmp_path / "source", 4)
    (root / "labels" / "s02.tif").unlink()
    selection = select_scenes(store, water, accept(store, water, str(root), quarantine={"s01"}))
    assert [verdict.id for verdict in selection.verdicts] == ["s00", "s03"]
    assert selection.unlabelled == 1


def test_a_reissue_in_quarantine_leaves_the_accepted_content(tmp_path: Path, store: Store, water: UseCase) -> None:
    for value in (1000, 2000):
        write_pair(tmp_path / str(value) / "scenes", 0, pixels=constant(value))
    accept(store, water, str(tmp_path / "1000" / "scenes"))
    verdicts = accept(store, water, str(tmp_path / "2000" / "scenes"), quarantine={"s00"})
    assert chosen_pixels(store, water, verdicts, "s00") == 1000


def test_without_a_labelled_scene_there_is_no_dataset(tmp_path: Path, store: Store, water: UseCase) -> None:
    root = write_pairs(tmp_path / "source", 2)
    verdicts = accept(store, water, str(root), quarantine={"s00", "s01"})
    with pytest.raises(DataRefused, match=r"no accepted scene has a label \(0 accepted\)"):
        chip(store, water, verdicts, progress=False)


def test_verdicts_of_another_use_case_or_expectation_are_refused(tmp_path: Path, store: Store, water: UseCase) -> None:
    verdicts = accept(store, water, str(write_pairs(tmp_path / "source", 1)))
    with pytest.raises(UsageError, match="not of use case 'water-hls' as it is now"):
        chip(store, UseCase.load("water-hls"), verdicts, progress=False)
    with pytest.raises(UsageError, match="Validate again"):
        chip(store, small_usecase(expectations={"min_size": 16}), verdicts, progress=False)
    batch = store.list("batches")[0]
    scene = list_scenes(store)[0].uri
    for wrong in (batch, store.resolve(batch), scene, "verdicts/water/none/batches/1.json"):
        with pytest.raises(DataRefused):
            chip(store, water, wrong, progress=False)


# --- named, and all


def simulated(root: Path, number: int) -> None:
    """Say of a scene that it was simulated."""
    item = {"collection": "simulated", "properties": {"terraloop:simulated": True, "datetime": "2025-06-01T10:00:00Z"}}
    (root / "items").mkdir(exist_ok=True)
    (root / "items" / f"s{number:02d}.json").write_text(json.dumps(item))


def test_without_verdicts_every_accepted_scene_takes_part(tmp_path: Path, store: Store, water: UseCase) -> None:
    accept(store, water, str(write_pairs(tmp_path / "first", 3)), quarantine={"s01"})
    for number in (5, 6):
        write_pair(tmp_path / "second", number)
    (tmp_path / "second" / "labels" / "s06.tif").unlink()
    accept(store, water, str(tmp_path / "second"))
    selection = select_scenes(store, water)
    assert [verdict.id for verdict in selection.verdicts] == ["s00", "s02", "s05"]
    assert selection.unlabelled == 1


def test_all_means_real_scenes_and_simulated_ones_only_without_them(
    tmp_path: Path, store: Store, water: UseCase
) -> None:
    root = write_pairs(tmp_path / "simulated", 2)
    for number in (0, 1):
        simulated(root, number)
    accept(store, water, str(root))
    assert [verdict.id for verdict in select_scenes(store, water).verdicts] == ["s00", "s01"]
    write_pair(tmp_path / "real", 7)
    accept(store, water, str(tmp_path / "real"))
    selection = select_scenes(store, water)
    assert [verdict.id for verdict in selection.verdicts] == ["s07"]
    assert selection.simulated_left_out == 2
    assert [v.id for v in select_scenes(store, water, ids=["s01"]).verdicts] == ["s01"]
    with pytest.raises(DataRefused, match="never share a dataset"):
        select_scenes(store, water, ids=["s01", "s07"])


def test_scenes_named_are_taken_and_no_others(tmp_path: Path, store: Store, water: UseCase) -> None:
    accept(store, water, str(write_pairs(tmp_path / "source", 4)), quarantine={"s03"})
    assert [v.id for v in select_scenes(store, water, ids=["s02", "s00"]).verdicts] == ["s00", "s02"]
    with pytest.raises(DataRefused, match=r"scene 's03' is in quarantine \(by hand\)"):
        select_scenes(store, water, ids=["s00", "s03"])
    with pytest.raises(DataRefused, match="scene 's09' has no verdict"):
        select_scenes(store, water, ids=["s00", "s09"])


def test_the_command_takes_verdicts_or_all_or_ids(
    tmp_path: Path, store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    usecase = small_usecase()
    folder = tmp_path / "usecases" / "water"
    folder.mkdir(parents=True)
    (folder / "usecase.yaml").write_text(json.dumps({"data": usecase.data.model_dump(mode="json")}))
    verdicts = accept(store, usecase, str(write_pairs(tmp_path / "source", 8)))
    digests = []
    for chosen in (["--verdicts", verdicts], ["--all"], ["--ids", *(f"s{k:02d}" for k in range(8))]):
        result = tmp_path / "result.json"
        step = ["chip", "--usecase", str(folder), "--store", store.uri, "--result", str(result), *chosen]
        assert main(step) == 0, capfd.readouterr().err
        digests.append(json.loads(result.read_text())["digest"])
    assert len(set(digests)) == 1
    for wrong in ([], ["--all", "--ids", "s00"], ["--verdicts", verdicts, "--all"]):
        with pytest.raises(SystemExit, match="2"):
            main(["chip", "--usecase", str(folder), "--store", store.uri, *wrong])
