"""What a use case may ask beyond the numbers: a person's approval, and sound behaviour."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from eo_data.errors import GateRefused
from eo_data.model.ledger import Ledger
from eo_models.cli import main
from eo_models.configuration import GateSection
from eo_models.evaluation import evaluate
from eo_models.evaluation_record import Evaluation
from eo_models.promotion import judge_evaluation, promote

from .conftest import Pair, World

MakeWorld = Callable[..., World]
MakePair = Callable[[World], Pair]


def test_a_person_must_approve_where_the_gate_says_so(
    make_world: MakeWorld, make_pair: MakePair, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    world = make_world(gate={"approval": "required"})
    pair = make_pair(world)
    uri = evaluate(world.store, world.usecase, pair.better.uri, world.dataset.uri, progress=False)["evaluation"]
    result = tmp_path / "result.json"
    flags = ["promote", "--usecase", "made-up", "--store", world.store.uri, "--result", str(result)]
    for _ in range(2):  # waiting is no verdict: it can be asked again
        assert main([*flags, "--evaluation", uri]) == 4
        said = json.loads(result.read_text())
        assert said["gate"]["verdict"] == "refused"
        assert said["gate"]["reasons"][0].startswith("waiting for approval")
        assert said["champion"] == pair.poor.uri
        assert "waiting for approval" in capfd.readouterr().err
    ledger = Ledger(world.store, "made-up")
    assert len(ledger.entries()) == 1
    assert main([*flags, "--evaluation", uri, "--approved-by", "Ada Lovelace"]) == 0
    assert json.loads(result.read_text())["gate"]["verdict"] == "promoted"
    entry = ledger.entries()[-1]
    assert entry.verdict is not None
    assert entry.verdict["approved_by"] == "Ada Lovelace"
    [record] = Path(world.store.raster_path("evaluations")).rglob("verdict-*.json")
    assert json.loads(record.read_text())["approved_by"] == "Ada Lovelace"
    assert promote(world.store, world.usecase, uri)["gate"]["verdict"] == "no-op"


def test_no_approval_makes_a_worse_model_better(make_world: MakeWorld, make_pair: MakePair) -> None:
    world = make_world(gate={"approval": "required", "min_cells": 9})
    pair = make_pair(world)
    uri = evaluate(world.store, world.usecase, pair.better.uri, world.dataset.uri, progress=False)["evaluation"]
    with pytest.raises(GateRefused, match="not enough evidence"):
        promote(world.store, world.usecase, uri, approved_by="Ada Lovelace")
    assert len(Ledger(world.store, "made-up").entries()) == 1


def test_a_failed_behavioural_test_refuses_only_where_it_is_required(world: World, pair: Pair) -> None:
    uri = evaluate(world.store, world.usecase, pair.better.uri, world.dataset.uri, progress=False)["evaluation"]
    sound = world.store.get_record(world.store.key(uri), Evaluation)
    first, *others = sound.behaviour
    failing = first.model_copy(update={"passed": False, "detail": "1000 pixels change"})
    unasked = first.model_copy(update={"passed": None, "detail": "of 0 pixels"})
    faulty = sound.model_copy(update={"behaviour": (failing, *others)})
    open_question = sound.model_copy(update={"behaviour": (unasked, *others)})
    reported, required = (GateSection(min_cells=4, behaviour=rule) for rule in ("report", "require"))
    assert judge_evaluation(faulty, reported).verdict == "promoted"
    refused = judge_evaluation(faulty, required)
    assert refused.verdict == "refused"
    assert refused.reasons == ("fails 'nodata collar': 1000 pixels change",)
    assert judge_evaluation(sound, required).verdict == "promoted"
    assert judge_evaluation(open_question, reported).verdict == "promoted"
    refused = judge_evaluation(open_question, required)
    assert refused.verdict == "refused"
    assert refused.reasons == ("could not be asked 'nodata collar': of 0 pixels",)
