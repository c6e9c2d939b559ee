"""`evaluate --fresh`: new scenes in cells that the version has not seen, beside its own holdout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from eo_data.dataset import Dataset, Manifest, model_input
from eo_data.model.files import fetch_model
from eo_data.usecase import Split, UseCase
from eo_models.cli import main
from eo_models.confusion import count, pool
from eo_models.contestants import registered
from eo_models.fresh import evaluate_fresh, fresh_chips

from .conftest import Pair, World, write_dataset

COUNTS: dict[Split, int] = {"train": 14, "validation": 5, "holdout": 10, "test": 5}


def grown(world: World) -> Dataset:
    """A dataset with the scenes of the first and more, its old chips in their old places."""
    later = write_dataset(world.store, world.usecase, "9" * 64, COUNTS, seed=3)
    known = {scene.id for scene in world.dataset.manifest.scenes}
    scenes = tuple(
        scene if scene.id in known else scene.model_copy(update={"pixels": f"new {scene.id}"})
        for scene in later.manifest.scenes
    )
    return rewritten(world, later, later.manifest.model_copy(update={"scenes": scenes}))


def rewritten(world: World, dataset: Dataset, manifest: Manifest) -> Dataset:
    Path(world.store.raster_path(f"datasets/{dataset.digest}/manifest.json")).write_text(manifest.model_dump_json())
    return Dataset(world.store, dataset.uri)


def test_new_scenes_are_scored_whatever_their_side_beside_the_holdout(world: World, pair: Pair) -> None:
    later = grown(world)
    result = evaluate_fresh(world.store, world.usecase, "models:/made-up@champion", later.uri, progress=False)
    assert result["model"] == pair.poor.uri
    assert (result["scenes"], result["chips"], result["existing"]) == (6, 6, False)
    champion = registered(fetch_model(pair.poor.uri), world.usecase)

    def iou(dataset: Dataset, names: set[str]) -> float | None:
        parts = []
        for chip in dataset.chips():
            if chip.scene in names:
                image, label = dataset.read(chip)
                parts.append(count(champion.mask(*model_input(image)), label))
        return pool(parts).iou

    new = {"train-12", "train-13", "validation-04", "holdout-08", "holdout-09", "test-04"}
    assert result["iou"]["fresh"] == pytest.approx(iou(later, new))
    holdout = {f"holdout-{k:02d}" for k in range(8)}
    assert result["iou"]["holdout"] == pytest.approx(iou(world.dataset, holdout))
    assert result["iou"]["difference"] == pytest.approx(result["iou"]["fresh"] - result["iou"]["holdout"])
    folder = Path(world.store.raster_path(world.store.key(result["evaluation"]))).parent
    assert "| fresh scenes | 6 | 6 | 6 |" in (folder / "fresh.md").read_text()
    again = evaluate_fresh(world.store, world.usecase, pair.poor.uri, later.uri, progress=False)
    assert again == {**result, "existing": True}


def test_a_new_scene_in_a_cell_of_the_training_is_left_out_and_a_reissued_one_is_new(world: World, pair: Pair) -> None:
    later = grown(world)
    chips = tuple(
        chip.model_copy(update={"cell": "train-00"}) if chip.scene == "test-04" else chip
        for chip in later.manifest.chips
    )
    scenes = tuple(
        scene.model_copy(update={"pixels": "reissued"}) if scene.id == "holdout-00" else scene
        for scene in later.manifest.scenes
    )
    later = rewritten(world, later, later.manifest.model_copy(update={"chips": chips, "scenes": scenes}))
    seen = frozenset(fetch_model(pair.poor.uri).description.training_cells)
    found = {chip.scene for chip in fresh_chips(later, world.dataset, seen)}
    assert found == {"train-12", "train-13", "validation-04", "holdout-08", "holdout-09", "holdout-00"}
    without_own = {chip.scene for chip in fresh_chips(later, None, seen)}
    assert without_own == found | {f"{split}-{k:02d}" for split, n in (("holdout", 8), ("test", 4)) for k in range(n)}


def test_nothing_new_is_an_answer(world: World, pair: Pair, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    flags = ["--usecase", "made-up", "--store", world.store.uri, "--result", str(result)]
    command = ["evaluate", *flags, "--model", pair.poor.uri, "--dataset", world.dataset.uri, "--fresh"]
    assert main(command) == 0
    said = json.loads(result.read_text())
    assert (said["scenes"], said["iou"]["fresh"], said["iou"]["difference"]) == (0, None, None)
    assert said["iou"]["holdout"] > 0


def test_without_the_versions_own_dataset_there_is_no_holdout_to_compare(world: World, pair: Pair) -> None:
    later = grown(world)
    Path(world.store.raster_path(f"datasets/{world.dataset.digest}/manifest.json")).unlink()
    result = evaluate_fresh(world.store, world.usecase, pair.poor.uri, later.uri, progress=False)
    assert result["iou"]["holdout"] is None
    assert result["iou"]["fresh"] > 0
    assert result["scenes"] == 18


def test_a_dataset_of_another_data_section_is_refused(make_world: Callable[..., World]) -> None:
    from eo_data.errors import UsageError

    world = make_world()
    world.usecase_file.write_text(world.usecase_file.read_text().replace("salt: made-up", "salt: another"))
    with pytest.raises(UsageError, match="another data section"):
        evaluate_fresh(world.store, UseCase.load("made-up"), "models:/made-up/1", world.dataset.uri, progress=False)
