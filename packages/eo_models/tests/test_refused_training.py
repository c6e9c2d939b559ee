"""Data and settings that nothing can be learned from: one clear error, its exit code, nothing registered."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from eo_data.usecase import Split
from eo_models.cli import main

from .conftest import SIZE, World

Damage = Callable[[World], None]


def run(world: World, *flags: str) -> int:
    return main(["train", "--usecase", "made-up", "--store", world.store.uri, "--dataset", world.dataset.uri, *flags])


def registered(world: World) -> list[str]:
    """The kinds of the registered versions, and how many runs there are."""
    with sqlite3.connect(world.database) as connection:
        query = "select value from model_version_tags where key = 'terraloop.kind'"
        return [kind for (kind,) in connection.execute(query)]


def stem(world: World, split: Split) -> str:
    chip = world.dataset.chips(split)[0]
    return str(world.store.raster_path(f"datasets/{world.dataset.digest}/chips/{chip.shard}"))


def change_label(split: Split, value: int) -> Damage:
    def damage(world: World) -> None:
        path = f"{stem(world, split)}.labels.npy"
        labels = np.load(path)
        labels[0, 10, 10] = value if labels[0, 10, 10] != value else 1 - value
        np.save(path, labels)

    return damage


def change_image(world: World) -> None:
    path = f"{stem(world, 'train')}.images.npy"
    images = np.load(path)
    images[0, 0, 10:12] += 9
    np.save(path, images)


def remove_shard(world: World) -> None:
    Path(f"{stem(world, 'validation')}.images.npy").unlink()


def smaller_chips(world: World) -> None:
    np.save(f"{stem(world, 'train')}.labels.npy", np.zeros((1, SIZE // 2, SIZE), dtype=np.uint8))


def edit_manifest(world: World, change: Callable[[dict], None]) -> None:  # type: ignore[type-arg]
    path = Path(world.store.raster_path(f"datasets/{world.dataset.digest}/manifest.json"))
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def without(split: Split) -> Damage:
    def drop(manifest: dict) -> None:  # type: ignore[type-arg]
        manifest["chips"] = [chip for chip in manifest["chips"] if chip["split"] != split]

    return lambda world: edit_manifest(world, drop)


def counting(counts: list[int], split: Split) -> Damage:
    def count(manifest: dict) -> None:  # type: ignore[type-arg]
        for chip in manifest["chips"]:
            if chip["split"] == split:
                chip["class_counts"] = counts

    return lambda world: edit_manifest(world, count)


def another_digest(world: World) -> None:
    edit_manifest(world, lambda manifest: manifest.update(digest="0" * 64))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (without("train"), "the train split has no chip"),
        (without("validation"), "the validation split has no chip"),
        (counting([1024, 0], "train"), "the training labels hold land alone"),
        (counting([0, 0], "train"), "every label of the train split is ignored"),
        (counting([0, 0], "validation"), "every label of the validation split is ignored"),
        (change_label("train", 7), "holds 7, which is none of the 2 classes"),
        (change_label("validation", 254), "holds 254, which is none of the 2 classes"),
        (change_label("validation", 0), "other pixels per class than the manifest"),
        (change_image, "statistics.json is not of these training chips"),
        (remove_shard, "cannot be read"),
        (smaller_chips, "has the shape"),
        (another_digest, "the manifest's digest is 000000000000"),
    ],
)
def test_what_cannot_be_learned_from_is_refused_with_3(
    world: World, damage: Damage, told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    damage(world)
    assert run(world, "--result", str(tmp_path / "result.json")) == 3
    captured = capfd.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("eo-models train: error: ")]
    assert len(errors) == 1
    assert told in errors[0]
    assert world.dataset.uri in errors[0]
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not (tmp_path / "result.json").exists()
    assert registered(world) == []


def test_a_loss_that_is_no_number_names_epoch_and_step(
    make_world: Callable[..., World], capfd: pytest.CaptureFixture[str]
) -> None:
    world = make_world(train={"learning_rate": 1e30})
    assert run(world) == 2
    told = capfd.readouterr().err
    assert "Traceback" not in told
    assert "train.learning_rate: the training loss is nan in step " in told
    assert " of epoch 1. Lower train.learning_rate, which is 1e+30" in told
    assert registered(world) == ["spectral-index"]
    with sqlite3.connect(world.database) as connection:
        assert sorted(connection.execute("select status from runs")) == [("FAILED",), ("FINISHED",)]


@pytest.mark.parametrize(
    "wrong",
    [{"precision": "float16"}, {"focal": -1}, {"sampling": {"balance": 2}}, {"sampling": {"weights": [1]}}],
)
def test_a_wrong_setting_is_said_before_anything_starts(
    make_world: Callable[..., World], wrong: dict[str, object], capfd: pytest.CaptureFixture[str]
) -> None:
    world = make_world(train=wrong)
    assert run(world) == 2
    assert f"train.{next(iter(wrong))}" in capfd.readouterr().err
    assert registered(world) == []


def test_a_registry_that_is_away_is_temporary(
    world: World, monkeypatch: pytest.MonkeyPatch, unused_port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{unused_port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert run(world) == 75
    assert "the registry did not answer" in capfd.readouterr().err


def test_checkpoints_that_cannot_be_written_are_said_before_training(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run(world, "--checkpoints", str(tmp_path / "file")) == 2
    assert "checkpoints cannot be written" in capfd.readouterr().err
    assert registered(world) == ["spectral-index"]
