"""`evaluate`: candidate, champion, tuned and untuned index on the same chips, through the tile plan that serves."""

from __future__ import annotations

import logging
from typing import Any, Final

import numpy as np

from eo_data.dataset import Dataset, model_input
from eo_data.digests import SHORT, json_digest
from eo_data.errors import UsageError
from eo_data.model.description import ModelDescription
from eo_data.model.files import fetch_model
from eo_data.model.ledger import Ledger
from eo_data.provenance import git_commit
from eo_data.store import Store
from eo_data.usecase import Split, UseCase
from eo_models.bootstrap import paired_bootstrap
from eo_models.configuration import GateSection, gate_section
from eo_models.confusion import TARGET
from eo_models.contestants import ROLES, Contestant, registered, score, summarise, untuned
from eo_models.evaluation_record import Evaluation
from eo_models.evaluation_report import report_files
from eo_models.figures import Sample, choose_chips, sample_figure
from eo_models.index_version import KIND
from eo_models.inputs import require_same_data
from eo_models.registry import KIND_TAG, Registry, Version
from eo_models.tracking import DATASET_TAG

log = logging.getLogger(__name__)

EVALUATION_FORMAT: Final = 1
"""Raised when evaluating changes meaning: an evaluation under another format is another evaluation."""

SCORED: Final[tuple[Split, ...]] = ("validation", "holdout", "test")


def evaluate(store: Store, usecase: UseCase, model: str, uri: str, *, progress: bool = True) -> dict[str, Any]:
    """Score a version against the champion and the indices, unless that was done before.

    Args:
        store: Where the dataset and the ledger lie, and the evaluation goes.
        usecase: Whose classes, and the `gate` section with the bootstrap's settings.
        model: The candidate, `models:/NAME/VERSION`.
        uri: The dataset.
        progress: Whether to show a progress bar on stderr.

    Returns:
        The step's result: `evaluation`, `model`, `champion`, `index`, `iou` (test split) and `existing`.

    Raises:
        UsageError: If there is no champion yet, or no index of the candidate's dataset.
        DataRefused: If a version's files are not what was registered, or read bands that the dataset lacks.
        TemporaryFailure: If store or registry do not answer.
    """
    section = gate_section(usecase)
    dataset = Dataset(store, uri)
    require_same_data(dataset, usecase)
    registry = Registry(usecase.name)
    candidate = fetch_model(model, store)
    champion = Ledger(store, usecase.name).champion()
    if champion is None:
        raise UsageError(
            f"there is no champion of '{usecase.name}' to hold it against", where=store.uri, fix="Run train first"
        )
    if candidate.name != usecase.name:
        raise UsageError(
            f"this is a version of '{candidate.name}'", where=model, fix=f"Give a version of '{usecase.name}'"
        )
    index = index_of(registry, candidate.description)
    key = evaluation_key(candidate.digest, dataset.digest, champion.model_digest, index.digest, section)
    existing = store.exists(f"{key}/evaluation.json")
    if existing:
        log.info("evaluate: this was evaluated before")
    else:
        files = {
            "candidate": candidate,
            "champion": fetch_model(champion.uri, store),
            "index": fetch_model(index.uri, store),
        }
        contestants = {role: registered(found, usecase) for role, found in files.items()}
        contestants["index_untuned"] = untuned(usecase, dataset)
        _write(store, usecase, dataset, section, key, contestants, registry, candidate.run, progress=progress)
    found = store.get_record(f"{key}/evaluation.json", Evaluation)
    return {
        "evaluation": store.resolve(f"{key}/evaluation.json"),
        "model": candidate.uri,
        "champion": champion.uri,
        "index": index.uri,
        "iou": {role: found.splits["test"].pooled[role].iou for role in ROLES},
        "existing": existing,
    }


def evaluation_key(model: str, dataset: str, champion: str, index: str, section: GateSection) -> str:
    """The folder of an evaluation: below model and dataset, what else it depends on.

    Those are the champion and the index that the model was held against, and the bootstrap's settings.
    """
    rest = [EVALUATION_FORMAT, champion, index, section.resamples, section.seed]
    return f"evaluations/{model}/{dataset}/{json_digest(rest)[:SHORT]}"


