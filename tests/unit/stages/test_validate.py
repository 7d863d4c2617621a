"""The validate stage: good data pass, critical faults stop the run and name the images, warnings are told."""

from __future__ import annotations

import hashlib

import pandas as pd
import pytest

from pipeline.core.context import Context, Result
from pipeline.core.errors import DataError, ParamsError
from pipeline.data.labels import LabelSpace
from pipeline.data.manifest import Manifest
from pipeline.data.profile import DataProfile
from pipeline.data.validation import ValidationReport
from pipeline.stages import validate

CLASSES = ["0", "1", "2"]
SPLITS = ["train"] * 4 + ["val"] + ["test"] * 5


def rows(domain: str = "target", **columns: object) -> pd.DataFrame:
    """Ten 8×8 digits of each class: four in train, one in val, five in test."""
    frame = pd.DataFrame({"label": [c for c in CLASSES for _ in SPLITS], "split": SPLITS * len(CLASSES)})
    names = [f"{label}/{number:02}.png" for number, label in enumerate(frame["label"])]
    ids = [hashlib.sha256(f"{domain} {name}".encode()).hexdigest() for name in names]
    fixed = {"domain": domain, "width": 8, "height": 8, "mode": "L", "format": "PNG", "bytes": 90}
    return frame.assign(name=names, id=ids, path=names, **(fixed | columns))


def run(
    workspace,
    target: pd.DataFrame,
    source: pd.DataFrame | None = None,
    last: DataProfile | None = None,
    **params: object,
) -> Result:
    return validate.run(
        validate.Params(**params),
        Context(workspace, seed=0, scratch=workspace / "scratch"),
        source_inventory=Manifest.empty() if source is None else Manifest.of(source),
        target_inventory=Manifest.of(target),
        label_space=LabelSpace(classes=CLASSES),
        data_profile=last or DataProfile.empty(),
    )


def refusal(workspace, target: pd.DataFrame, source: pd.DataFrame | None = None, **params: object) -> str:
    with pytest.raises(DataError) as caught:
        run(workspace, target, source, **params)
    return str(caught.value)


def warned(result: Result) -> list[str]:
    return [check.name for check in result.outputs["validation"].warnings]


def with_cells(frame: pd.DataFrame, row: int, **cells: object) -> pd.DataFrame:
    changed = frame.astype({name: object for name in cells if name in frame})
    for name, value in cells.items():
        changed.loc[row, name] = value
    return changed


UNREADABLE = {"error": "not an image (it begins with '<html')", "width": None, "height": None, "mode": None}


def test_small_digits_with_few_labels_pass_without_a_warning(tmp_path):
    """The embedded default is sound data; nothing is known here of brightness and sharpness."""
    result = run(tmp_path, rows(), rows("source"))
    assert (
        "30 target + 30 source images · 22 checks passed, 2 not applicable, 0 warnings · 0 quarantined · "
        "reports/data_docs/index.html" == result.line
    )
    assert (30, 30) == (len(result.outputs["target_manifest"]), len(result.outputs["source_manifest"]))
    assert (result.outputs["data_docs"].path / "index.html").is_file()


def test_a_target_alone_passes(tmp_path):
    """Without a source nothing is said of one, and its check does not count as passed."""
    result = run(tmp_path, rows())
    assert (
        "30 target images · 21 checks passed, 3 not applicable, 0 warnings · 0 quarantined · "
        "reports/data_docs/index.html" == result.line
    )


def test_a_target_without_labels_passes_and_says_there_is_no_score(tmp_path):
    """Unlabelled images are first-class."""
    assert ["scored"] == warned(run(tmp_path, rows(label=None), rows("source")))


def test_a_target_with_test_labels_only_passes(tmp_path):
    """The setting of unsupervised adaptation."""
    frame = rows()
    result = run(tmp_path, frame.assign(label=frame["label"].where(frame["split"] == "test")), rows("source"))
    assert [] == warned(result)


def test_an_unreadable_image_stops_the_run_and_is_named_with_its_reason(tmp_path):
    """The message has the file, the fault, where all checks are, and the remedy."""
    message = refusal(tmp_path, with_cells(rows(), 3, name="photo3.jpg", **UNREADABLE))
    assert message.startswith("Expected that every image can be read; found otherwise:")
    assert "photo3.jpg: not an image (it begins with '<html')" in message
    assert str(tmp_path / "reports" / "data_docs" / "index.html") in message
    assert "set validate.unreadable to quarantine" in message


def test_the_report_is_there_when_the_stage_has_failed(tmp_path):
    """It is how the reader finds out why."""
    refusal(tmp_path, with_cells(rows(), 3, **UNREADABLE))
    report = ValidationReport.load(tmp_path / "reports" / "validation.json")
    assert (False, ["readable"]) == (report.success, [check.name for check in report.failures])
    assert (tmp_path / "reports" / "data_docs" / "index.html").is_file()


def test_ten_are_named_and_the_rest_counted(tmp_path):
    """A screenful, not a scroll."""
    frame = rows()
    for row in range(0, 24, 2):
        frame = with_cells(frame, row, **UNREADABLE)
    message = refusal(tmp_path, frame)
    assert 10 == message.count("not an image (")
    assert "\n    and 2 more" in message


