"""What a run shows of its model on the validation split: samples with their errors, three charts, and their figures."""

from __future__ import annotations

from eo_data.dataset import Dataset, model_input
from eo_data.model.session import OnnxModel, classify
from eo_data.usecase import UseCase
from eo_models.calibration import ProbabilityCounts
from eo_models.charts import confusion_chart, curve_chart, reliability_chart
from eo_models.confusion import TARGET, Counts, count
from eo_models.evaluation_record import Pooled
from eo_models.figures import Sample, choose_chips, sample_figure

SAMPLES = 4


def validation_figures(
    model: OnnxModel, dataset: Dataset, usecase: UseCase, name: str
) -> tuple[dict[str, bytes], dict[str, float | None]]:
    """Pictures (PNG, by file name) of a model on the validation split, and the figures that they show.

    Args:
        model: Scored as it serves, through its own tile plan.
        dataset: Whose validation split.
        usecase: Whose bands and classes.
        name: What to call the model.
    """
    chips = dataset.chips("validation")
    shown = choose_chips(chips, SAMPLES)
    samples: dict[int, Sample] = {}
    counted, pooled = ProbabilityCounts(), Counts()
    for chip in chips:
        image, label = dataset.read(chip)
        pixels, valid = model_input(image)
        probability = model.probability(pixels, valid)
        mask = classify(probability, valid)
        counted.update(probability, valid, label)
        pooled += count(mask, label)
        if chip in shown:
            samples[shown.index(chip)] = Sample(chip, pixels, valid, label, mask)
    calibration, curve = counted.calibration("validation"), counted.curve("validation")
    point = Pooled(counts=(pooled.tp, pooled.fp, pooled.fn, pooled.tn), **pooled.figures())
    target = usecase.data.classes[TARGET].name
    simulated = all(scene.simulated for scene in dataset.manifest.scenes)
    title = f"{name}, validation split" + (", simulated scenes" if simulated else "")
    pictures = {
        "samples.png": sample_figure([samples[place] for place in sorted(samples)], usecase.data, title),
        "precision-recall.png": curve_chart({"candidate": curve}, {"candidate": name}, {"candidate": point}, title),
        "reliability.png": reliability_chart(calibration, target, title),
        "confusion.png": confusion_chart(point, target, title),
    }
    return pictures, {
        "validation_calibration_error": calibration.expected_error,
        "validation_brier": calibration.brier,
        "validation_average_precision": curve.average_precision,
    }
