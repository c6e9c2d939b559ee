"""What happens between a promotion's steps: other writers, a registry that counts anew, a store that is away."""

from __future__ import annotations

from typing import Any

import pytest

from eo_data.errors import DataRefused, TemporaryFailure
from eo_data.model.ledger import Ledger, Promotion
from eo_models import promotion
from eo_models.evaluation import evaluate
from eo_models.promotion import promote
from eo_models.registry import Registry
from eo_models.selection import lower_is_better
from eo_models.training import train

from .conftest import Pair, World


def append(world: World, version: int, digest: str, description: str, reason: Any = "rollback") -> Promotion:
    ledger = Ledger(world.store, world.usecase.name)
    return ledger.append(
        after=len(ledger.entries()),
        version=version,
        model_digest=digest,
        description_digest=description,
        reason=reason,
    )


def aliases(world: World) -> dict[str, int]:
    from mlflow import MlflowClient

    found = MlflowClient().get_registered_model(world.usecase.name).aliases
    return {name: int(version) for name, version in found.items()}


def test_aliases_follow_the_ledger_as_it_is_in_the_end(
    world: World, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody rolls back between this promotion's entry and its aliases."""
    uri = evaluate(world.store, world.usecase, pair.better.uri, world.dataset.uri, progress=False)["evaluation"]
    ledger = Ledger(world.store, world.usecase.name)
    before = ledger.champion()
    assert before is not None
    write = promotion._promote

    def write_and_be_overtaken(*arguments: Any) -> Promotion:
        entry = write(*arguments)
        append(world, before.version, before.model_digest, before.description_digest)
        return entry

    monkeypatch.setattr(promotion, "_promote", write_and_be_overtaken)
    said = promote(world.store, world.usecase, uri)
    assert (said["gate"]["verdict"], said["champion"], said["previous"]) == ("promoted", before.uri, pair.better.uri)
    assert aliases(world) == {"champion": before.version, "previous": pair.better.number}


def test_a_number_that_the_ledger_knows_with_other_digests_is_not_promoted(world: World, pair: Pair) -> None:
    """As where the registry was set up anew: readers of the ledger could never be sure of that number again."""
    ledger = Ledger(world.store, world.usecase.name)
    before = ledger.champion()
    assert before is not None
    uri = evaluate(world.store, world.usecase, pair.better.uri, world.dataset.uri, progress=False)["evaluation"]
    append(world, pair.better.number, "1" * 64, "2" * 64)
    append(world, before.version, before.model_digest, before.description_digest)
    with pytest.raises(DataRefused):
        promote(world.store, world.usecase, uri)
    assert len(ledger.entries()) == 3


def test_a_store_that_is_away_is_not_taken_for_another_training(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(self: Ledger, **entry: Any) -> Promotion:
        raise TemporaryFailure("the store does not answer", where="store", fix="Try again")

    monkeypatch.setattr(Ledger, "append", away)
    with pytest.raises(TemporaryFailure, match="the store does not answer"):
        train(world.store, world.usecase, world.dataset.uri, progress=False)
    assert Registry(world.usecase.name).versions()  # the index is registered; the next call goes on from there


@pytest.mark.parametrize(
    ("metric", "lower"),
    [("validation_brier", True), ("validation_loss", True), ("validation_calibration_error", True),
     ("validation_iou", False), ("validation_average_precision", False)],
)  # fmt: skip
def test_which_way_a_metric_is_better(metric: str, lower: bool) -> None:
    assert lower_is_better(metric) is lower
