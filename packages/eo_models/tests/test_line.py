"""Train, evaluate, promote: the line as its users run it, on a made-up dataset and a registry on SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eo_data.dataset import model_input
from eo_data.errors import DataRefused, GateRefused, TemporaryFailure, UsageError
from eo_data.model.files import fetch_model
from eo_data.model.ledger import Ledger
from eo_data.model.session import OnnxModel
from eo_data.usecase import UseCase
from eo_models.configuration import gate_section
from eo_models.confusion import count, pool
from eo_models.evaluation import evaluate
from eo_models.promotion import promote
from eo_models.registry import Registry
from eo_models.training import train

from .conftest import SIZE, World, write_dataset

Evaluation = dict[str, Any]

BAD = {"epochs": 1, "learning_rate": 1e-9}
"""A training that learns nothing."""


def steps(world: World) -> tuple[dict[str, Any], dict[str, Any]]:
    trained = train(world.store, world.usecase, world.dataset.uri, progress=False)
    return trained, evaluate(world.store, world.usecase, trained["model"], world.dataset.uri, progress=False)


def aliases(world: World) -> dict[str, int]:
    from mlflow import MlflowClient

    found = MlflowClient().get_registered_model(world.usecase.name).aliases
    return {name: int(version) for name, version in found.items()}


def test_a_good_candidate_becomes_champion_and_a_second_run_changes_nothing(world: World) -> None:
    trained, evaluated = steps(world)
    assert (trained["model"], trained["index"]) == ("models:/made-up/2", "models:/made-up/1")
    assert not trained["existing"]
    assert not evaluated["existing"]
    ledger = Ledger(world.store, "made-up")
    assert [(entry.version, entry.reason) for entry in ledger.entries()] == [(1, "bootstrap")]
    assert aliases(world) == {"champion": 1}
    assert evaluated["champion"] == evaluated["index"] == "models:/made-up/1"
    assert evaluated["iou"]["candidate"] > evaluated["iou"]["index"] == evaluated["iou"]["champion"]
    assert evaluated["iou"]["index"] >= evaluated["iou"]["index_untuned"] > 0

    promoted = promote(world.store, world.usecase, evaluated["evaluation"])
    assert promoted["gate"]["verdict"] == "promoted"
    assert "95 % interval" in promoted["gate"]["reasons"][0]
    assert (promoted["champion"], promoted["previous"], promoted["entry"]) == (trained["model"], trained["index"], 2)
    entry = ledger.entries()[-1]
    assert (entry.model_digest, entry.reason, entry.evaluation) == (trained["digest"], "gate", evaluated["evaluation"])
    assert aliases(world) == {"champion": 2, "previous": 1}

    again, evaluated_again = steps(world)
    assert again == {**trained, "existing": True}
    assert evaluated_again["champion"] == trained["model"]
    second = promote(world.store, world.usecase, evaluated_again["evaluation"])
    assert second["gate"]["verdict"] == "no-op"
    assert (second["champion"], second["entry"]) == (trained["model"], None)
    assert promote(world.store, world.usecase, evaluated["evaluation"])["gate"]["verdict"] == "no-op"
    assert len(ledger.entries()) == 2
    third = evaluate(world.store, world.usecase, trained["model"], world.dataset.uri, progress=False)
    assert third == {**evaluated_again, "existing": True}


def test_a_bad_candidate_is_refused_once_and_the_index_stays(make_world: Callable[..., World]) -> None:
    world = make_world(train=BAD)
    trained, evaluated = steps(world)
    with pytest.raises(GateRefused, match=r"does not beat the index, which is champion: holdout IoU 0\.\d") as refusal:
        promote(world.store, world.usecase, evaluated["evaluation"])
    assert refusal.value.result["gate"]["verdict"] == "refused"
    assert refusal.value.result["champion"] == trained["index"]
    assert refusal.value.result["entry"] is None
    assert len(Ledger(world.store, "made-up").entries()) == 1
    assert aliases(world) == {"champion": 1}

    _, evaluated_again = steps(world)
    assert evaluated_again == {**evaluated, "existing": True}
    second = promote(world.store, world.usecase, evaluated_again["evaluation"])
    assert second["gate"]["verdict"] == "no-op"
    assert second["gate"]["reasons"][0] == "judged before: refused"
    assert second["champion"] == trained["index"]
    assert len(Ledger(world.store, "made-up").entries()) == 1


def test_too_few_cells_are_refused(make_world: Callable[..., World]) -> None:
    world = make_world(gate={"min_cells": 9})
    _, evaluated = steps(world)
    with pytest.raises(GateRefused, match=r"not enough evidence: 8 holdout cells .* gate\.min_cells is 9"):
        promote(world.store, world.usecase, evaluated["evaluation"])


def test_evaluation_counts_what_the_models_say(world: World) -> None:
    trained, evaluated = steps(world)
    evaluation = world.store.get_json(world.store.key(evaluated["evaluation"]))
    for role, uri in (("candidate", trained["model"]), ("index", trained["index"])):
        files = fetch_model(uri)
        model = OnnxModel(files.graph, files.description)
        for split in ("validation", "holdout", "test"):
            parts = []
            for chip in world.dataset.chips(split):
                image, label = world.dataset.read(chip)
                parts.append(count(model.mask(*model_input(image)), label))
            pooled = evaluation["splits"][split]["pooled"][role]
            assert pooled["counts"] == pool(parts).as_list()
            assert pooled["iou"] == pool(parts).iou
            assert [cell[role] for cell in evaluation["splits"][split]["cells"]] == [p.as_list() for p in parts]
    comparison = evaluation["comparisons"]["index"]
    pooled = evaluation["splits"]["holdout"]["pooled"]
    assert comparison["difference"] == pytest.approx(pooled["candidate"]["iou"] - pooled["index"]["iou"])
    assert comparison["low"] <= comparison["difference"] <= comparison["high"]
    assert evaluation["simulated"] is True
    assert evaluation["holdout_cells_with_target"] == 8
    folder = Path(world.store.raster_path(world.store.key(evaluated["evaluation"]))).parent
    assert f"evaluations/{trained['digest']}/{world.dataset.digest}/" in str(folder)
    assert (folder / "samples.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.html").read_text()
    assert f"{pooled['candidate']['iou']:.3f}" in page
    assert "Simulated scenes" in page


def test_cells_that_a_model_was_trained_on_are_dropped_and_counted(world: World) -> None:
    trained = train(world.store, world.usecase, world.dataset.uri, progress=False)
    manifest = world.dataset.manifest
    seen = {"holdout-00": "train-00", "holdout-01": "train-00", "test-00": "validation-01"}
    chips = [chip.model_copy(update={"cell": seen.get(chip.cell, chip.cell)}) for chip in manifest.chips]
    moved = manifest.model_copy(update={"digest": "e" * 64, "chips": tuple(chips)})
    for key in world.store.list(f"datasets/{'d' * 64}"):
        if not key.endswith("manifest.json"):
            world.store.put_new(key.replace("d" * 64, "e" * 64), world.store.get(key))
    world.store.put_json_new(f"datasets/{'e' * 64}/manifest.json", moved.model_dump(mode="json"))
    evaluated = evaluate(world.store, world.usecase, trained["model"], f"datasets/{'e' * 64}", progress=False)
    splits = world.store.get_json(world.store.key(evaluated["evaluation"]))["splits"]
    assert splits["holdout"]["dropped"] == {"cells": 1, "chips": 2}
    assert splits["holdout"]["chips"] == 6
    assert splits["test"]["dropped"] == {"cells": 1, "chips": 1}
    assert splits["validation"]["dropped"] == {"cells": 0, "chips": 0}
    assert "train-00" not in {cell["cell"] for cell in splits["holdout"]["cells"]}


def test_undefined_figures_are_null(make_world: Callable[..., World]) -> None:
    world = make_world(train=BAD)
    for chip in world.dataset.chips("test"):
        stem = world.store.raster_path(f"datasets/{world.dataset.digest}/chips/{chip.shard}")
        Path(f"{stem}.labels.npy").unlink()
        np.save(f"{stem}.labels.npy", np.full((1, SIZE, SIZE), 255, dtype=np.uint8))
    _, evaluated = steps(world)
    assert evaluated["iou"] == {"candidate": None, "champion": None, "index": None, "index_untuned": None}
    json.dumps(evaluated, allow_nan=False)


def test_an_evaluation_against_a_former_champion_is_stale(world: World) -> None:
    trained, evaluated = steps(world)
    ledger = Ledger(world.store, "made-up")
    ledger.append(after=1, version=7, model_digest="f" * 64, description_digest="f" * 64, reason="rollback")
    with pytest.raises(UsageError, match="Run evaluate again"):
        promote(world.store, world.usecase, evaluated["evaluation"])
    assert len(ledger.entries()) == 2
    assert trained["version"] == 2


def test_of_two_that_promote_at_once_one_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, evaluated = steps(world)
    ledger = Ledger(world.store, "made-up")
    original = Ledger.append

    def overtaken(self: Ledger, **arguments: Any) -> Any:
        original(self, after=1, version=9, model_digest="a" * 64, description_digest="a" * 64, reason="rollback")
        return original(self, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", overtaken)
        with pytest.raises(TemporaryFailure, match="took entry 2"):
            promote(world.store, world.usecase, evaluated["evaluation"])
    assert [entry.version for entry in ledger.entries()] == [1, 9]
    with pytest.raises(UsageError, match="Run evaluate again"):
        promote(world.store, world.usecase, evaluated["evaluation"])


def test_a_model_is_its_digest_whatever_the_version_is_called(world: World) -> None:
    trained, evaluated = steps(world)
    path = Path(world.store.raster_path(world.store.key(evaluated["evaluation"])))
    path.write_text(path.read_text().replace("models:/made-up/2", "models:/made-up/7"))
    promoted = promote(world.store, world.usecase, evaluated["evaluation"])
    assert (promoted["gate"]["verdict"], promoted["champion"]) == ("promoted", trained["model"])


def test_rolled_back_is_not_promoted_again_by_the_same_evaluation(world: World) -> None:
    trained, evaluated = steps(world)
    promote(world.store, world.usecase, evaluated["evaluation"])
    ledger = Ledger(world.store, "made-up")
    first = ledger.entries()[0]
    ledger.append(
        after=2,
        version=first.version,
        model_digest=first.model_digest,
        description_digest=first.description_digest,
        reason="rollback",
    )
    for without_record in (False, True):
        if without_record:  # as if promote had been killed before it wrote the verdict
            [record] = Path(world.store.raster_path("evaluations")).rglob("verdict-*.json")
            record.unlink()
        result = promote(world.store, world.usecase, evaluated["evaluation"])
        assert result["gate"]["verdict"] == "no-op"
        assert "promoted" in result["gate"]["reasons"][0]
        assert (result["champion"], result["previous"]) == (trained["index"], trained["model"])
    assert aliases(world) == {"champion": 1, "previous": 2}
    assert len(ledger.entries()) == 3


def test_an_edited_evaluation_is_refused_by_name(world: World) -> None:
    _, evaluated = steps(world)
    path = Path(world.store.raster_path(world.store.key(evaluated["evaluation"])))
    path.write_text(path.read_text().replace('"target"', '"tarmac"'))
    with pytest.raises(DataRefused, match="no evaluation record"):
        promote(world.store, world.usecase, evaluated["evaluation"])


def test_aliases_are_repaired(world: World) -> None:
    from mlflow import MlflowClient

    _, evaluated = steps(world)
    promote(world.store, world.usecase, evaluated["evaluation"])
    client = MlflowClient()
    client.set_registered_model_alias("made-up", "champion", "1")
    client.delete_registered_model_alias("made-up", "previous")
    assert promote(world.store, world.usecase, evaluated["evaluation"])["gate"]["verdict"] == "no-op"
    assert aliases(world) == {"champion": 2, "previous": 1}


def test_version_is_whole_and_mlflow_can_load_it(world: World) -> None:
    import mlflow

    trained = train(world.store, world.usecase, world.dataset.uri, progress=False)
    files = fetch_model(trained["model"])
    description = files.description
    assert (files.digest, description.kind, description.architecture) == (trained["digest"], "network", "U-Net")
    assert description.input.bands == ("blue", "green", "nir", "swir16")
    assert description.dataset_digest == world.dataset.digest
    assert set(description.training_cells) == {c.cell for c in world.dataset.chips("train", "validation")}
    OnnxModel(files.graph, description).self_test()
    chip = world.dataset.chips("test")[0]
    pixels, valid = model_input(world.dataset.read(chip)[0])
    answer = mlflow.pyfunc.load_model(trained["model"]).predict(pixels[None])
    assert answer["probability"].shape == (1, 2, SIZE, SIZE)
    served = OnnxModel(files.graph, description).probability(pixels, valid)
    inner = np.s_[:, 8:-8, 8:-8]
    assert np.isfinite(served[inner]).all()

    run = mlflow.MlflowClient().get_run(trained["run"])
    assert run.info.status == "FINISHED"
    assert run.data.tags["terraloop.dataset.sha256"] == world.dataset.digest
    assert run.data.params["epochs"] == "6"
    assert run.inputs is not None
    [used] = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("made-up", world.dataset.digest[:32])
    assert json.loads(used.dataset.profile or "")["chips"] == {"train": 12, "validation": 4, "holdout": 8, "test": 4}
    card = (world.database.parent / f"mlartifacts/{trained['run']}/artifacts/model-card.md").read_text()
    assert f"| validation IoU | {description.metrics['validation_iou']:.3f} |" in card
    assert "all simulated" in card
    version = mlflow.MlflowClient().get_model_version("made-up", str(trained["version"]))
    assert version.description == run.data.tags["mlflow.note.content"] == card
    history = mlflow.MlflowClient().get_metric_history(trained["run"], "loss")
    assert [metric.step for metric in history] == [1, 2, 3, 4, 5, 6]
    artifacts = {item.path for item in mlflow.MlflowClient().list_artifacts(trained["run"], "figures")}
    assert artifacts == {f"figures/{name}.png" for name in ("samples", "precision-recall", "reliability", "confusion")}
    assert 0 <= run.data.metrics["validation_average_precision"] <= 1
    assert run.data.metrics["validation_iou"] == description.metrics["validation_iou"]  # not the last epoch's
    assert str(run.info.artifact_uri).startswith((world.database.parent / "mlartifacts").as_uri())


def test_another_train_section_is_another_version_and_the_index_is_not_repeated(world: World) -> None:
    first = train(world.store, world.usecase, world.dataset.uri, progress=False)
    text = world.usecase_file.read_text().replace("epochs: 6", "epochs: 1")
    world.usecase_file.write_text(text)
    second = train(world.store, UseCase.load("made-up"), world.dataset.uri, progress=False)
    assert (second["version"], second["index"], second["existing"]) == (3, first["index"], False)
    assert second["digest"] != first["digest"]


def test_a_grown_dataset_gets_an_index_of_its_own(world: World) -> None:
    first = train(world.store, world.usecase, world.dataset.uri, progress=False)
    counts = {"train": 14, "validation": 4, "holdout": 8, "test": 4}
    grown = write_dataset(world.store, world.usecase, "9" * 64, counts, seed=5)  # type: ignore[arg-type]
    second = train(world.store, world.usecase, grown.uri, progress=False)
    assert (second["index"], second["version"]) == ("models:/made-up/3", 4)
    evaluated = evaluate(world.store, world.usecase, second["model"], grown.uri, progress=False)
    assert (evaluated["index"], evaluated["champion"]) == ("models:/made-up/3", first["index"])
    versions = {version.number: version.tags["terraloop.kind"] for version in Registry("made-up").versions()}
    assert versions == {1: "spectral-index", 2: "network", 3: "spectral-index", 4: "network"}


def test_a_dataset_of_another_data_section_is_refused_before_training(world: World) -> None:
    text = world.usecase_file.read_text().replace("salt: made-up", "salt: another")
    world.usecase_file.write_text(text)
    with pytest.raises(UsageError, match="another data section"):
        train(world.store, UseCase.load("made-up"), world.dataset.uri, progress=False)
    with pytest.raises(UsageError, match="another data section"):
        evaluate(world.store, UseCase.load("made-up"), "models:/made-up/1", world.dataset.uri, progress=False)


def test_a_version_of_another_model_is_refused(world: World) -> None:
    with pytest.raises(DataRefused, match="no such model version"):
        evaluate(world.store, world.usecase, "models:/made-up/5", world.dataset.uri, progress=False)


def test_files_that_were_changed_after_registration_are_not_promoted(world: World) -> None:
    trained, evaluated = steps(world)
    [graph] = world.database.parent.glob(f"mlartifacts/{trained['run']}/artifacts/model/model.onnx")
    graph.write_bytes(graph.read_bytes() + b"\0")
    with pytest.raises(DataRefused, match="sha256"):
        promote(world.store, world.usecase, evaluated["evaluation"])
    assert len(Ledger(world.store, "made-up").entries()) == 1


def test_the_gate_section_is_read_before_anything_starts(make_world: Callable[..., World]) -> None:
    world = make_world(gate={"tolerance": 2})
    with pytest.raises(UsageError, match=r"gate\.tolerance"):
        train(world.store, world.usecase, world.dataset.uri, progress=False)
    with sqlite3.connect(world.database) as connection:
        assert connection.execute("select count(*) from runs").fetchone() == (0,)
    with pytest.raises(UsageError):
        gate_section(world.usecase)
