"""Does the int8 file answer well enough to ship? Measured on target images, never taken from anybody's table.

Published figures do not carry over (for one MobileNetV2 the stated int8 accuracy was 68.3 and a user measured 64.3,
https://github.com/onnx/models/issues/609), so every run measures its own file, and one that loses too much is refused.
No label of the test split is read.

Accuracy is compared on labelled validation images. Fewer than 200 of them prove too little by themselves (a loss of 0
on ten has an interval of ±0.28), so that int8 must there also name float32's class on other images of the target, whose
labels are not needed: every disagreement counts as a loss. Images that the network was trained on come last, since it
is sure of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.core.files import Document
from pipeline.core.progress import track

if TYPE_CHECKING:
    import numpy as np

    from pipeline.core.context import Context
    from pipeline.data.manifest import Manifest
    from pipeline.serving.answering import Answering
    from pipeline.serving.onnx_file import OnnxFile

MEASURED_IMAGES = 2000
"""At most this many images of a kind are answered by both files."""

ENOUGH_LABELLED = 200
"""Labelled validation images that settle the matter alone; two in a hundred lost have an interval of 0.00 to 0.05."""

LOSES_TOO_MUCH = (
    "Try more calibration images (export.int8_calibration_images), another backbone, or, if the loss is worth the "
    "speed, a larger export.int8_max_drop."
)

NOTHING_TO_CALIBRATE_ON = (
    "Give the target images of the train split, labelled or not, or a source domain: ranges come from training images."
)

NOTHING_TO_MEASURE_ON = (
    "Calibrate on fewer images (export.int8_calibration_images), or give the target more images of the train or the "
    "val split, labelled or not."
)

TOO_FEW_TO_MEASURE_ON = (
    f"Label {ENOUGH_LABELLED} validation images, give the target further images, labelled or not, or calibrate on "
    "fewer (export.int8_calibration_images)."
)


class Quantisation(Document):
    """What 8 bits cost and gain, and which file ships."""

    shipped: bool
    """Whether the exported file is the int8 one."""
    sentence: str
    """The outcome in words."""
    remedy: str | None = None
    """What to try where int8 was refused."""
    calibration_images: int
    calibration_domain: str
    """``target``, or ``source`` where the target has no training image."""
    images: int
    """Images on which the two files were compared."""
    measured_on: str | None = None
    """What images these are; None where there was none."""
    also_images: int = 0
    """Further images that both had to name the same class on, where the former are labelled but few."""
    also_on: str | None = None
    """What images these are."""
    also_disagreement: float | None = None
    """Share of them on which int8 names another class."""
    accuracy: float | None = None
    """Of the float32 file; None without labels."""
    accuracy_int8: float | None = None
    drop: float | None = None
    """Accuracy lost; without labels, the share of images on which int8 names another class."""
    drop_low: float | None = None
    drop_high: float | None = None
    """95 % interval: Tango's for the same images answered twice; Wilson's for a share without labels."""
    max_drop: float
    agreement: float | None = None
    """Share of images on which both name the same class."""
    size_mb: float
    """Of the float32 file, millions of bytes."""
    size_int8_mb: float | None = None
    """None where there was nothing to calibrate on."""


class Trial(NamedTuple):
    """The candidate and what came of it."""

    model: OnnxFile
    """The file that ships."""
    quantisation: Quantisation


def attempt(
    model: OnnxFile,
    target: Manifest,
    source: Manifest | None,
    context: Context,
    *,
    calibration_images: int,
    max_drop: float,
) -> Trial:
    """Quantise ``model``, measure what that costs, and choose between the two files.

    Args:
        model: the float32 file.
        target: some of its training images calibrate; its validation images and the other training images judge.
        source: its training images calibrate where the target has none.
        context: where the images are.
        calibration_images: at most this many, and no more than half of the target's training images.
        max_drop: largest loss of accuracy that ships, in [0, 1].
    """
    from pipeline.data.images import ImageStore
    from pipeline.serving.answering import Answering
    from pipeline.serving.quantisation import quantise

    domain, calibration = _calibration(target, source, calibration_images)
    facts: dict[str, Any] = {"images": 0, "calibration_images": len(calibration), "calibration_domain": domain}
    facts |= {"max_drop": max_drop, "size_mb": model.size_mb}
    if not len(calibration):
        why = "there is no training image to calibrate on"
        return Trial(model, _refused(why, NOTHING_TO_CALIBRATE_ON, facts))
    pixels = ImageStore(context.workspace, context.workers).pixels(calibration)
    int8 = quantise(model, track(pixels, what="int8 calibration", unit="images", total=len(calibration)))
    facts["size_int8_mb"] = int8.size_mb
    measured: list[str] = []
    float32_file, int8_file = Answering(model, context), Answering(int8, context)
    for chosen in _judges(target, calibration):
        figures = _figures(_answers(float32_file, chosen.rows), _answers(int8_file, chosen.rows), chosen)
        facts |= _further(figures) if measured else figures
        measured.append(_measured(figures))
        if figures["drop"] > max_drop:
            why = f"{'; '.join(measured)}, limit {max_drop:g}"
            return Trial(model, _refused(why, LOSES_TOO_MUCH, facts))
    if not measured:
        return Trial(model, _refused("no target image is left to measure the drop on", NOTHING_TO_MEASURE_ON, facts))
    if len(measured) == 1 and "accuracy" in facts and facts["images"] < ENOUGH_LABELLED:
        why = f"{measured[0]}, too few to prove anything, and no other image is left to measure on"
        return Trial(model, _refused(why, TOO_FEW_TO_MEASURE_ON, facts))
    sentence = f"int8 ships: {'; '.join(measured)}; {int8.size_mb:.1f} MB instead of {model.size_mb:.1f} MB"
    return Trial(int8, Quantisation(shipped=True, sentence=sentence, **facts))


def _refused(why: str, remedy: str, facts: dict[str, Any]) -> Quantisation:
    return Quantisation(shipped=False, sentence=f"int8 refused: {why}; float32 ships", remedy=remedy, **facts)


def _calibration(target: Manifest, source: Manifest | None, count: int) -> tuple[str, Manifest]:
    """Training images only, and half of the target's at most: what is measured on must not have set the ranges."""
    from pipeline.data.sampling import evenly

    ours = target.split("train")
    if len(ours) or source is None:
        return "target", evenly(ours, min(count, (len(ours) + 1) // 2))
    return "source", evenly(source.split("train"), count)


class _Judges(NamedTuple):
    rows: Manifest
    what: str
    labels: np.ndarray | None
    """Class names in the order of the rows; None where every disagreement counts."""


def _judges(target: Manifest, calibration: Manifest) -> list[_Judges]:
    """The images on which int8 must hold, one kind after the other: none that calibrated, and never the test split."""
    from pipeline.data.sampling import evenly

    free = target.split("train", "val")
    free = free.where(~free.frame["id"].isin(calibration.frame["id"]))
    chosen = []
    if len(labelled := evenly(free.split("val").labelled, MEASURED_IMAGES)):
        labels = labelled.frame["label"].to_numpy(dtype=object)
        chosen = [_Judges(labelled, "labelled validation images", labels)]
    if len(labelled) >= ENOUGH_LABELLED:
        return chosen
    for others, what in ((free.unlabelled, "unlabelled images"), (free.split("train"), "training images")):
        if len(others):
            return [*chosen, _Judges(evenly(others, MEASURED_IMAGES), what, None)]
    return chosen


def _answers(file: Answering, rows: Manifest) -> np.ndarray:
    """The class that the file names for each image, [images]."""
    import numpy as np

    return np.array(file.predictor.classes, dtype=object)[file.of(rows, "int8 trial").argmax(1)]


def _figures(float32: np.ndarray, int8: np.ndarray, judges: _Judges) -> dict[str, Any]:
    """Accuracy lost with its interval; without labels every disagreement counts as one.

    The interval is Tango's, of two files on the same images. It stays wide for few images even where the two agree on
    all of them, which a bootstrap's would not.
    """
    from pipeline.evaluation.intervals import paired_difference, wilson

    images = len(int8)
    agreement = float((float32 == int8).mean())
    common = {"images": images, "measured_on": judges.what, "agreement": agreement}
    if judges.labels is None:
        low, high = wilson(int((float32 != int8).sum()), images) or (0.0, 1.0)
        return {**common, "drop": 1 - agreement, "drop_low": low, "drop_high": high}
    was_right, is_right = float32 == judges.labels, int8 == judges.labels
    lost, won = int((was_right & ~is_right).sum()), int((is_right & ~was_right).sum())
    low, high = paired_difference(lost, won, images)
    return {
        **common,
        "accuracy": float(was_right.mean()),
        "accuracy_int8": float(is_right.mean()),
        "drop": (lost - won) / images,
        "drop_low": low,
        "drop_high": high,
    }


def _further(figures: dict[str, Any]) -> dict[str, Any]:
    """What a second kind of images adds to the report."""
    names = {"images": "also_images", "measured_on": "also_on", "drop": "also_disagreement"}
    return {name: figures[key] for key, name in names.items()}


def _measured(figures: dict[str, Any]) -> str:
    """``accuracy 0.834 against 0.856 in float32, drop +0.022 (+0.010 to +0.036) on 800 labelled validation images``."""
    where = f"on {figures['images']:,} {figures['measured_on']}"
    low, high = figures["drop_low"], figures["drop_high"]
    if "accuracy" not in figures:
        return f"another class than float32 for a share of {figures['drop']:.3f} ({low:.3f}–{high:.3f}) {where}"
    accuracies = f"accuracy {figures['accuracy_int8']:.3f} against {figures['accuracy']:.3f} in float32"
    return f"{accuracies}, drop {figures['drop']:+.3f} ({low:+.3f} to {high:+.3f}) {where}"
