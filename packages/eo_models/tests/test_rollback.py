"""Back to an earlier champion: one more entry, never one less; aliases follow the ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eo_data.errors import DataRefused, UsageError
from eo_data.model.ledger import Ledger
from eo_models.cli import main
from eo_models.evaluation import evaluate
from eo_models.promotion import promote
from eo_models.rollback import rollback

from .conftest import Pair, World


def aliases(world: World) -> dict[str, int]:
    from mlflow import MlflowClient

    found = MlflowClient().get_registered_model(world.usecase.name).aliases
    return {name: int(version) for name, version in found.items()}


def promoted(world: World, pair: Pair) -> Ledger:
    """The ledger with the better version promoted, without the minute of an evaluation."""
    ledger = Ledger(world.store, "made-up")
    ledger.append(
        after=1,
        version=pair.better.number,
        model_digest=pair.better.digest,
        description_digest=pair.better.description_digest,
        reason="gate",
    )
    return ledger


def test_rollback_by_command_is_one_more_entry_and_repairs_the_aliases(
    world: World, pair: Pair, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    ledger = promoted(world, pair)
    MlflowClient().set_registered_model_alias("made-up", "champion", "2")
    result = tmp_path / "result.json"
    flags = ["--usecase", "made-up", "--store", world.store.uri, "--result", str(result)]
    assert main(["rollback", *flags, "--reason", "sees water in clouds"]) == 0
    assert json.loads(result.read_text()) == {
        "champion": pair.poor.uri,
        "previous": pair.better.uri,
        "entry": 3,
        "reason": "sees water in clouds",
    }
    entry = ledger.entries()[-1]
    assert (entry.number, entry.version, entry.reason) == (3, 1, "rollback")
    assert (entry.model_digest, entry.description_digest) == (pair.poor.digest, pair.poor.description_digest)
    assert entry.verdict == {"verdict": "rollback", "reasons": ["sees water in clouds"], "from": pair.better.uri}
    assert aliases(world) == {"champion": 1, "previous": 2}


def test_to_a_version_by_number_and_to_the_champion_itself(world: World, pair: Pair) -> None:
    ledger = promoted(world, pair)
    assert rollback(world.store, world.usecase, "as before", to=2)["entry"] is None
    assert aliases(world) == {"champion": 2, "previous": 1}
    assert rollback(world.store, world.usecase, "back", to=1)["entry"] == 3
    assert rollback(world.store, world.usecase, "and forth", to=2)["entry"] == 4
    assert [entry.version for entry in ledger.entries()] == [1, 2, 1, 2]
    with pytest.raises(UsageError, match=r"version 7 of 'made-up' was never champion.* Choose among 1, 2"):
        rollback(world.store, world.usecase, "far back", to=7)


def test_without_an_earlier_champion_or_a_reason_nothing_happens(world: World, pair: Pair) -> None:
    ledger = Ledger(world.store, "made-up")
    with pytest.raises(UsageError, match="no other version than models:/made-up/1 was ever champion"):
        rollback(world.store, world.usecase, "why not")
    with pytest.raises(UsageError, match="needs a reason"):
        rollback(world.store, world.usecase, "  ")
    assert len(ledger.entries()) == 1


def test_an_empty_ledger_is_told(world: World) -> None:
    with pytest.raises(DataRefused, match="is empty"):
        rollback(world.store, world.usecase, "why not")


def test_files_that_are_not_those_promoted_do_not_become_champion_again(
    world: World, pair: Pair, capfd: pytest.CaptureFixture[str]
) -> None:
    ledger = promoted(world, pair)
    [graph] = world.database.parent.glob(f"mlartifacts/**/{pair.poor.run}/artifacts/model/model.onnx")
    graph.write_bytes(graph.read_bytes() + b"\0")
    flags = ["--usecase", "made-up", "--store", world.store.uri]
    assert main(["rollback", *flags, "--reason", "x"]) == 3
    said = capfd.readouterr().err
    assert said.count("eo-models rollback: error:") == 1
    assert "digest" in said
    assert "Traceback" not in said
    assert len(ledger.entries()) == 2


def test_after_a_rollback_an_evaluation_against_the_one_rolled_back_is_stale(world: World, pair: Pair) -> None:
    evaluated = evaluate(world.store, world.usecase, pair.better.uri, world.dataset.uri, progress=False)
    assert promote(world.store, world.usecase, evaluated["evaluation"])["gate"]["verdict"] == "promoted"
    rollback(world.store, world.usecase, "it was worse in the field")
    again = promote(world.store, world.usecase, evaluated["evaluation"])
    assert again["gate"]["verdict"] == "no-op"
    assert again["champion"] == pair.poor.uri
