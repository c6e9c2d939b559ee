"""From versions and a dataset to an `Evaluation`: everyone scored on the same chips, then summed up and compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eo_data.dataset import ChipRecord, Dataset, model_input
from eo_data.model.files import ModelFiles
from eo_data.provenance import git_commit
from eo_data.store import Store
from eo_data.tiling import Pixels, Valid
from eo_data.usecase import Split, UseCase
from eo_models.behaviour import behaviour
from eo_models.bootstrap import Interval, paired_bootstrap
from eo_models.breakdown import summarise
from eo_models.calibration import ProbabilityCounts
from eo_models.configuration import GateSection
from eo_models.confusion import TARGET
from eo_models.contestants import Contestant, Observe, baselines, registered, score, untuned
from eo_models.costs import measure
from eo_models.evaluation_record import EVALUATION_FORMAT, Evaluation, Party, SplitScores
from eo_models.figures import Sample, choose_chips
from eo_models.scene_facts import facts_of

SCORED: Final[tuple[Split, ...]] = ("validation", "holdout", "test")

CURVES: Final = ("candidate", "champion", "index")
"""Those whose probabilities are held against labels on the test split."""


def make_evaluation(
    store: Store,
    usecase: UseCase,
    dataset: Dataset,
    section: GateSection,
    files: Mapping[str, ModelFiles],
    *,
    progress: bool,
) -> tuple[Evaluation, list[Sample]]:
    """Score and compare.

    Args:
        store: Where the scenes' items lie.
        usecase: Whose classes.
        dataset: What everyone is scored on.
        section: The bootstrap's settings.
        files: `candidate`, `champion` and `index`.
        progress: Whether to show a progress bar on stderr.

    Returns:
        The evaluation, and a few sample predictions of the candidate on the test split.
    """
    from tqdm import tqdm

    versions = {role: registered(found, usecase) for role, found in files.items()}
    others = baselines(usecase, dataset)
    contestants = {**versions, "index_untuned": untuned(usecase, dataset), **others}
    candidate = versions["candidate"]
    seen = frozenset(candidate.description.training_cells) | frozenset(versions["champion"].description.training_cells)
    probabilities = {versions[role].digest: ProbabilityCounts() for role in CURVES}
    chips = tqdm(dataset.chips(*SCORED), desc="evaluate", unit="chip", disable=not progress, mininterval=1.0)
    scores = score(contestants, dataset, chips, _test_only(probabilities, seen))
    scenes = {one.chip.scene for one in scores}
    facts = facts_of(store, (scene for scene in dataset.manifest.scenes if scene.id in scenes))
    # Validation is where choices were made; it is shown as it is, and decides nothing any more.
    chosen = {split: frozenset[str]() if split == "validation" else seen for split in SCORED}
    splits: dict[str, SplitScores] = {
        split: summarise(
            [one for one in scores if one.chip.split == split], list(contestants), chosen[split], facts, section
        )
        for split in SCORED
    }
    record = Evaluation(
        format=EVALUATION_FORMAT,
        usecase=usecase.name,
        target=usecase.data.classes[TARGET].name,
        simulated=bool(dataset.manifest.scenes) and all(scene.simulated for scene in dataset.manifest.scenes),
        dataset={"uri": dataset.uri, "digest": dataset.digest},
        **{role: Party(**contestants[role].as_json()) for role in (*CURVES, "index_untuned")},
        baselines={role: Party(**contestant.as_json()) for role, contestant in others.items()},
        splits=splits,
        holdout_cells_with_target=sum(
            1 for cell in splits["holdout"].cells if cell["candidate"][0] + cell["candidate"][2]
        ),
        comparisons={role: compare(splits["holdout"], role, section) for role in ("index", "champion")},
        bootstrap={"resamples": section.resamples, "seed": section.seed, "interval": 0.95},
        calibration=probabilities[candidate.digest].calibration("test"),
        curves={role: probabilities[versions[role].digest].curve("test") for role in CURVES},
        behaviour=behaviour(candidate, dataset, usecase.data),
        costs=measure({role: (versions[role], files[role].graph) for role in CURVES}, dataset),
        git_commit=git_commit(),
    )
    return record, sample_predictions(candidate, dataset)


def compare(holdout: SplitScores, opponent: str, section: GateSection) -> Interval:
    """Candidate minus opponent on the holdout: the difference of pooled IoU with its 95 % interval."""
    first, second = (
        np.array([cell[role][:3] for cell in holdout.cells], dtype=np.int64).reshape(-1, 3)
        for role in ("candidate", opponent)
    )
    return paired_bootstrap(first, second, resamples=section.resamples, seed=section.seed)


def sample_predictions(candidate: Contestant, dataset: Dataset, number: int = 4) -> list[Sample]:
    """A few chips of the test split with what the candidate says of them."""
    samples = []
    for chip in choose_chips(dataset.chips("test"), number):
        image, label = dataset.read(chip)
        pixels, valid = model_input(image)
        samples.append(Sample(chip, pixels, valid, label, candidate.mask(pixels, valid)))
    return samples


def _test_only(probabilities: Mapping[str, ProbabilityCounts], seen: frozenset[str]) -> Observe:
    """What gathers probabilities of test chips whose cell no model has seen."""

    def observe(chip: ChipRecord, digest: str, probability: Pixels, valid: Valid, label: NDArray[np.uint8]) -> None:
        if chip.split == "test" and chip.cell not in seen and digest in probabilities:
            probabilities[digest].update(probability, valid, label)

    return observe
