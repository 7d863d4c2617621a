"""Writes the run report, ``report/index.html``: one file that opens in a browser with no server and no network."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup

from pipeline.core.files import write_text
from pipeline.reporting.view import Page

if TYPE_CHECKING:
    from pipeline.params import Settings

PATH = "report/index.html"
"""Where the report lies in a workspace."""

TITLES = {
    "promoted": "Promoted",
    "held": "Held",
    "unchanged": "Unchanged",
    "passed": "All gates passed",
    "unjudged": "Not judged yet",
}

CONTENTS = (
    ("verdict", "Verdict"),
    ("gates", "Gates"),
    ("numbers", "Numbers"),
    ("confusion", "Confusion"),
    ("classes", "Classes"),
    ("slices", "Slices"),
    ("calibration", "Calibration"),
    ("backbones", "Backbones"),
    ("training", "Training"),
    ("mistakes", "Worst mistakes"),
    ("labels", "Labels in doubt"),
    ("looked_at", "What it looks at"),
    ("robustness", "Robustness"),
    ("changes", "Changes in the data"),
    ("domains", "Domains"),
    ("data", "Data validation"),
    ("cost", "Cost"),
    ("provenance", "Provenance"),
    ("use", "Use it"),
)


def write(workspace: Path, settings: Settings, outcome: str | None = None) -> Path:
    """Write the report of the workspace's last run and return its path.

    ``outcome`` is what the flow decided: ``promoted``, ``held`` or ``unchanged``; without it the gates' verdict
    stands for it. A report that a stage has not written yet is named in its section; it does not stop the page.
    """
    from pipeline.reporting import facts  # brings pandas, which those who only ask for PATH need not wait for

    page = facts.gather(workspace, settings, outcome)
    path = workspace / PATH
    write_text(path, render(page))
    return path


def render(page: Page) -> str:
    """The page's HTML. Names of files, classes and everything else that came with the data are escaped."""
    return (
        _templates()
        .get_template("report.html.j2")
        .render(
            page=page,
            title=TITLES[page.headline.outcome],
            contents=CONTENTS,
            style=Markup(_text("style.css")),  # nosec B704  # our own file, of this package
        )
    )


@cache
def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["capfirst"] = _capitalised
    return templates


def _capitalised(text: str) -> str:
    """The first letter large, the others as they are."""
    return text[:1].upper() + text[1:]


def _text(name: str) -> str:
    return resources.files("pipeline.reporting").joinpath("templates", name).read_text(encoding="utf-8")
