"""The report's sections on what the network looks at and on its robustness, and the gaps between slices."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from pipeline.evaluation.corruptions import CORRUPTIONS
from pipeline.evaluation.explain_report import (
    AttackScore,
    CorruptionScore,
    Example,
    Explanations,
    MapScore,
    MethodScore,
    Robustness,
)
from pipeline.evaluation.report import Metrics, SliceGap, SliceScore
from pipeline.reporting import report

EVIL = "<script>alert(1)</script>"
INTERVAL = {"accuracy_low": 0.1, "accuracy_high": 0.9}


def section(workspace, name: str) -> str:
    page = report.write(workspace.root, workspace.settings).read_text(encoding="utf-8")
    return page.partition(f'<section id="{name}">')[2].partition("</section>")[0]


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).replace("&nbsp;", " ").split())


def example(folder, domain: str, label: str | None, predicted: str) -> Example:
    files = {name: f"{domain}-{predicted}-{name}.png" for name in ("image", "grad_cam")}
    for file in files.values():
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / file)
    maps = [
        MapScore(method="grad_cam", file=files["grad_cam"], deletion=0.21, insertion=0.87),
        MapScore(method="random", deletion=0.51, insertion=0.62),
    ]
    return Example(
        name=EVIL,
        domain=domain,
        shown_for=label or predicted,
        label=label,
        predicted=predicted,
        confidence=0.97,
        image=files["image"],
        maps=maps,
    )


@pytest.fixture
def explained(workspace):
    """A class with an image of each domain, and one whose target image is called something else."""
    folder = workspace.root / "reports/explanations"
    folder.mkdir(parents=True)
    examples = [
        example(folder, "target", "cat", "cat"),
        example(folder, "source", "cat", "cat"),
        example(folder, "target", "<b>x", "dog"),
    ]
    methods = [
        MethodScore(method="grad_cam", deletion=0.21, insertion=0.87),
        MethodScore(method="random", deletion=0.51, insertion=0.62),
    ]
    Explanations(layer="stage3", grid=(4, 4), examples=examples, methods=methods, notes=["a note"]).save(
        folder / "explanations.json"
    )
    return workspace


def robust(**changed) -> Robustness:
    attacks = [
        AttackScore(attack=name, epsilon=8, steps=steps, images=9, accuracy=value, **INTERVAL)
        for name, steps, value in (("fgsm", 1, 0.34), ("pgd", 40, 0.01))
    ]
    corruptions = [
        CorruptionScore(
            corruption=name, severity=severity, accuracy=0.5 if name == "fog" else 1 - severity / 10, **INTERVAL
        )
        for name in CORRUPTIONS
        for severity in (1, 2, 3)
    ]
    figures = {
        "clean_accuracy": 0.9,
        "corruption_accuracy": 0.6,
        "corruption_accuracy_low": 0.55,
        "corruption_accuracy_high": 0.65,
        "corruption_ratio": 0.667,
    }
    return Robustness(images=128, **(figures | {"attacks": attacks, "corruptions": corruptions} | changed))


def test_domains_stand_side_by_side(explained):
    """A row per class, target before source, every picture inside the page, and each map's scores beside the null's."""
    html = section(explained, "looked_at")
    text = text_of(html)
    assert 6 == html.count('src="data:image/png;base64,')
    assert text.index("Target") < text.index("Source")
    assert "Grad-CAM 0.21 / 0.87" in text
    assert "random 0.51 / 0.62" in text
    assert "stage3, 4 × 4" in text
    assert "no image" in text  # the second class has none in the source
    assert "A note." in text


def test_a_wrong_answer_is_told_and_names_are_escaped(explained):
    """In words, not by its colour alone."""
    html = section(explained, "looked_at")
    assert 'called <b class="wrong">dog</b>, is <b>&lt;b&gt;x</b>' in html
    assert 2 == html.count("called <b>cat</b> <span"), "nothing is said of the right answers"
    assert "<script" not in html
    assert "<b>x" not in html


def test_a_lost_picture_costs_only_itself(explained):
    (explained.root / "reports/explanations/source-cat-image.png").unlink()
    html = section(explained, "looked_at")
    assert 5 == html.count('src="data:image/png;base64,')
    assert "not readable" in html


def test_robustness_stands_in_two_tables(workspace):
    """Attacks below the unchanged images; corruptions with a column per severity, the most harmful first."""
    robust().save(workspace.root / "reports/robustness.json")
    text = text_of(section(workspace, "robustness"))
    assert "On 128 labelled test images, of which 90.0 % are answered rightly unchanged." in text
    assert "Under common corruptions 60.0 % (55.0–65.0) are: 67 % of that" in text
    assert text.index("FGSM 8/255, one step 34.0 %") < text.index("FGSM and PGD 8/255, 40 steps 1.0 %")
    assert "fog 50.0 % 50.0 % 50.0 % 50.0 %" in text
    assert text.index("fog") < text.index("gaussian noise")


def test_without_attacks_the_reason_stands_there(workspace):
    robust(attacks=[], notes=["attacks do not apply"]).save(workspace.root / "reports/robustness.json")
    text = text_of(section(workspace, "robustness"))
    assert "FGSM" not in text
    assert "Attacks do not apply." in text


def test_before_the_stage_has_run_it_is_named(workspace):
    assert "The stage explain writes it." in text_of(section(workspace, "looked_at"))
    assert "The stage explain writes it." in text_of(section(workspace, "robustness"))


@pytest.mark.parametrize(
    ("low", "says"), [(0.12, "more than chance explains"), (-0.02, "chance alone could explain it")]
)
def test_gaps_between_slices_are_told(workspace, low, says):
    """With the interval, and whether it is more than chance."""
    path = workspace.root / "reports/metrics.json"
    gap = SliceGap(column="site", slices=2, best="north", worst="<i>s", gap=0.2, gap_low=low, gap_high=0.3)
    Metrics.load(path).model_copy(update={"gaps": [gap]}).save(path)
    html = section(workspace, "slices")
    assert f"site: +20.0 points ({f'{100 * low:+.1f}'.replace('-', '−')} to +30.0)" in text_of(html)
    assert f"{says}." in text_of(html)
    assert "<i>s" not in html


def test_a_column_of_one_value_is_no_slice(workspace):
    """Its accuracy is that of all images; of a column that parts them every value is shown."""
    path = workspace.root / "reports/metrics.json"
    whole, north, south = (
        SliceScore(column=column, value=value, images=30, accuracy=0.8, accuracy_low=0.7, accuracy_high=0.9)
        for column, value in (("camera", "X100"), ("site", "north"), ("site", "south"))
    )
    metrics = Metrics.load(path)
    metrics.model_copy(update={"slices": [whole, north, south], "gaps": []}).save(path)
    told = text_of(section(workspace, "slices"))
    assert "X100" not in told
    assert "north" in told
    assert "south" in told

    metrics.model_copy(update={"slices": [whole], "gaps": []}).save(path)
    assert "No column parts the test images." in text_of(section(workspace, "slices"))
