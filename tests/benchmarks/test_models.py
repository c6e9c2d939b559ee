"""The benchmark of models: its checks of equality can fail, and its figures are what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import models
from benchmarks.models import chips, loops, precision, runtimes, tables
from benchmarks.models.precision import FORMS, PLAIN, Agreement
from benchmarks.protocol import Check, Kind, Measured, Sample, Summary
from eo_models.configuration import TrainSection
from eo_models.export import export_network
from eo_models.networks import build_network
from eo_models.unet import Reflectance

SECTION = TrainSection.model_validate(
    {"channels": 4, "convolutions": [1, 1, 1, 1], "minibatch": 2, "learning_rate": 0.01}
)
CPU = torch.device("cpu")


def measured(name: str, *cpu: float, chips: int = 10, kind: Kind = "peer") -> Measured:
    return Measured(name, kind, tuple(Sample(chips, seconds, 2 * seconds) for seconds in cpu))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> loops.Pair:
    """Four steps of a small U-Net on simulated chips."""
    dataset = chips.make_dataset(tmp_path_factory.mktemp("store"), 8, chips.water())
    return loops.unet_pair(dataset, SECTION, [(1, 3)], CPU)


def test_both_loops_end_with_the_same_weights(pair: loops.Pair) -> None:
    assert pair.work == 8
    assert loops.equal_weights(pair).passed
    assert loops.equal_weights(loops.null_pair(20, SECTION, CPU)).passed


@pytest.mark.parametrize("changed", [{"learning_rate": 0.0101}, {"averaging": 0.5}, {"weight_decay": 0.02}])
def test_another_training_is_not_taken_for_the_same(changed: dict[str, float]) -> None:
    other = loops.null_pair(20, SECTION.model_copy(update=changed), CPU)
    check = loops.equal_weights(loops.null_pair(20, SECTION, CPU), other)
    assert not check.passed
    assert "greatest difference" in check.said


def test_the_greatest_difference_is_that_of_the_worst_tensor() -> None:
    first = {"a": torch.zeros(3), "n": torch.tensor(4)}
    assert loops.greatest_difference(first, {"a": torch.zeros(3), "n": torch.tensor(4)}) == 0
    assert loops.greatest_difference(first, {"a": torch.tensor([0, 0.5, 0]), "n": torch.tensor(2)}) == 2
    for other in (
        {"a": torch.zeros(3)},
        {"a": torch.zeros(4), "n": torch.tensor(4)},
        {"a": torch.tensor([0, torch.nan, 0]), "n": torch.tensor(4)},
    ):
        assert loops.greatest_difference(first, other) == float("inf")


def test_a_step_costs_the_slope_between_few_and_many() -> None:
    template = "steps {}"
    entries = [measured(template.format(100), 1.0, 1.1, 1.0), measured(template.format(500), 1.8, 2.3, 1.4)]
    cost = loops.step_milliseconds(entries, template, (100, 500))
    assert (cost.median, cost.least, cost.most) == pytest.approx((2.0, 1.0, 3.0))


def outcome(**cpu: float) -> models.Outcome:
    """Measurements in which Lightning costs 1 ms a step and 2 % of an epoch more, unless told otherwise."""
    seconds = {
        loops.NULL_LIGHTNING.format(100): 1.0, loops.NULL_LIGHTNING.format(500): cpu.get("step", 1.8),
        loops.NULL_BARE.format(100): 0.5, loops.NULL_BARE.format(500): 0.9,
        loops.LIGHTNING: cpu.get("epoch", 10.2), loops.BARE: 10.0,
    }  # fmt: skip
    names = (*(loops.EQUAL.format(what) for what in ("null model", "U-Net")), runtimes.EQUAL)
    return models.Outcome(
        [measured(name, value, value) for name, value in seconds.items()],
        {name: Check(True, "looked at") for name in names},
        {},
        (100, 500),
        cpu.get("logit", 1e-6),
    )


def test_goals_hold_what_was_measured() -> None:
    found = outcome()
    goals = models.make_goals(found)
    assert [goal.value for goal in goals] == pytest.approx([1.0, 1.02, 1e-6])
    assert all(goal.met(found.checks) for goal in goals)


@pytest.mark.parametrize(("changed", "missed"), [({"step": 2.41}, 0), ({"epoch": 10.51}, 1), ({"logit": 1.1e-4}, 2)])
def test_each_goal_can_be_missed(changed: dict[str, float], missed: int) -> None:
    found = outcome(**changed)
    assert [goal.met(found.checks) for goal in models.make_goals(found)] == [place != missed for place in range(3)]


@pytest.mark.parametrize("number", range(3))
def test_a_failed_check_takes_its_goal_with_it(number: int) -> None:
    found = outcome()
    name = list(found.checks)[number]
    checks = {**found.checks, name: Check(False, "differs")}
    assert [goal.met(checks) for goal in models.make_goals(found)] == [place != number for place in range(3)]


def small() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network(Reflectance([1500.0] * 6, [900.0] * 6, [(1, 3)]), 2, SECTION).eval()


def test_forms_are_compared_with_plain_float32() -> None:
    scene = chips.make_scene(64)[0].astype(np.float32)
    images = torch.from_numpy(scene)[None]
    batches = [(images, torch.from_numpy(chips.make_scene(64)[1].astype(np.int64))[None])]
    variants, near = precision.make_variants(small(), batches, images, SECTION)
    assert [variant.run() for variant in variants] == [1] * len(variants)
    assert set(near) == {variant.name for variant in variants}
    assert near[precision.INFER.format(PLAIN.name)] == Agreement(1.0, 0.0)
    assert near[precision.INFER.format("float32, channels_last")].logit < 1e-4
    assert 1e-4 < near[precision.INFER.format("bfloat16")].logit < 1
    assert sum(variant.kind == "ours" for variant in variants) == 1


def test_agreement_counts_pixels_and_logits() -> None:
    expected = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 2, 1, 2)
    found = expected.clone()
    found[0, 0, 0, 1] = 1.5
    assert Agreement.of(found, expected) == Agreement(0.5, 1.5)


def test_runtimes_are_compared_by_logits() -> None:
    network = small()
    graph = export_network(network, 6)
    scene = chips.make_scene(128)[0].astype(np.float32)
    tiles = [runtimes.cut_tiles(scene, size) for size in (32, 64)]
    assert [(len(cut), cut[0].shape) for cut in tiles] == [(256, (1, 6, 32, 32)), (64, (1, 6, 64, 64))]
    check, difference = runtimes.compare(network, graph, tiles)
    assert check.passed
    assert 0 < difference < 1e-4
    with torch.no_grad():
        network.head.bias += 0.01  # type: ignore[operator,union-attr]
    check, difference = runtimes.compare(network, graph, tiles)
    assert not check.passed
    assert "logits by 0.01" in check.said
    assert difference == float("inf")


def test_scenes_are_the_same_for_the_same_seed_and_hold_both_classes() -> None:
    pixels, label = chips.make_scene(64)
    again, _ = chips.make_scene(64)
    assert np.array_equal(pixels, again)
    assert label.mean() == pytest.approx(chips.SHARE, abs=0.01)
    assert pixels[3][label == 1].mean() < 0.3 * pixels[3][label == 0].mean()


def test_tables_and_picture_show_cpu_milliseconds(tmp_path: Path) -> None:
    entries = [
        measured(loops.LIGHTNING, 0.1, 0.3, 0.2, kind="ours"),
        measured(precision.INFER.format(FORMS[2].name), 0.05, 0.05),
        measured(runtimes.ONNX.format(64), 0.01),
    ]
    near = {precision.INFER.format(FORMS[2].name): Agreement(0.9995, 0.025)}
    lines = tables.table_lines(entries, near)
    assert lines[1].split()[-3:] == ["20.00", "10.00..30.00", "40.00"]
    assert lines[2].endswith("99.9500%, 0.025")
    tables.write_plot(tmp_path / "deep" / "models.png", entries, {"Lightning": Summary(1, 0.5, 2)}, "title")
    assert (tmp_path / "deep" / "models.png").read_bytes().startswith(b"\x89PNG")
