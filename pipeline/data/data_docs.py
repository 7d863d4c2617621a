"""Data Docs that open without a network: Great Expectations' pages with our stylesheet, and an index of all checks.

As they come, the pages fetch style sheets and scripts from six hosts and a logo that reports each view; without a
network the index stays blank. They also print file names and file contents unescaped. Neither will do for pages
about images from outside, so references to other hosts are taken out, no script is left, and every value is escaped.
"""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.data.validation import Check, tally

STYLE = Path(__file__).with_suffix(".css")

POLICY = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'self' 'unsafe-inline'\">"
)
"""Should anything slip through, the browser itself runs no script and asks no host."""

_REMOTE = re.compile(
    r"<script\b.*?</script>|<link\b[^>]*>|<img\b[^>]*>|<footer\b.*?</footer>"  # scripts, styles, logos, a newsletter
    r"|\son\w+=\"[^\"]*\"|\burl\([^)]*\)|\shref=\"\.\./[^\"]*\"",  # handlers, CSS images, links to pages not written
    re.DOTALL | re.IGNORECASE,
)

_INDEX = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">{policy}<title>Data validation</title>
<link rel="stylesheet" href="style.css"></head>
<body class="index"><h1>Data validation</h1><p>{summary}</p>{sections}</body></html>
"""

_SECTION = """<h2><a href="{suite}.html">{suite}</a></h2>
<table class="table checks"><tr><th></th><th>What is expected</th><th>Found</th></tr>{rows}</table>
"""

_ROW = """<tr class="{state}"><td class="state">{state}</td><td>{says}{remedy}</td><td>{observed}{named}</td></tr>
"""

NAMED = 10


def escaped(value: Any) -> Any:
    """``value`` with every text in it safe to stand in HTML."""
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, Mapping):
        return {key: escaped(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [escaped(part) for part in value]
    return value


def write(folder: Path, checks: Mapping[str, list[Check]], pages: Mapping[str, str]) -> None:
    """Fill ``folder``: ``index.html``, one page per suite, ``style.css``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(index(checks), encoding="utf-8")
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(self_contained(page), encoding="utf-8")
    shutil.copyfile(STYLE, folder / "style.css")


def self_contained(page: str) -> str:
    """``page`` without scripts, event handlers, images or anything from another host, styled by ``style.css``."""
    head = f'{POLICY}<link rel="stylesheet" href="style.css">'
    home = '<p class="home"><a href="index.html">← all checks</a></p>'
    bare = _REMOTE.sub("", page).replace("</head>", f"{head}</head>", 1)
    return re.sub(r"<body[^>]*>", lambda body: body.group() + home, bare, count=1)


def index(checks: Mapping[str, list[Check]]) -> str:
    every = [check for found in checks.values() for check in found]
    return _INDEX.format(
        policy=POLICY,
        summary=f"{tally([check.state for check in every])}.",
        sections="".join(_section(suite, found) for suite, found in checks.items()),
    )


def _section(suite: str, checks: list[Check]) -> str:
    return _SECTION.format(suite=suite, rows="".join(map(_row, checks)))


def _row(check: Check) -> str:
    remedy = f"<p class='remedy'>{html.escape(check.remedy)}</p>" if check.remedy and not check.passed else ""
    items = [html.escape(text) for text in check.named[:NAMED]]
    if check.unexpected_count > NAMED:
        items.append(f"and {check.unexpected_count - NAMED:,} more")
    named = "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>" if items else ""
    says, observed = html.escape(check.says), html.escape(check.observed)
    return _ROW.format(state=check.state, says=says, remedy=remedy, observed=observed, named=named)
