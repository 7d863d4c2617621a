"""A fifth of one class carries another's label: the run's line, its figures and its report name those images."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline import params
from pipeline.catalog import CATALOG
from pipeline.evaluation.report import LabelReview, Metrics
from pipeline.graph.executor import execute
from pipeline.release.pin import ensure_pins
from pipeline.reporting import report

PARAMS = """\
model: toys
ingest:
  target: {name: image_folder, path: photos}
  source: null
backbone: {name: small_cnn, weights: none}
train: {threads: 1, strategy: {name: class_mean}}
evaluate: {bootstrap: 200, latency_runs: 10}
"""
COUNT, FLIPPED = 50, 10


def bars(folder: Path, bar: int) -> list[Path]:
    """Pictures whose class is where the bar stands, in noise that hides it half."""
    random = np.random.default_rng(bar)
    files = []
    for number in range(COUNT):
        pixels = random.integers(0, 120, (24, 24, 3), dtype=np.uint8)
        pixels[:, 3 + 7 * bar : 7 + 7 * bar] = 150
        files.append(folder / f"class{bar}/{bar}-{number:02}.png")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(files[-1])
    return files


def evaluated(workspace: Path, *, flip: bool) -> tuple[str, LabelReview, set[str]]:
    """The stage's line, what it found, and the flipped images that it could find: those outside the test split."""
    (workspace / "params.yaml").write_text(PARAMS)
    files = [bars(workspace / "photos", bar) for bar in range(3)]
    moved = [file.rename(workspace / "photos/class0" / file.name) for file in files[1][:FLIPPED]] if flip else []
    ensure_pins(workspace)
    for name in ("ingest", "validate", "backbone", "features", "domains", "train", "export", "evaluate"):
        line = execute(workspace, name).line
    frame = CATALOG["target_manifest"].load(workspace).frame
    learnt = set(frame.loc[frame["split"] != "test", "name"])
    review = CATALOG["metrics"].load(workspace).label_review[0]
    return line, review, {f"class0/{file.name}" for file in moved} & learnt


def test_flipped_labels_are_named(tmp_path):
    """At least 60 % of them, and at least 80 % of what is named was flipped; with picture, label and likelier class."""
    line, review, flipped = evaluated(tmp_path, flip=True)

    named = {suspect.name: suspect for suspect in review.named}
    hits = flipped & set(named)
    assert len(hits) >= 0.6 * len(flipped) > 0
    assert len(hits) >= 0.8 * len(named)
    assert {("class0", "class1")} == {(named[name].given, named[name].likelier) for name in hits}
    assert line.endswith(f" · {review.suspects} labels in doubt")

    page = report.write(tmp_path, params.load(tmp_path)).read_text()
    section = page.split('<section id="labels">')[1].split("</section>")[0]
    assert f"{review.suspects} of {review.images} labels in train and val" in section
    assert all(f'title="{name}"' in section for name in named)
    assert len(named) == len(re.findall(r'<img src="data:image/png;base64,[^"]+" class="tiny"', section))
    assert len(named) == section.count('<b>class0</b>, rather <b class="wrong">class1</b>')


def test_sound_labels_are_left_alone(tmp_path):
    """With nothing flipped hardly one is named (1 % at most), and the line is silent or as short."""
    line, review, _ = evaluated(tmp_path, flip=False)

    assert review.suspects <= 0.01 * review.images
    assert ("labels in doubt" in line) == bool(review.suspects)
    page = report.write(tmp_path, params.load(tmp_path)).read_text()
    assert f"{review.suspects or 'None'} of {review.images} labels in train and val" in page


def test_nothing_is_said_where_there_is_nothing_to_judge_by(tmp_path):
    """Without a review there is no figure, and the report says why."""
    (tmp_path / "params.yaml").write_text(PARAMS)
    Metrics(images=0, classes=["a", "b"], model_size_mb=1.0).save(tmp_path / "reports/metrics.json")

    page = report.write(tmp_path, params.load(tmp_path)).read_text()
    assert "Too few target images of train and val are labelled" in page