def test_quarantine_leaves_unreadable_images_out_and_lists_them(tmp_path):
    """The run goes on with a warning."""
    result = run(tmp_path, with_cells(rows(), 3, name="photo3.jpg", **UNREADABLE), unreadable="quarantine")
    report = result.outputs["validation"]
    assert (
        "29 target images · 20 checks passed, 3 not applicable, 1 warning · 1 quarantined · "
        "reports/data_docs/index.html" == result.line
    )
    assert [("target", "photo3.jpg", "not an image (it begins with '<html')")] == [
        (row.domain, row.name, row.reason) for row in report.quarantined
    ]
    assert "photo3.jpg" not in set(result.outputs["target_manifest"].frame["name"])


def test_a_leak_across_the_users_splits_names_the_pair(tmp_path):
    """Both images and both splits."""
    frame = rows(split_given=True)
    message = refusal(tmp_path, with_cells(frame, 5, id=frame["id"][0]))
    assert "0/00.png: the same file as target test '0/05.png'" in message
    report = ValidationReport.load(tmp_path / "reports" / "validation.json")
    assert ["copy"] == [leak.kind for leak in report.leaks]


def test_a_class_with_too_few_labels_is_named(tmp_path):
    """The class, how many it has, and how to go on."""
    frame = rows()
    few = frame[~((frame["label"] == "2") & (frame["split"] == "train"))]
    message = refusal(tmp_path, few)
    assert "class '2': 0 labelled images in train" in message
    assert "lower validate.min_labelled_per_class" in message


def test_a_class_missing_from_test_stops_and_from_val_warns(tmp_path):
    """Without test images there is no figure for a class; without val images there is only a poorer choice."""
    frame = rows()
    of_two = frame["label"] == "2"
    assert "class '2': 0 labelled images in test" in refusal(tmp_path, frame[~(of_two & (frame["split"] == "test"))])
    assert ["class_in_val"] == warned(run(tmp_path, frame[~(of_two & (frame["split"] == "val"))]))


def test_several_faults_are_told_at_once(tmp_path):
    """Nobody wants to find them one run at a time."""
    frame = with_cells(rows(), 3, **UNREADABLE)
    message = refusal(tmp_path, frame[~((frame["label"] == "2") & (frame["split"] == "test"))])
    assert "that every image can be read; and that every class is in the test split" in message


def test_an_empty_target_is_refused(tmp_path):
    """Not a crash: too few images."""
    assert "the target has at least 10 usable images: 0" in refusal(tmp_path, rows()[:0], rows("source"))


def test_odd_sizes_and_modes_are_warnings(tmp_path):
    """They are converted and resized; somebody should look."""
    frame = with_cells(rows(), 0, width=4)
    frame = with_cells(frame, 1, mode="CMYK", width=3000)
    assert ["large_enough", "aspect_ratio", "mode", "one_mode"] == warned(run(tmp_path, frame))


def test_dark_and_blurred_images_are_warnings_that_name_them(tmp_path):
    """They may belong, so the run goes on; black ones have no sharpness to judge."""
    frame = rows(brightness=0.9, sharpness=800.0)
    frame = with_cells(with_cells(frame, 3, brightness=0.0, sharpness=None), 7, sharpness=14.99)
    checks = {check.name: check for check in run(tmp_path, frame).outputs["validation"].warnings}
    assert ["not_dark", "not_blurred"] == list(checks)
    assert ["0/03.png: a brightness of 0"] == checks["not_dark"].named
    assert ["0/07.png: a sharpness of 14.99"] == checks["not_blurred"].named
    assert "change validate.min_sharpness if they belong" in checks["not_blurred"].remedy
    assert [] == warned(run(tmp_path, frame, min_brightness=0, min_sharpness=14))


def test_limits_are_parameters(tmp_path):
    """The suite's figures are those of params.yaml."""
    assert ["large_enough"] == warned(run(tmp_path, rows(), min_side_px=9))


def test_label_drift_against_the_last_run_is_a_warning(tmp_path):
    """Only where there was one; the changes are in the report."""
    frame = rows()
    last = run(tmp_path, frame).outputs["validation"].profile
    fewer = frame[(frame["label"] != "2") | (frame["split"] != "train") | (frame.index % 10 < 2)]
    result = run(tmp_path, fewer, last=last, max_label_share_change=0.03)
    assert ["label_share"] == warned(result)
    assert "class '2' 10 → 8" in [change.sentence for change in result.outputs["validation"].changes]


def test_a_teams_own_suites_are_used(tmp_path):
    """The folder is relative to the workspace; a fault in it is a fault in the parameters."""
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "images.json").write_text('{"name": "images", "expectations": []}')
    assert run(tmp_path, rows(), suites="suites").line.startswith(
        "30 target images · 6 checks passed, 1 not applicable"
    )
    with pytest.raises(ParamsError):
        run(tmp_path, rows(), suites="no such folder")


def test_equal_data_give_an_equal_report(tmp_path):
    """Byte for byte: there is no clock in it, and the order of the rows does not matter."""
    frame = with_cells(rows(), 3, **UNREADABLE)
    for name, order in (("a", frame), ("b", frame[::-1])):
        run(tmp_path, order, unreadable="quarantine").outputs["validation"].save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
