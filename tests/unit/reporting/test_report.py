"""The run report as a page: complete, self-contained, safe, and standing without any of its reports."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from pipeline.core import digests
from pipeline.evaluation.report import Metrics
from pipeline.gates._base import Verdict, finding, missing
from pipeline.reporting import report
from pipeline.training.record import TrainingRecord

VOID = {"meta", "img", "br", "link", "hr", "input"}

ORDER = [anchor for anchor, _ in report.CONTENTS]


class Structure(HTMLParser):
    """Collects tags, attributes and text, and fails on a tag that is closed in the wrong place."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.anchors: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        self.anchors += [found["id"]] if found.get("id") else []
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href") and value]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.pop()
        self.text += " " if tag in ("td", "th", "p", "li") else ""

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["title"]):
            self.text += data


def written(workspace: SimpleNamespace, outcome: str | None = None) -> str:
    return report.write(workspace.root, workspace.settings, outcome).read_text(encoding="utf-8")


def words(html: str) -> str:
    """The page's text with single spaces."""
    return re.sub(r"\s+", " ", Structure(html).text)


def test_is_one_file_at_a_fixed_place(workspace):
    """The report is report/index.html, and nothing else is written beside it."""
    path = report.write(workspace.root, workspace.settings)

    assert workspace.root / "report/index.html" == path
    assert [path] == list(path.parent.iterdir())


def test_sections_stand_in_order_verdict_first(workspace):
    """Readers meet the verdict first; every entry of the contents has its section, in that order."""
    page = Structure(written(workspace))

    assert ORDER == page.anchors
    assert [] == page.open


def test_loads_nothing_from_elsewhere(workspace):
    """Links lead into the page, to the Data Docs or to a data URI; there is no script and no style sheet to fetch."""
    html = written(workspace)
    page = Structure(html)

    assert [] == [link for link in page.links if not link.startswith(("#", "data:image/", "../reports/data_docs/"))]
    assert not page.tags & {"script", "link", "iframe", "object", "base"}
    assert "url(" not in html
    assert "@import" not in html


def test_names_from_the_data_are_escaped(workspace):
    """An image called <script>… and a class called <b>x are text: in tables, captions, charts and attributes."""
    html = written(workspace)

    assert "<script" not in html
    assert "<b>x" not in html
    assert "<i>phone" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.png" in html
    assert "&lt;b&gt;x → " in html  # a tooltip of the confusion matrix
    assert "# <b>name</b>" in words(html)  # a comment in params.yaml


@pytest.mark.parametrize(
    ("outcome", "title"), [("promoted", "Promoted"), ("held", "Held"), ("unchanged", "Unchanged"), (None, "Held")]
)
def test_says_what_the_flow_decided(workspace, outcome, title):
    """The outcome is the heading; without one the verdict of the gates stands for it."""
    html = written(workspace, outcome)

    assert f"<h1>{title}</h1>" in html


def test_held_names_the_gate_that_failed(workspace):
    """A hold is explained by the gate that failed, in its own words."""
    assert "The gate “calibration” failed: surer than it is right." in words(written(workspace, "held"))


def test_a_reason_does_not_say_again_what_was_observed(workspace):
    """Beside a cell that says what was found stands only what follows from it."""
    lacking = missing("pipeline.gates.accuracy_floor", "accuracy (no labelled test image)", required="0.9 or more")
    invalid = finding(
        "pipeline.gates.data_valid", False, observed="1 critical failed", required="none", why="1 critical failed: leak"
    )
    plain = finding("pipeline.gates.latency", False, observed="9 ms", required="up to 8 ms")
    first = finding("pipeline.gates.no_leakage", True, observed="none", required="0", why="none yet to compare with")
    Verdict(passed=False, findings=[lacking, invalid, plain, first]).save(workspace.root / "reports/verdict.json")
    html = written(workspace)

    assert 'no accuracy (no labelled test image)<span class="under">so nothing can be shown</span>' in html
    assert '1 critical failed<span class="under">leak</span>' in html
    assert ">9 ms</td>" in html
    assert 'none<span class="under">none yet to compare with</span>' in html


def test_unchanged_names_the_champion(workspace):
    """Where nothing changed, the champion that stays is named."""
    expected = "Data, params and code are those of the last run, so digits v1 stays champion."

    assert expected in words(written(workspace, "unchanged"))