def index_of(registry: Registry, description: ModelDescription) -> Version:
    """The newest registered index of the dataset that a version was made from.

    Raises:
        UsageError: If there is none.
    """
    found = registry.find({KIND_TAG: KIND, DATASET_TAG: description.dataset_digest})
    if found is None:
        raise UsageError(
            f"no spectral index of dataset {description.dataset_digest[:12]} is registered",
            where=registry.name,
            fix="Run train on that dataset: it registers the index",
        )
    return found


def compare(holdout: dict[str, Any], opponent: str, section: GateSection) -> dict[str, float | None]:
    """Candidate minus opponent on the holdout: the difference of pooled IoU with its 95 % interval."""
    first, second = (
        np.array([cell[role][:3] for cell in holdout["cells"]], dtype=np.int64).reshape(-1, 3)
        for role in ("candidate", opponent)
    )
    interval = paired_bootstrap(first, second, resamples=section.resamples, seed=section.seed)
    return {"difference": interval.difference, "low": interval.low, "high": interval.high}


def _write(
    store: Store,
    usecase: UseCase,
    dataset: Dataset,
    section: GateSection,
    key: str,
    contestants: dict[str, Contestant],
    registry: Registry,
    run: str,
    *,
    progress: bool,
) -> None:
    from tqdm import tqdm

    chips = dataset.chips(*SCORED)
    scores = score(
        contestants, dataset, tqdm(chips, desc="evaluate", unit="chip", disable=not progress, mininterval=1.0)
    )
    seen = frozenset(contestants["candidate"].description.training_cells) | frozenset(
        contestants["champion"].description.training_cells
    )
    splits = {}
    for split in SCORED:
        # Validation is where choices were made; it is shown as it is, and decides nothing any more.
        chosen = frozenset() if split == "validation" else seen
        splits[split] = summarise([pair for pair in scores if pair[0].split == split], chosen)
    record = Evaluation.model_validate(
        {
            "format": EVALUATION_FORMAT,
            "usecase": usecase.name,
            "target": usecase.data.classes[TARGET].name,
            "simulated": all(scene.simulated for scene in dataset.manifest.scenes),
            "dataset": {"uri": dataset.uri, "digest": dataset.digest},
            **{role: contestant.as_json() for role, contestant in contestants.items()},
            "splits": splits,
            "holdout_cells_with_target": sum(
                1 for cell in splits["holdout"]["cells"] if cell["candidate"][0] + cell["candidate"][2]
            ),
            "comparisons": {role: compare(splits["holdout"], role, section) for role in ("index", "champion")},
            "bootstrap": {"resamples": section.resamples, "seed": section.seed, "interval": 0.95},
            "git_commit": git_commit(),
        }
    )
    evaluation = record.model_dump(mode="json")
    files = {**report_files(evaluation), "samples.png": _samples(contestants["candidate"], usecase, dataset)}
    for name, data in files.items():
        store.put_new(f"{key}/{name}", data)
    tracked = registry.reopen(run)
    tracked.log_metrics(
        {f"{split}_iou_{role}": splits[split]["pooled"][role]["iou"] for split in SCORED for role in ROLES}
    )
    tracked.log_files(files, f"evaluation/{key.rsplit('/', 1)[1]}")
    store.put_json_new(f"{key}/evaluation.json", evaluation)


def _samples(candidate: Contestant, usecase: UseCase, dataset: Dataset) -> bytes:
    samples = []
    for chip in choose_chips(dataset.chips("test"), 4):
        image, label = dataset.read(chip)
        pixels, valid = model_input(image)
        mask = candidate.model.mask(pixels[candidate.bands], valid)
        samples.append(Sample(chip, pixels, valid, label, mask))
    return sample_figure(samples, usecase.data, f"{candidate.uri}, test split")
