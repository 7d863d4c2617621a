"""The package stage: a bundle with a filled-in card that proves itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.core import digests
from pipeline.data.preprocessing import Preprocessing
from pipeline.data.profile import DataProfile
from pipeline.data.validation import ValidationReport
from pipeline.evaluation.explain_report import Robustness
from pipeline.evaluation.report import ClassScore, Latency, Metrics, SliceScore
from pipeline.gates._base import Finding, Verdict
from pipeline.serving import bundle
from pipeline.serving.export import to_onnx
from pipeline.serving.golden import Golden
from pipeline.serving.int8_trial import Quantisation
from pipeline.serving.parity_report import BatchParity, ParityReport
from pipeline.serving.quantisation import quantise
from pipeline.stages import package
from pipeline.training.record import TrainingRecord

CLASSES = ["class0", "class1", "class2"]
BATCH = BatchParity(batch_size=1, images=12, sizes=1, disagreements=0, max_probability_delta=1e-7)
PARITY = ParityReport(images=12, split="test", disagreements=0, max_probability_delta=1e-7, batches=[BATCH])
TRAINING = TrainingRecord(
    strategy="probe",
    params={},
    classes=CLASSES,
    labels_from="target",
    images={},
    selection="validation split",
    sentences=["The penalty lies inside the path."],
)

ROBUSTNESS = Robustness(
    images=6,
    clean_accuracy=0.833,
    pgd_2_accuracy=0.667,
    pgd_8_accuracy=0.167,
    corruption_accuracy=0.512,
    worst_corruption_accuracy=0.333,
    worst_corruption=["motion_blur"],
)


def finding(name: str, passed: bool) -> Finding:
    return Finding(gate=name, passed=passed, observed="3 ms", required="2 ms", why="3 ms; 2 ms")


def scored() -> Metrics:
    interval = {"recall_low": 0.4, "recall_high": 1.0}
    scores = [
        ClassScore(label=name, images=4, precision=None, recall=0.75, f1=0.8, **interval) for name in ("class0", "a|b")
    ]
    part = SliceScore(column="camera", value="north", images=12, accuracy=0.75, accuracy_low=0.46, accuracy_high=0.91)
    return Metrics(
        images=12,
        accuracy=0.75,
        accuracy_low=0.5,
        accuracy_high=0.92,
        classes=CLASSES,
        per_class=scores,
        slices=[part],
        model_size_mb=0.1,
        notes=["no champion yet: this model is the first"],
    )


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    module = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 3)).eval()
    preprocessing = Preprocessing(size_px=16, resize_px=16, fit="stretch")
    return to_onnx(module, preprocessing, CLASSES, {"backbone": "tiny", "strategy": "probe"})


@pytest.fixture
def run(toy_domains, model):
    def call(*, p50_ms: float = 1.0, passed: bool = True, **changed):
        profile = DataProfile.of(target=toy_domains.target, source=toy_domains.source)
        inputs = {
            "model": model,
            "verdict": Verdict(passed=passed, findings=[finding("accuracy_floor", True), finding("latency", passed)]),
            "metrics": scored(),
            "latency": Latency(p50_ms=p50_ms, p95_ms=9.0, runs=10, height_px=20, width_px=24),
            "parity": PARITY,
            "validation": ValidationReport(
                success=True, checks=[], quarantined=[], leaks=[], leak_count=0, profile=profile, changes=[]
            ),
            "training": TRAINING,
            "robustness": ROBUSTNESS,
            "label_space": toy_domains.labels,
            "target_manifest": toy_domains.target,
        }
        context = toy_domains.context(model="bars")
        return package.run(package.Params(golden_images=4), context, **(inputs | changed))

    return call


def test_the_bundle_proves_itself(run):
    """The stage has verified it; so does anyone who gets it."""
    result = run()
    folder = result.outputs["bundle"].path
    checked = bundle.verify(folder)
    assert 4 == checked.golden_images
    assert result.line.endswith("MB · 4 golden images answered as recorded")
    manifest = bundle.read(folder)
    assert ("bars", True) == (manifest.name, manifest.facts["passed"])
    assert 60 == manifest.facts["data"]["target"]["images"]


def test_golden_images_are_test_images_of_as_many_classes_as_possible(run, toy_domains):
    """Three classes and one image without a label."""
    names = Golden.load(run().outputs["bundle"].path).names
    rows = toy_domains.target.frame.set_index("name").loc[names]
    assert {"test"} == set(rows["split"])
    assert {*CLASSES, "none"} == set(rows["label"].fillna("none"))


def test_the_bundle_does_not_depend_on_the_clock(run):
    """Another latency, the same bytes."""
    once, again = (run(p50_ms=value).outputs["bundle"].path for value in (1.0, 2.0))
    assert digests.of_path(once) == digests.of_path(again)


def test_the_card_is_filled_in(run):
    """Data, strategy, figures with intervals, classes, slices, gates and limits; a bar in a name breaks no table."""
    card = (run().outputs["bundle"].path / "MODEL_CARD.md").read_text(encoding="utf-8")
    for line in (
        "# bars",
        "Backbone `tiny`, transferred by `probe`.",
        "It passed all 2 gates.",
        "| Accuracy | 0.750 | 0.500–0.920 |",
        "| a\\|b | 4 | – | 0.750 | 0.400–1.000 | 0.800 |",
        "| camera = north | 12 | 0.750 | 0.460–0.910 |",
        "| latency | passed |",
        "- target: 60 images, 30 labelled; test 12, train 36, val 12",
        "- Labels came from the target domain. Model selection: validation split.",
        "- The penalty lies inside the path.",
        "- Fewer than 30 test images of: class0, a\\|b. Their figures are uncertain.",
        "- No champion yet: this model is the first.",
    ):
        assert line in card.splitlines()
    assert "{{" not in card
    assert "| None" not in card


def test_the_card_of_a_failed_model_says_so_first(run):
    folder = run(passed=False).outputs["bundle"].path
    assert "**It did not pass its gates** (latency); do not deploy it" in (folder / "MODEL_CARD.md").read_text()
    assert bundle.read(folder).facts["passed"] is False


def test_a_model_that_could_not_be_scored_has_a_card_too(run):
    metrics = Metrics(images=0, classes=CLASSES, model_size_mb=0.1, notes=["no labelled test image"])
    folder = run(metrics=metrics).outputs["bundle"].path
    assert "Not scored: no labelled test image." in (folder / "MODEL_CARD.md").read_text()


def test_the_card_teaches_how_to_use_the_model(run, tmp_path, monkeypatch, capsys):
    """The snippet runs as it stands, in the bundle's folder."""
    folder = run().outputs["bundle"].path
    snippet = (folder / "MODEL_CARD.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(folder)
    exec(snippet.replace("photo.jpg", "golden/image_000.png"), {})
    assert capsys.readouterr().out.strip() in CLASSES


def test_an_int8_model_has_a_bundle_whose_card_says_so(run, model):
    """Golden pairs and the Triton copy are of the int8 file; the card gives the measured drop."""
    random = np.random.default_rng(0)
    int8 = quantise(model, [random.integers(0, 256, (20, 24, 3), dtype=np.uint8) for _ in range(4)])
    trial = Quantisation(
        shipped=True,
        sentence="int8 ships: accuracy 0.750 against 0.755 in float32, drop +0.005 (-0.010 to +0.020) on 200 images",
        calibration_images=128,
        calibration_domain="target",
        images=200,
        max_drop=0.01,
        size_mb=0.4,
        size_int8_mb=0.1,
    )
    folder = run(model=int8, parity=PARITY.model_copy(update={"quantisation": trial})).outputs["bundle"].path
    assert bundle.verify(folder).max_probability_delta < 1e-6
    assert "int8" == bundle.read(folder).model["precision"]
    assert int8.digest == digests.of_path(folder / "triton/bars/1/model.onnx")
    card = " ".join((folder / "MODEL_CARD.md").read_text(encoding="utf-8").split())
    assert "Int8 ships: accuracy 0.750 against 0.755 in float32, drop +0.005" in card
    assert "The float32 file it was quantised from answers as the trained network does" in card
    assert "These figures are of the float32 network by torch, not of the int8 file." in card


def test_a_refused_int8_file_is_not_in_the_card(run):
    """What ships is float32, and the card is about what ships."""
    trial = Quantisation(
        shipped=False,
        sentence="int8 refused",
        calibration_images=1,
        calibration_domain="target",
        images=0,
        max_drop=0.01,
        size_mb=0.4,
    )
    folder = run(parity=PARITY.model_copy(update={"quantisation": trial})).outputs["bundle"].path
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "## Precision" not in card
    assert "The file answers as the trained network does: 0 disagreements" in " ".join(card.split())


def test_the_card_tells_how_robust_the_answers_are(run):
    """In two sentences; where attacks do not apply, that is no proof of strength."""
    card = " ".join((run().outputs["bundle"].path / "MODEL_CARD.md").read_text(encoding="utf-8").split())
    assert "On 6 of the test images (0.833 unchanged): 0.512 on average under nine common corruptions" in card
    assert "0.333 under the worst of them (motion blur)" in card
    assert "of the float32 network" not in card
    assert "(L∞, FGSM and PGD) 0.667 at 2/255 and 0.167 at 8/255." in card
    unattacked = ROBUSTNESS.model_copy(update={"pgd_2_accuracy": None, "pgd_8_accuracy": None})
    card = " ".join((run(robustness=unattacked).outputs["bundle"].path / "MODEL_CARD.md").read_text().split())
    assert "that is no proof of strength" in card
    untried = Robustness(images=0)
    assert "### Robustness" not in (run(robustness=untried).outputs["bundle"].path / "MODEL_CARD.md").read_text()