@pytest.mark.parametrize(
    ("later", "told"),
    [
        ([], None),
        ([{"action": "rolled_back", "version": 1}], "digits v1 is the champion since 2026-11-21: too <slow>."),
        ([{"action": "promoted", "version": 2}], "digits v2 is the champion since 2026-11-21: too <slow>."),
        ([{"action": "held", "version": 3}], None),
        ([{"action": "rolled_back", "version": 1}, {"action": "promoted", "version": 3, "verdict_digest": "d"}], None),
    ],
    ids=["nothing", "rolled back", "promoted by hand", "another run held", "another run promoted"],
)
def test_says_who_is_champion_since_by_hand(workspace, later, told):
    """The page is looked at long after the run: what a person decided stands beside what the run did."""
    with (workspace.root / "state/history.jsonl").open("a") as file:
        for entry in later:
            entry = {"model": "digits", "time": "2026-11-21T08:00:00", "reason": "too <slow>"} | entry
            file.write("\n" + json.dumps(entry | {"model_sha256": digests.of_bytes(b"onnx")}))
    html = written(workspace, "held")

    assert (told is not None) == ("is the champion since" in html)
    assert told is None or told in words(html)
    assert "<slow>" not in html


def test_version_is_that_of_the_model_in_the_workspace(workspace):
    """The history's entry about this very file gives the version; a line cut short by a crash is passed over."""
    assert "digits · version v2 · lp_ft on small_cnn · 20 November 2026, 11:52" in words(written(workspace))


def test_numbers_stand_with_their_intervals(workspace):
    """Accuracy has its interval; the comparison with the champion counts images fixed and broken."""
    metrics = Metrics.load(workspace.root / "reports/metrics.json")
    text = words(written(workspace))

    assert f"95 % interval {100 * metrics.accuracy_low:.1f}–{100 * metrics.accuracy_high:.1f} %" in text
    fixed, broken = metrics.comparisons[0].fixed, metrics.comparisons[0].broken
    assert f"{fixed} fixed, {broken} broken" in text


@pytest.mark.parametrize(
    "missing",
    [
        "reports/metrics.json",
        "reports/latency.json",
        "reports/verdict.json",
        "reports/training.json",
        "reports/predictions.parquet",
        "reports/validation.json",
        "data/manifest/target.parquet",
        "state/champion.json",
        "state/history.jsonl",
        ".graftline/costs",
        "models/model.onnx",
        "bundle",
        "params.yaml",
    ],
)
def test_a_missing_file_costs_only_its_section(workspace, missing):
    """Whatever is not there, the page is whole."""
    path = workspace.root / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    page = Structure(written(workspace))

    assert ORDER == page.anchors


def test_an_empty_workspace_says_which_stage_writes_what(tmp_path, workspace):
    """Before any stage has run, the sections name the files that are missing and who writes them."""
    workspace.root = tmp_path / "empty"
    text = words(written(workspace))

    assert "Not judged yet" in text
    assert "reports/metrics.json is not there. The stage evaluate writes it." in text
    assert "reports/verdict.json is not there. The stage gate writes it." in text


def test_validation_names_what_was_found(workspace):
    """A warning says what was expected, what was found and what to do; images set aside have their reason."""
    text = words(written(workspace))

    assert "1 check passed, 1 not applicable, 1 warning; 1 image set aside, no leak between splits." in text
    assert "1 not applicableEvery class is in the source (nothing to look at)" in text
    assert "The shorter side of an image has 16 px or more" in text
    assert "Found: 1 of 60 images do not. Leave small images out." in text
    assert "<u>torn</u>.jpg: truncated" in text


def test_changes_compare_with_the_champions_data(workspace):
    """Counts that differ from the data of the champion are listed with both values."""
    text = words(written(workspace))

    assert "Since digits v1 was trained:" in text
    assert "images 50 60 +10" in text


def test_a_profile_of_another_version_is_not_compared(workspace):
    """A champion that was described in another form costs the comparison, not the page."""
    pin = {"model": "digits", "version": 1, "sha256": "0" * 64, "profile": {"unknown": 1}}
    (workspace.root / "state/champion.json").write_text(json.dumps(pin))

    assert "described by another version of Graftline" in words(written(workspace))


