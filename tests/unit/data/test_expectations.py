"""Suites are files, their findings are plain words, and what a team writes wrongly is said plainly."""

from __future__ import annotations

import json
import re

import pandas as pd
import pytest

from pipeline.core.errors import ParamsError
from pipeline.data import data_docs
from pipeline.data.checks import INDEX
from pipeline.data.expectations import PACKAGED, load_suites, run_suites

SMALL = {
    "type": "expect_column_values_to_be_between",
    "kwargs": {"column": "width", "min_value": {"$PARAMETER": "min_px"}},
    "severity": "warning",
    "description": "every image is at least $min_px px wide",
    "meta": {"name": "wide", "found": "$value px", "remedy": "Widen it."},
}


def table(**columns: list) -> pd.DataFrame:
    rows = {"domain": ["target"] * 3, "name": ["a", "b", "c"], "width": [4, 8, 2000]} | columns
    return pd.DataFrame(rows)


def check(tmp_path, *expectations: dict, images: pd.DataFrame | None = None, **parameters: object):
    suites = {"images": {"name": "images", "expectations": list(expectations)}}
    images = table() if images is None else images
    return run_suites({"images": images}, suites, {"min_px": 5} | parameters, tmp_path / "docs")


def test_a_finding_is_told_in_plain_words(tmp_path):
    """The limit in force, how many, which, what was found and what to do."""
    [found] = check(tmp_path, SMALL)
    assert "every image is at least 5 px wide" == found.says
    assert ("warning", False, 1, "not so for 1 of 3 images") == (
        found.severity,
        found.passed,
        found.unexpected_count,
        found.observed,
    )
    assert (["a"], ["4 px"], ["a: 4 px"], "Widen it.") == (found.images, found.reasons, found.named, found.remedy)


def test_a_column_of_nulls_is_not_applicable(tmp_path):
    """Nothing was looked at, so nothing was found good; what is expected of the nulls themselves is a check all the
    same."""
    nothing = table(width=pd.Series([None] * 3, dtype="Int64"))
    null = {"type": "expect_column_values_to_be_null", "kwargs": {"column": "width"}, "meta": {"name": "null"}}
    some = null | {"type": "expect_column_values_to_not_be_null", "severity": "warning"}
    found = check(tmp_path, SMALL, null, some, images=nothing)
    assert ["not applicable", "passed", "warning"] == [one.state for one in found]
    assert "nothing to look at" == found[0].observed
    text = (tmp_path / "docs" / "index.html").read_text()
    assert "1 check passed, 1 not applicable, 1 warning." in text
    assert '<tr class="not applicable"><td class="state">not applicable</td>' in text


def test_one_value_is_something_to_look_at(tmp_path):
    """The nulls beside it are passed over."""
    [found] = check(tmp_path, SMALL, images=table(width=pd.Series([None, 8, None], dtype="Int64")))
    assert ("passed", "so for all 3 images") == (found.state, found.observed)


def test_checks_come_in_the_order_of_the_file(tmp_path):
    """Great Expectations itself groups them by column."""
    other = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}, "meta": {"name": "rows"}}
    again = SMALL | {"kwargs": {"column": "width", "max_value": 9999}, "meta": {"name": "again"}}
    assert ["wide", "rows", "again"] == [found.name for found in check(tmp_path, SMALL, other, again)]


def test_an_expectation_without_words_is_spelt_out(tmp_path):
    """A team's suite straight from Great Expectations has no description; critical is its default severity."""
    plain = {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "name"}}
    [found] = check(tmp_path, plain)
    assert ("column values to be unique (column name)", "critical", True) == (found.says, found.severity, found.passed)


def test_every_failing_row_is_counted_though_not_every_one_is_named(tmp_path):
    """A hundred names are enough for a report."""
    names = [f"{number:03}" for number in range(150)]
    many = table(domain=["target"] * 150, name=names, width=[1] * 150)
    [found] = check(tmp_path, SMALL, images=many)
    assert (150, names[:100]) == (found.unexpected_count, found.images)


def test_data_docs_ask_no_other_host_and_run_nothing(tmp_path):
    """They open without a network, and a file name is never markup."""
    hostile = table(name=["<script>alert(1)</script>", "$5 $PARAMETER", "c"], width=[1, 1, 9])
    check(tmp_path, SMALL, images=hostile)
    pages = sorted(path.name for path in (tmp_path / "docs").iterdir())
    assert ["images.html", "index.html", "style.css"] == pages
    for path in (tmp_path / "docs").iterdir():
        text = path.read_text()
        assert not re.search(r"https?://|<script|\son\w+=", text), path.name
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in (tmp_path / "docs" / "images.html").read_text()
    assert "$5 $PARAMETER" in (tmp_path / "docs" / "index.html").read_text()


def test_the_index_names_ten_and_counts_the_rest(tmp_path):
    """A page with ten thousand names helps nobody."""
    many = table(domain=["target"] * 15, name=list("abcdefghijklmno"), width=[1] * 15)
    checks = check(tmp_path, SMALL, images=many)
    assert "and 5 more" in data_docs.index({"images": checks})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "expect_column_values_to_bee_null"}, "expect_column_values_to_bee_null not found"),
        ({"kwargs": {"colum": "width"}}, "an expectation that cannot be built"),
        ({"severity": "grave"}, "Must be one of: critical, warning, info"),
        ({"kwargs": {"column": "weight", "min_value": 1}}, "weight"),
        (
            {"kwargs": {"column": "width", "min_value": {"$PARAMETER": "min_pix"}}},
            "the parameter 'min_pix', which does not exist (there are: min_px)",
        ),
    ],
)
def test_a_fault_in_a_suite_is_the_users_and_named(tmp_path, change, message):
    """Great Expectations logs most of these and goes on without the expectation; a check must not vanish."""
    with pytest.raises(ParamsError) as caught:
        check(tmp_path, SMALL | change)
    assert message in str(caught.value)
    assert "where:  images.json in validate.suites (params.yaml)" in str(caught.value)


def test_the_packaged_suites_have_words_severity_and_remedy_for_everything():
    """Nobody should meet Great Expectations' jargon by default."""
    for name, suite in load_suites().items():
        assert name == suite["name"]
        for expectation in suite["expectations"]:
            assert {"type", "kwargs", "severity", "description", "meta"} == expectation.keys()
            assert {"name", "remedy"} <= expectation["meta"].keys()
            assert expectation["severity"] in ("critical", "warning")


def test_every_suite_has_a_table_and_every_table_a_suite():
    """The names of files and tables agree."""
    assert sorted(INDEX) == sorted(path.stem for path in PACKAGED.glob("*.json"))


def test_a_teams_own_file_takes_the_place_of_the_packaged_one(tmp_path):
    """The others stay as they are."""
    own = {"name": "images", "expectations": [SMALL]}
    (tmp_path / "images.json").write_text(json.dumps(own))
    suites = load_suites(tmp_path)
    assert own == suites["images"]
    assert load_suites()["classes"] == suites["classes"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("image.json", "{}", "found 'image.json' among them"),
        ("images.json", "{", "found text that is not JSON"),
        ("images.json", "[]", "found JSON without a list 'expectations'"),
        ("notes.txt", "", "found no such file"),
    ],
)
def test_a_folder_that_holds_no_suites_is_said_to(tmp_path, name, content, message):
    """A misspelt file name would otherwise mean the packaged suite, silently."""
    (tmp_path / name).write_text(content)
    with pytest.raises(ParamsError) as caught:
        load_suites(tmp_path)
    assert message in str(caught.value)
