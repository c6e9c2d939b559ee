"""A version of another use case, offered for this one: judged by its figures here, never promoted as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eo_data.errors import DataRefused, UsageError
from eo_data.model.ledger import Ledger
from eo_models.cli import main
from eo_models.evaluation import evaluate
from eo_models.evaluation_record import Evaluation
from eo_models.registry import Registry

from .conftest import Pair, World, register_threshold


def test_a_worse_one_is_refused_with_both_figures_a_better_one_is_not_this_models(
    world: World, pair: Pair, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    elsewhere = Registry("made-up-hls")
    worse = register_threshold(world, elsewhere, 0.6, "network")
    better = register_threshold(world, elsewhere, 0.12, "network")
    ledger, result = Ledger(world.store, "made-up"), tmp_path / "result.json"
    flags = ["--usecase", "made-up", "--store", world.store.uri, "--result", str(result)]

    def offer(uri: str) -> tuple[int, Evaluation, str]:
        assert main(["evaluate", *flags, "--model", uri, "--dataset", world.dataset.uri]) == 0
        evaluated = json.loads(result.read_text())
        assert (evaluated["model"], evaluated["index"]) == (uri, pair.poor.uri)
        record = world.store.get_record(world.store.key(evaluated["evaluation"]), Evaluation)
        capfd.readouterr()
        code = main(["promote", *flags, "--evaluation", evaluated["evaluation"]])
        return code, record, capfd.readouterr().err

    code, record, said = offer(worse.uri)
    pooled = record.splits["holdout"].pooled
    assert code == 4
    assert f"holdout IoU {pooled['candidate'].iou:.3f} against {pooled['index'].iou:.3f}, difference -" in said
    assert json.loads(result.read_text())["gate"]["verdict"] == "refused"

    code, record, said = offer(better.uri)
    assert code == 2
    assert "it is a version of 'made-up-hls'" in said
    assert "Traceback" not in said
    assert not result.exists()
    assert [entry.reason for entry in ledger.entries()] == ["bootstrap"]
    assert len(list(Path(world.store.raster_path("evaluations")).rglob("verdict-*.json"))) == 1  # of the refused one


def test_an_index_of_the_dataset_must_be_there_to_hold_it_against(world: World, pair: Pair) -> None:
    offered = register_threshold(world, Registry("made-up-hls"), 0.6, "network")
    other = world.dataset.manifest.model_copy(update={"digest": "e" * 64})
    for key in world.store.list(f"datasets/{'d' * 64}"):
        if not key.endswith("manifest.json"):
            world.store.put_new(key.replace("d" * 64, "e" * 64), world.store.get(key))
    world.store.put_json_new(f"datasets/{'e' * 64}/manifest.json", other.model_dump(mode="json"))
    with pytest.raises(UsageError, match="no spectral index of dataset eeeeeeeeeeee is registered"):
        evaluate(world.store, world.usecase, offered.uri, f"datasets/{'e' * 64}", progress=False)
    assert world.store.list(f"evaluations/{offered.digest}") == []


def test_what_the_registry_holds_is_checked_before_an_index_becomes_champion(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload that loses its last bytes on the way, as networks and disks do."""
    from eo_models import registry as registry_module
    from eo_models.index_version import bootstrap

    whole = registry_module.write_flavour

    def torn(folder: Path, *arguments: object) -> None:
        whole(folder, *arguments)  # type: ignore[arg-type]
        graph = folder / "model.onnx"
        graph.write_bytes(graph.read_bytes()[:-7])

    registry = Registry("made-up")
    monkeypatch.setattr(registry_module, "write_flavour", torn)
    index = register_threshold(world, registry, 0.1, "spectral-index")
    with pytest.raises(DataRefused, match="sha256"):
        bootstrap(registry, world.store, index)
    assert Ledger(world.store, "made-up").entries() == []