def test_without_labelled_test_images_the_notes_say_so(workspace):
    """Metrics that could not be measured are left out, and the reason is printed."""
    note = "no labelled test image: nothing can be scored"
    Metrics(images=0, classes=["a", "b"], model_size_mb=1.0, notes=[note]).save(workspace.root / "reports/metrics.json")
    text = words(written(workspace))

    assert "No labelled test image: nothing can be scored." in text
    assert "Accuracy on the test images" not in text
    assert "There was no champion to compare with." in text
    assert text.count("Nothing to show: no test image with a label was scored.") == 2, "of confusions and calibration"
    assert "reports/metrics.json is not there" not in text


def test_why_there_is_no_comparison_is_told(workspace):
    """A champion that knows other classes is not one that is missing; before the metrics nothing is said of either."""
    path = workspace.root / "reports/metrics.json"
    other = Metrics.load(path).model_copy(update={"comparisons": [], "champion": ["digits v1", "0" * 64]})
    other.save(path)
    text = words(written(workspace))
    assert "It was not compared with the champion: no test image has a label that both know." in text
    assert "no champion to compare with" not in text

    path.unlink()
    assert "It has not been compared with a champion yet." in words(written(workspace))


def test_a_lost_image_keeps_its_caption(workspace):
    """A wrong answer whose image file is gone is still listed."""
    shutil.rmtree(workspace.root / "images")
    text = words(written(workspace))

    assert "not readable" in text
    assert "<script>alert(1)</script>.png" in text


def test_tiny_images_are_enlarged_with_crisp_pixels(workspace):
    """8-pixel images carry the class that turns smoothing off."""
    html = written(workspace)

    assert ' class="tiny" alt="' in html
    assert "image-rendering: pixelated" in html


def test_stays_small_with_photos_and_many_classes(tmp_path, make):
    """Even 24 photos of pure noise and 100 classes stay under 1.5 MB."""
    workspace = make(tmp_path, classes=[f"species number {number}" for number in range(100)], images=100, side_px=240)

    assert len(written(workspace)) < 1_500_000


def test_equal_workspaces_make_equal_pages(workspace):
    """Nothing in the page depends on when it is written."""
    assert written(workspace) == written(workspace)


def test_secrets_in_params_are_not_on_the_page(tmp_path, pristine):
    """The page shows params.yaml without the webhook and without credentials in URLs."""
    root = Path(shutil.copytree(pristine.root, tmp_path / "secret"))
    hook, uri = "https://hooks.example/T0KEN", "https://me:PASSW0RD@mlflow.example"
    (root / "params.yaml").write_text(f"notify:\n  webhook: {hook}\ntracking:\n  uri: {uri}\n")
    settings = SimpleNamespace(**{**vars(pristine.settings), "notify": SimpleNamespace(webhook=SecretStr(hook))})
    page = report.write(root, settings).read_text()
    assert "T0KEN" not in page
    assert "PASSW0RD" not in page
    assert "mlflow.example" in page


@pytest.mark.parametrize(("shipped", "remedy"), [(True, None), (False, "Try more calibration images.")])
def test_the_page_says_what_became_of_int8(workspace, shipped, remedy):
    """The measured drop stands below the numbers, with advice where the file was refused."""
    sentence = "int8 ships: drop +0.002 on 800 images" if shipped else "int8 refused: drop +0.022 on 800 images"
    trial = {"shipped": shipped, "sentence": sentence, "remedy": remedy}
    (workspace.root / "reports/parity.json").write_text(json.dumps({"quantisation": trial}), encoding="utf-8")
    text = words(written(workspace))

    assert f"I{sentence[1:]}." in text
    assert ("Try more calibration images." in text) is not shipped


def test_accuracy_on_the_source_is_called_that(workspace):
    """Without target labels the only held-out images are the source's: what they say is not said of the target."""
    path = workspace.root / "reports/training.json"
    TrainingRecord.load(path).model_copy(update={"labels_from": "source"}).save(path)
    text = words(written(workspace))

    assert "Chosen onvalidation split of the source" in text
    assert "Validation accuracy on images of the source, which says nothing of the target95.0 %" in text
