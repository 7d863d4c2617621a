"""The charts: round ticks, escaped names, drawings that stay small."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from pipeline.reporting import charts


def parsed(chart: str) -> ElementTree.Element:
    return ElementTree.fromstring(str(chart))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (0, 10, [0, 2, 4, 6, 8, 10]), (3, 3, [3]), (13, 87, [20, 40, 60, 80])],
)
def test_ticks_are_round_and_inside(low, high, expected):
    """Steps are 1, 2 or 5 times a power of ten; a range without width has one tick."""
    assert expected == pytest.approx(charts.ticks(low, high))


@pytest.mark.parametrize(("text", "expected"), [("short", "short"), ("a very long name 17", "a very…ame 17")])
def test_long_names_give_way_in_the_middle(text, expected):
    """Both ends of a long name stay, since names of classes often differ at their end."""
    assert expected == charts.shortened(text, 13)


def test_confusion_draws_only_cells_that_hold_images():
    """A matrix of 100 classes with a clean diagonal has 100 cells and a panel."""
    counts = [[30 if row == column else 0 for column in range(100)] for row in range(100)]
    chart = charts.confusion([f"class {number}" for number in range(100)], counts)

    assert 101 == len(parsed(chart).findall(".//rect"))
    assert len(chart) < 40_000


def test_confusion_numbers_the_cells_of_few_classes():
    """With few classes the counts are printed in the cells, and the tooltips name both classes."""
    chart = parsed(charts.confusion(["<b>x", "dog"], [[9, 1], [0, 5]]))

    assert {"9", "1", "5"} <= {text.text for text in chart.findall(".//text")}
    assert "<b>x → dog: 1 of 10 (10.0%)" in {title.text for title in chart.findall(".//title")}


def test_interval_bar_says_its_values_to_screen_readers():
    """A bar's label has the value and both ends."""
    chart = parsed(charts.interval_bar(0.5, 0.25, 0.75))

    assert "0.500, interval 0.250 to 0.750" == chart.get("aria-label")


def test_interval_bar_without_interval_is_a_dot():
    """A value without an interval draws no bar."""
    chart = parsed(charts.interval_bar(0.5, None, None))

    assert ["track"] == [line.get("class") for line in chart.findall("line")]


def test_lines_pass_over_values_that_are_not_finite():
    """A NaN in a curve leaves a gap instead of breaking the drawing."""
    chart = charts.lines(
        "Loss",
        [charts.Series("train", "first", [(1, 2.0), (2, float("nan")), (3, 1.0)])],
        [(1, "probe")],
        is_share=False,
    )

    assert "nan" not in chart
    assert "probe" in chart


def test_lines_without_points_draw_nothing():
    """A strategy without validation has no accuracy curve."""
    assert "" == charts.lines("Accuracy", [charts.Series("validation", "second", [])], [], is_share=True)


def test_reliability_draws_a_dot_for_every_bin():
    """Every bin becomes one dot that names its figures."""
    chart = parsed(charts.reliability([charts.Bin(0.35, 0.2, 10), charts.Bin(0.95, 0.9, 90)]))
    titles = [title.text for title in chart.findall(".//circle/title")]

    assert ["10 images: confidence 35.0%, correct 20.0%", "90 images: confidence 95.0%, correct 90.0%"] == titles
