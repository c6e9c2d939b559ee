"""What an evaluation holds beside the gate's numbers, and what people get to see of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eo_data.dataset import Dataset
from eo_data.model.description import Tiling
from eo_data.model.files import fetch_model
from eo_data.model.session import OnnxModel
from eo_data.store import Store
from eo_models.configuration import gate_section
from eo_models.contestants import registered, score
from eo_models.evaluation import evaluate, evaluation_key
from eo_models.evaluation_record import EVALUATION_FORMAT, Evaluation
from eo_models.promotion import evaluated_version, promote
from eo_models.registry import KIND_TAG, Registry
from eo_models.spectral_index import tune_each
from eo_models.tracking import DATASET_TAG

from .conftest import SIZE, Pair, World

Evaluated = tuple[World, Evaluation, Path]


def evaluated(world: World, pair: Pair, dataset: Dataset | None = None) -> tuple[Evaluation, Path]:
    uri = (dataset or world.dataset).uri
    result = evaluate(world.store, world.usecase, pair.better.uri, uri, progress=False)
    key = world.store.key(result["evaluation"])
    return world.store.get_record(key, Evaluation), Path(world.store.raster_path(key)).parent


def with_items(world: World) -> Dataset:
    """The dataset with an item for each test scene, of two months, and none for the others."""
    scenes = []
    for number, scene in enumerate(world.dataset.manifest.scenes):
        key = f"scenes/made-up/{scene.id}/0123456789abcdef/item.json"
        if scene.id.startswith("test"):
            taken = f"2024-0{1 + number % 2}-15T10:00:00Z"
            properties = {"platform": "sentinel-2b", "datetime": taken}
            world.store.put_new(key, json.dumps({"properties": properties}).encode())
        scenes.append(scene.model_copy(update={"uri": world.store.resolve(key)}))
    manifest = world.dataset.manifest.model_copy(update={"scenes": tuple(scenes)})
    path = Path(world.store.raster_path(f"datasets/{world.dataset.digest}/manifest.json"))
    path.write_text(manifest.model_dump_json())
    return Dataset(world.store, world.dataset.uri)


def test_the_record_says_per_scene_per_stratum_and_against_which_indices(world: World, pair: Pair) -> None:
    record, _ = evaluated(world, pair, with_items(world))
    assert record.format == EVALUATION_FORMAT == 3
    test = record.splits["test"]
    assert [scene.scene for scene in test.scenes] == [f"test-{k:02d}" for k in range(4)]
    for scene, cell in zip(test.scenes, test.cells, strict=True):
        assert scene.pooled["candidate"].counts == tuple(cell["candidate"])
        tp, fp, fn, _ = scene.pooled["candidate"].counts
        assert scene.pooled["candidate"].iou == pytest.approx(tp / (tp + fp + fn))
    months = test.strata["month"]
    assert {name: part.chips for name, part in months.items()} == {"01": 2, "02": 2}
    summed = np.sum([part.pooled["candidate"].counts for part in months.values()], axis=0)
    assert tuple(summed) == test.pooled["candidate"].counts
    assert set(test.strata["platform"]) == {"sentinel-2b"}
    assert set(test.strata["region"]) == {"absent"}
    assert {name: part.chips for name, part in record.splits["holdout"].strata["month"].items()} == {"absent": 8}

    assert set(record.baselines) == {"ndwi", "ndwi_tuned", "mndwi", "mndwi_tuned"}
    tuned = {one.index.name.lower(): one.index.threshold for one in tune_each(world.dataset, world.usecase.data)}
    assert record.baselines["ndwi"].threshold == record.baselines["mndwi"].threshold == 0
    assert {name: record.baselines[f"{name}_tuned"].threshold for name in tuned} == tuned
    assert test.pooled["ndwi"] == test.pooled["index_untuned"]
    interval = test.intervals["candidate"]
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low <= (test.pooled["candidate"].iou or 0) <= interval.high


def test_probabilities_behaviour_and_costs_are_measured(world: World, pair: Pair) -> None:
    record, _ = evaluated(world, pair)
    scored = sum(sum(cell["candidate"]) for cell in record.splits["test"].cells)
    assert record.calibration.pixels == sum(b.pixels for b in record.calibration.bins) == scored
    assert record.calibration.split == record.curves["champion"].split == "test"
    at_half = record.curves["candidate"].thresholds.index(0.5)
    # NDWI > 0.1 gives one half exactly at its threshold only.
    assert record.curves["candidate"].recall[at_half] == pytest.approx(
        record.splits["test"].pooled["candidate"].recall, abs=1e-3
    )
    assert {check.name for check in record.behaviour} >= {"nodata collar", "tile offset", "all snow"}
    assert set(record.costs.models) == {"candidate", "champion", "index"}
    cost = record.costs.models["candidate"]
    assert cost.chip_seconds > 0
    assert cost.megapixel_seconds > 0
    assert cost.peak_memory > 0
    assert record.costs.chip == SIZE


def test_undefined_figures_are_null_in_the_record_and_a_word_in_the_report(world: World, pair: Pair) -> None:
    for chip in world.dataset.chips("test"):
        stem = world.store.raster_path(f"datasets/{world.dataset.digest}/chips/{chip.shard}")
        Path(f"{stem}.labels.npy").unlink()
        np.save(f"{stem}.labels.npy", np.full((1, SIZE, SIZE), 255, dtype=np.uint8))
    record, folder = evaluated(world, pair)
    test = record.splits["test"]
    assert all(scene.pooled["candidate"].iou is None for scene in test.scenes)
    assert test.intervals["candidate"].low is None
    assert record.calibration.expected_error is None
    assert record.curves["candidate"].average_precision is None
    assert '"iou":null' in (folder / "evaluation.json").read_text()
    assert "NaN" not in (folder / "evaluation.json").read_text()
    for name in ("report.html", "report.md", "model-card.md"):
        assert "undefined" in (folder / name).read_text()


def test_the_report_is_one_page_that_asks_nobody_and_says_which_split_is_which(world: World, pair: Pair) -> None:
    record, folder = evaluated(world, pair)
    html = (folder / "report.html").read_text()
    assert not re.search(r"(src|href)=['\"](?!data:)", html)
    assert "Holdout: what the gate judges" in html
    assert "Test: shown, never used to choose" in html
    assert "By month: absent, no scene of holdout and test says it." in html
    pictures = {"samples.png", "intervals.png", "precision-recall.png", "reliability.png", "confusion.png",
                "confusion-champion.png", "scenes.png"}  # fmt: skip
    assert html.count("data:image/png;base64,") == len(pictures)
    for name in pictures:
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
        assert f"]({name})" in (folder / "report.md").read_text()
    shown = f"{record.splits['holdout'].pooled['candidate'].iou:.3f}"
    card = (folder / "model-card.md").read_text()
    for text in (html, (folder / "report.md").read_text(), card):
        assert shown in text
    assert card.startswith("# Model card: made-up/2\n")
    for heading in ("Intended use", "Data", "Figures", "Behaviour", "Limits", "How it was made"):
        assert f"\n## {heading}\n" in card
    assert record.candidate.digest in card
    assert world.dataset.digest in card
    assert "Trained and evaluated on simulated scenes" in card


def test_everything_is_logged_to_the_run_that_made_the_version(world: World, pair: Pair) -> None:
    from mlflow import MlflowClient

    record, folder = evaluated(world, pair)
    client = MlflowClient()
    logged = {item.path for item in client.list_artifacts(pair.better.run, f"evaluation/{folder.name}")}
    assert {Path(path).name for path in logged} == {p.name for p in folder.iterdir()} - {
        "evaluation.json",
        "draft.json",
    }
    metrics = client.get_run(pair.better.run).data.metrics
    assert metrics["holdout_iou_candidate"] == pytest.approx(record.splits["holdout"].pooled["candidate"].iou)
    assert metrics["test_calibration_error"] == pytest.approx(record.calibration.expected_error)


def test_equal_inputs_give_equal_evidence_but_for_costs(
    make_world: Callable[..., World], make_pair: Callable[[World], Pair], tmp_path: Path
) -> None:
    world = make_world()
    pair = make_pair(world)
    first, folder = evaluated(world, pair)
    for name in ("evaluation.json", "draft.json"):
        (folder / name).rename(tmp_path / name)
    second, again = evaluated(world, pair)
    assert folder == again
    leave_out = {"costs", "git_commit"}
    assert first.model_dump(exclude=leave_out) == second.model_dump(exclude=leave_out)


def test_an_evaluation_that_was_killed_goes_on_to_what_its_report_says(
    world: World, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Registry, run_id: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "reopen", killed)  # the report is in the store then, the evaluation is not
        patch.setattr("eo_models.costs.RASTER", 64)
        with pytest.raises(KeyboardInterrupt):
            evaluated(world, pair)
    record, folder = evaluated(world, pair)  # by itself it would measure a larger raster
    assert f"the raster is {record.costs.raster} x {record.costs.raster} pixels" in (folder / "report.md").read_text()
    assert record.costs.raster == 64
    assert (folder / "draft.json").read_bytes() == (folder / "evaluation.json").read_bytes()


def test_what_differs_by_machine_does_not_enter_the_key(world: World) -> None:
    section = gate_section(world.usecase)
    model, champion = ("graph", "description"), ("other graph", "other description")
    key = evaluation_key(model, "b", champion, "d", section)
    same = section.model_copy(update={"approval": "required", "behaviour": "require", "tolerance": 0.2})
    assert evaluation_key(model, "b", champion, "d", same) == key
    assert evaluation_key(model, "b", champion, "d", section.model_copy(update={"seed": 1})) != key
    assert evaluation_key(("graph", "other tiles"), "b", champion, "d", section) != key
    assert evaluation_key(model, "b", ("other graph", "other tiles"), "d", section) != key


def test_the_same_graph_in_other_tiles_is_evaluated_by_itself_and_no_news_to_the_champion(
    world: World, pair: Pair
) -> None:
    registry = Registry(world.usecase.name)
    files = fetch_model(pair.better.uri)
    tiling = files.description.tiling.model_copy(update={"tile": 64})
    tags = {KIND_TAG: "network", DATASET_TAG: world.dataset.digest}
    with registry.run("other tiles", tags) as run:
        other = registry.register(run, files.graph, files.description.model_copy(update={"tiling": tiling}), tags)
    assert other.digest == pair.better.digest
    assert other.description_digest != pair.better.description_digest
    results = [
        evaluate(world.store, world.usecase, version.uri, world.dataset.uri, progress=False)
        for version in (pair.better, other)
    ]
    assert [result["existing"] for result in results] == [False, False]
    first, second = (result["evaluation"] for result in results)
    record = world.store.get_record(world.store.key(first), Evaluation)
    assert record.candidate.description_digest == pair.better.description_digest

    # In a registry that counts anew the description that was scored is promoted, not the newest of that graph.
    renumbered = record.model_copy(
        update={"candidate": record.candidate.model_copy(update={"uri": "models:/made-up/9"})}
    )
    assert evaluated_version(registry, renumbered).uri == pair.better.uri
    assert promote(world.store, world.usecase, first)["champion"] == pair.better.uri
    again = promote(world.store, world.usecase, second)  # the champion's own graph is no news, in whichever tiles
    assert (again["gate"]["verdict"], again["champion"]) == ("no-op", pair.better.uri)


def test_equal_graphs_in_other_tiles_are_scored_each_for_itself(world: World, pair: Pair) -> None:
    files = fetch_model(pair.better.uri)
    candidate = registered(files, world.usecase)
    asked: list[int] = []
    plans = [Tiling(tile=64, halo=0, blend=0), Tiling(tile=96, halo=0, blend=0), Tiling(tile=96, halo=0, blend=0)]
    contestants = {}
    for number, tiling in enumerate(plans):
        description = candidate.description.model_copy(update={"tiling": tiling})
        contestants[str(number)] = replace(candidate, model=OnnxModel(files.graph, description))
    chips = world.dataset.chips("test")[:1]
    score(contestants, world.dataset, chips, lambda chip, way, *_: asked.append(way[1].tile))
    assert asked == [64, 96]


def test_the_champion_can_be_named_by_the_ledger(world: World, pair: Pair) -> None:
    result = evaluate(
        Store(world.store.uri), world.usecase, "models:/made-up@champion", world.dataset.uri, progress=False
    )
    assert result["model"] == result["champion"] == pair.poor.uri
    assert result["iou"]["candidate"] == result["iou"]["champion"]
