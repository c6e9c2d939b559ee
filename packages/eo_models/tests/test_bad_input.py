"""Mistakes at each command: one clear error, the exit code of its class, nothing registered or half written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eo_data.model.ledger import Ledger
from eo_models.cli import main
from eo_models.registry import Registry
from eo_models.tracking import connect

from .conftest import Pair, World

SPOILED = "evaluations/spoiled/evaluation.json"
CASES = [
    ("evaluate --model made-up/2 --dataset {dataset}", 2, "this is no model version"),
    ("evaluate --model models:/made-up@best --dataset {dataset}", 2, "the alias 'best' is not kept here"),
    ("evaluate --model models:/made-up/99 --dataset {dataset}", 3, "no such model version"),
    ("evaluate --model {better} --dataset datasets/none", 3, "there is no such object"),
    ("evaluate --model {better} --dataset {spoiled}", 3, "spoiled"),
    ("promote --evaluation evaluations/none", 3, "there is no such object"),
    ("promote --evaluation {spoiled}", 3, "no evaluation record"),
    ("promote --evaluation s3://elsewhere/evaluations/x", 2, "outside the store"),
    ("rollback --reason why --to 2", 2, "version 2 of 'made-up' was never champion"),
    ("rollback --reason why", 2, "no other version than"),
    ("select-best --experiment nowhere --usecase made-up", 3, "there is no such experiment"),
    ("select-best --experiment nowhere", 2, "there is no use case 'nowhere'"),
    ("export --model made-up --out {folder}/out", 2, "this is no model version"),
    ("export --model models:/made-up/99 --out {folder}/out", 3, "no such model version"),
    ("export --model {better} --out {folder}/full", 2, "not empty"),
    ("export --model {better} --out {folder}/full/file/below", 2, "no folder can be made here"),
    ("import --from {folder}/nothing", 3, "no exported version"),
    ("import --from {folder}/full", 3, "no exported version"),
]


@pytest.mark.parametrize(
    ("call", "code", "told"), CASES, ids=[f"{k}-{case[0].split()[0]}" for k, case in enumerate(CASES)]
)
def test_a_mistake_is_told_once_and_changes_nothing(
    world: World, pair: Pair, tmp_path: Path, capfd: pytest.CaptureFixture[str], call: str, code: int, told: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    world.store.put_json_new(SPOILED, {"format": 2})
    before = state(world)
    files = {path for path in tmp_path.iterdir()}
    names = {"dataset": world.dataset.uri, "better": pair.better.uri, "folder": str(tmp_path), "spoiled": SPOILED}
    step, *flags = (part.format(**names) for part in call.split())
    if step not in {"export", "import", "select-best"}:
        flags += ["--usecase", "made-up"]
    if step != "select-best":
        flags += ["--store", world.store.uri]
    result = tmp_path / "result.json"
    assert main([step, *flags, "--result", str(result)]) == code
    said = capfd.readouterr().err
    assert told in said
    assert said.count(f"eo-models {step}: error:") == 1
    assert "Traceback" not in said
    assert not result.exists()
    assert {path for path in tmp_path.iterdir()} == files
    assert state(world) == before


def state(world: World) -> str:
    """Versions, runs, aliases, ledger and every object of the store."""
    client = connect()
    experiments = [e.experiment_id for e in client.search_experiments()]
    return json.dumps(
        {
            "versions": [v.uri for v in Registry("made-up").versions()],
            "models": sorted(model.name for model in client.search_registered_models()),
            "runs": sorted((run.info.run_id, run.info.status) for run in client.search_runs(experiments)),
            "aliases": {k: str(v) for k, v in client.get_registered_model("made-up").aliases.items()},
            "ledger": [entry.model_dump(mode="json") for entry in Ledger(world.store, "made-up").entries()],
            "store": sorted(world.store.list("")),
        }
    )
