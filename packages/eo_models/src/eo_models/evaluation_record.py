"""`evaluation.json`: what `evaluate` writes, `promote` judges and the report shows."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from eo_models.bootstrap import Bounds, Interval

EVALUATION_FORMAT: Final = 3
"""Raised when evaluating changes meaning: an evaluation under another format is another evaluation."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Party(_Record):
    """One of those that were scored: by the digests of `model.onnx` and `model.json`.

    An untuned index is no version: it has no URI, and its description is not registered.
    """

    uri: str | None
    digest: str
    description_digest: str | None
    architecture: str
    threshold: float | None = None

    @property
    def digests(self) -> tuple[str, str | None]:
        """What a version is: the same graph may be served in other tiles, say."""
        return self.digest, self.description_digest


class Pooled(_Record):
    """Figures pooled over scored pixels, None where undefined; counts are tp, fp, fn, tn."""

    iou: float | None
    f1: float | None
    precision: float | None
    recall: float | None
    counts: tuple[int, int, int, int]


class Part(_Record):
    """A part of a split, a scene or a stratum: how many chips, and figures by role."""

    chips: int
    pooled: dict[str, Pooled]


class ScenePart(Part):
    """The scored chips of one scene, with the cells that they lie in."""

    scene: str
    cells: tuple[str, ...]


class SplitScores(_Record):
    """One split.

    Attributes:
        chips: How many were scored.
        dropped: How many `cells` and `chips` were left out because a model was trained on their cell.
        pooled: Figures by role.
        intervals: 95 % interval of the pooled IoU over cells, by role.
        cells: Per cell its name, how many chips, and counts by role.
        scenes: Per scene figures by role.
        strata: By kind (`platform`, `month`, `region`) and value figures by role; `absent` holds the scenes that do
            not say it.
    """

    chips: int
    dropped: dict[str, int]
    pooled: dict[str, Pooled]
    intervals: dict[str, Bounds]
    cells: tuple[dict[str, Any], ...]
    scenes: tuple[ScenePart, ...]
    strata: dict[str, dict[str, Part]]


class ReliabilityBin(_Record):
    """Pixels whose probability lies between `low` and `high`: mean probability and share that is the class."""

    low: float
    high: float
    pixels: int
    predicted: float | None
    observed: float | None


class Calibration(_Record):
    """How far probabilities mean what they say: expected calibration error, Brier score and reliability bins."""

    split: str
    pixels: int
    expected_error: float | None
    brier: float | None
    bins: tuple[ReliabilityBin, ...]


class Curve(_Record):
    """Precision over recall at rising thresholds, and the average precision; empty where undefined."""

    split: str
    average_precision: float | None
    thresholds: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]


class Check(_Record):
    """A behavioural test of the candidate.

    Attributes:
        name: Which.
        passed: None where it could not be asked.
        value: The number that decides, None where there is none.
        limit: What it is held against, in words.
        detail: What was done, and further numbers.
        simulated: Whether its scene is made up.
    """

    name: str
    passed: bool | None
    value: float | None
    limit: str
    detail: str
    simulated: bool


class ModelCost(_Record):
    """What one model costs on one thread.

    Attributes:
        chip_seconds: CPU seconds for one chip, median.
        megapixel_seconds: CPU seconds per megapixel of a large raster, median.
        peak_memory: Bytes by which the peak rises while the model is loaded and run on that raster.
        runs: Of how many runs the medians are.
    """

    chip_seconds: float
    megapixel_seconds: float
    peak_memory: int
    runs: int


class Costs(_Record):
    """Costs by role; they differ by machine and load, so nothing compares or judges them.

    Attributes:
        machine: The processor's name as the system tells it.
        chip: Side of the chip, pixels.
        raster: Side of the large raster, pixels.
        models: By role.
    """

    machine: str
    chip: int
    raster: int
    models: dict[str, ModelCost]


class Evaluation(_Record):
    """An evaluation.

    Attributes:
        format: `EVALUATION_FORMAT` of the code that wrote it.
        usecase: The use case, also the registered model's name.
        target: The class that is scored.
        simulated: Whether all scenes are simulated.
        dataset: `uri` and `digest`.
        candidate: What was evaluated.
        champion: What was in service then.
        index: The tuned index of the candidate's dataset.
        index_untuned: The first index with threshold 0.
        baselines: Every index, untuned and tuned on this dataset's training split, by role.
        splits: Scores by split; choices are made on validation, the gate judges the holdout, test is only shown.
        holdout_cells_with_target: The gate's evidence: cells whose label holds the class.
        comparisons: Candidate minus `index` and minus `champion` on the holdout.
        bootstrap: Its settings.
        calibration: Of the candidate, on the test split.
        curves: By role, on the test split.
        behaviour: Behavioural tests of the candidate.
        costs: What differs by machine; leave it out of any comparison.
        git_commit: Of the code that evaluated.
    """

    format: int
    usecase: str
    target: str
    simulated: bool
    dataset: dict[str, str]
    candidate: Party
    champion: Party
    index: Party
    index_untuned: Party
    baselines: dict[str, Party]
    splits: dict[str, SplitScores]
    holdout_cells_with_target: int
    comparisons: dict[str, Interval]
    bootstrap: dict[str, float]
    calibration: Calibration
    curves: dict[str, Curve]
    behaviour: tuple[Check, ...]
    costs: Costs
    git_commit: str | None


class VerdictRecord(_Record):
    """`verdict-<gate>.json`: what the gate said, once, and under which section."""

    verdict: str
    reasons: tuple[str, ...]
    gate: dict[str, float | str]
    approved_by: str | None = None


class FreshScores(_Record):
    """Figures of `model` and `index_untuned` on some chips."""

    scenes: int
    chips: int
    cells: int
    pooled: dict[str, Pooled]
    intervals: dict[str, Bounds]


class FreshEvaluation(_Record):
    """`fresh.json`: a version on scenes that came after its dataset.

    Attributes:
        format: Of the code that wrote it.
        usecase: The use case.
        model: `uri` and `digest` of the version.
        dataset: `uri` and `digest` of where fresh scenes were looked for.
        own_dataset: Digest of the dataset that the version was made from.
        fresh: On scenes outside of it, in cells that it was not trained on.
        holdout: On its own holdout; None where its dataset is not in the store or of another `data` section.
        left_out: Chips of known scenes or of cells that it was trained on.
    """

    format: int
    usecase: str
    model: dict[str, str]
    dataset: dict[str, str]
    own_dataset: str
    fresh: FreshScores
    holdout: FreshScores | None
    left_out: int
