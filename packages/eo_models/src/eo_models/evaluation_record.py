"""`evaluation.json`: what `evaluate` writes and `promote` judges."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from eo_models.bootstrap import Interval


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Party(_Record):
    """One of those that were scored; the untuned index is no version and has no URI."""

    uri: str | None
    digest: str
    architecture: str


class Pooled(_Record):
    """Figures pooled over all scored pixels of a split, None where undefined; counts are tp, fp, fn, tn."""

    iou: float | None
    f1: float | None
    precision: float | None
    recall: float | None
    counts: tuple[int, int, int, int]


class SplitScores(_Record):
    """One split.

    Attributes:
        chips: How many were scored.
        dropped: How many `cells` and `chips` were left out because a model was trained on their cell.
        pooled: Figures by role.
        cells: Per cell its name, how many chips, and counts by role.
    """

    chips: int
    dropped: dict[str, int]
    pooled: dict[str, Pooled]
    cells: tuple[dict[str, Any], ...]


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
        splits: Scores by split.
        holdout_cells_with_target: The gate's evidence: cells whose label holds the class.
        comparisons: Candidate minus `index` and minus `champion` on the holdout.
        bootstrap: Its settings.
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
    splits: dict[str, SplitScores]
    holdout_cells_with_target: int
    comparisons: dict[str, Interval]
    bootstrap: dict[str, float]
    git_commit: str | None


class VerdictRecord(_Record):
    """`verdict-<gate>.json`: what the gate said, once, and under which section."""

    verdict: str
    reasons: tuple[str, ...]
    gate: dict[str, float]
