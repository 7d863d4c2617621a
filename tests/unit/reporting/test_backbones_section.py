"""The report's section on the candidate backbones."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from pipeline.reporting import report
from pipeline.training.ranking.report import RankedBackbone, Ranking

EVIL = "file <script>.pt"


def ranked(name: str, weights: str, accuracy: float, *, is_chosen: bool = False, computed: int = 200) -> RankedBackbone:
    return RankedBackbone(
        candidate=0,
        name=name,
        weights=weights,
        digest="0" * 64,
        image_size_px=224,
        feature_dim=1280,
        accuracy=accuracy,
        accuracy_low=accuracy - 0.04,
        accuracy_high=accuracy + 0.02,
        behind=0.95 - accuracy,
        behind_low=0.95 - accuracy - 0.013,
        behind_high=0.95 - accuracy + 0.013,
        is_tied=is_chosen,
        penalty=0.1,
        logme=-0.25,
        h_score=1.5,
        size_mb=9.03,
        multiply_adds=299_494_272,
        features_s=5.94,
        images_computed=computed,
        is_chosen=is_chosen,
    )


RANKING = Ranking(
    rows=[
        ranked("mobilenet_v2", "torchvision IMAGENET1K_V2", 0.95),
        ranked("mobilenet_v2", EVIL, 0.94, is_chosen=True, computed=0),
    ],
    images=200,
    classes=2,
    folds=3,
    reason="The second was chosen.",
    notes=["LogME and H-score put it first."],
)


def section(workspace: SimpleNamespace, ranking: Ranking | None) -> str:
    """The HTML from this section's heading to the next section."""
    if ranking is not None:
        ranking.save(workspace.root / "reports/ranking.json")
    html = report.write(workspace.root, workspace.settings).read_text(encoding="utf-8")
    return html[html.index('<section id="backbones">') : html.index('<section id="training">')]


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html.replace("&nbsp;", " ")))


def test_every_candidate_has_its_row(workspace: SimpleNamespace) -> None:
    """Predicted accuracy with interval and bar, distance to the best, votes, seconds, megabytes, multiply-adds."""
    html = section(workspace, RANKING)
    first, second = html.split("<tbody>")[1].split("</tr>")[:2]
    assert "mobilenet_v2 torchvision IMAGENET1K_V2 224 px → 1,280 features 95.0 % 91.0–97.0" in words(first)
    assert "−0.250 1.50 5.9 s 9.03 MB 0.30 G" in words(first)
    assert "1.0 −0.3–2.3" in words(second)
    assert "cached" in words(second)
    assert 'aria-label="0.950, interval 0.910 to 0.970"' in first


def test_the_chosen_one_is_marked_and_explained(workspace: SimpleNamespace) -> None:
    """One mark, in its row, and the sentence why."""
    html = section(workspace, RANKING)
    first, second = html.split("<tbody>")[1].split("</tr>")[:2]
    assert 'aria-label="chosen"' not in first
    assert 'aria-label="chosen"' in second
    assert "The second was chosen. LogME and H-score put it first." in words(html)
    assert "3-fold cross-validation over 200 labelled images of 2 classes, from the target’s train split." in words(
        html
    )


def test_names_are_escaped(workspace: SimpleNamespace) -> None:
    """A file's name is the user's."""
    html = section(workspace, RANKING)
    assert "<script" not in html
    assert "file &lt;script&gt;.pt" in html


def test_the_headline_names_the_backbone_that_was_taken(workspace: SimpleNamespace) -> None:
    """Not the one that stands unused beside the candidates."""
    RANKING.save(workspace.root / "reports/ranking.json")
    html = report.write(workspace.root, workspace.settings).read_text(encoding="utf-8")
    assert "lp_ft on mobilenet_v2" in words(html)


@pytest.mark.parametrize(
    ("ranking", "expected"),
    [
        (Ranking(), "params.yaml names one backbone, so there was nothing to choose."),
        (None, "reports/ranking.json is not there. The stage backbone writes it."),
    ],
)
def test_without_candidates_the_section_says_so(workspace: SimpleNamespace, ranking: Ranking, expected: str) -> None:
    """An empty ranking, and a run from before there were any."""
    assert expected in words(section(workspace, ranking))
