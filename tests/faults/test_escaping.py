"""Names and labels that are HTML: the report and the Data Docs show them and run none of them.

A parser reads the pages in every run; where there is a chromium, it opens them as a reader would.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from unit.reporting.conftest import make_workspace

from pipeline.core.context import Context
from pipeline.data.labels import LabelSpace
from pipeline.data.manifest import Manifest
from pipeline.data.profile import DataProfile
from pipeline.reporting import report
from pipeline.stages import validate

RUN = "document.documentElement.setAttribute('data-canary','hatched')"

HOSTILE = [
    f"<script>{RUN}</script>",
    f'"><img src=x onerror="{RUN}">',
    f'\'><svg onload="{RUN}">',
    f"</title></style></svg><script>{RUN}</script>",
    f"{{{{ 7 * 7 }}}}<iframe srcdoc='<script>parent.{RUN}</script>'>",
    f'<a href="javascript:{RUN}">',
]

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)

ACTIVE = {"script", "iframe", "object", "embed", "base", "form"}

Pages = Callable[[], list[Path]]


class Reader(HTMLParser):
    """What a browser would act on, and what it would show."""

    def __init__(self, page: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.active: list[str] = []
        self.text = ""
        self.hatched = False
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.active += [tag] if tag in ACTIVE else []
        self.active += [f"{tag} {name}" for name, _ in attrs if name.startswith("on") or name == "srcdoc"]
        self.active += [
            f"{tag} {value}" for _, value in attrs if (value or "").strip().lower().startswith("javascript:")
        ]
        self.hatched |= tag == "html" and ("data-canary", "hatched") in attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def report_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every class has a hostile name."""
    made = make_workspace(tmp_path_factory.mktemp("report") / "workspace", classes=HOSTILE, images=120)
    return report.write(made.root, made.settings, None)


@pytest.fixture(scope="module")
def data_docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and labels with hostile names, and some of everything that a check can name."""
    folder = tmp_path_factory.mktemp("docs")
    rows = [
        {
            "name": f"{hostile} {number}.png",
            "label": hostile,
            "split": ("train", "val", "test")[number % 3],
            "id": hashlib.sha256(f"{hostile} {number % 7}".encode()).hexdigest(),
            "path": f"{number}.png",
            "domain": "target",
            "width": 8 if number else 3,
            "height": 8,
            "mode": "RGB" if number % 2 else hostile,
            "format": "PNG",
            "bytes": 90,
            "error": None if number != 5 else f"is text that begins '{hostile}', not an image",
        }
        for hostile in HOSTILE
        for number in range(9)
    ]
    context = Context(folder, seed=0, scratch=folder / "scratch")
    with pytest.raises(validate.DataError):
        validate.run(
            validate.Params(),
            context,
            source_inventory=Manifest.empty(),
            target_inventory=Manifest.of(pd.DataFrame(rows)),
            label_space=LabelSpace(classes=HOSTILE[:-1]),
            data_profile=DataProfile.empty(),
        )
    return folder / "reports/data_docs"


def without_policy(page: Path, folder: Path) -> Path:
    """The same page without its Content-Security-Policy: escaping must hold by itself."""
    bare = re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", page.read_text(encoding="utf-8"))
    copy = folder / f"bare-{page.name}"
    copy.write_text(bare, encoding="utf-8")
    return copy


def test_the_report_shows_names_and_acts_on_none(report_page: Path) -> None:
    """No active element, no handler, no address that is code; every name is text, whole."""
    read = Reader(report_page)
    assert [] == read.active
    assert [] == [name for name in HOSTILE if name not in read.text]


def test_the_data_docs_show_names_and_act_on_none(data_docs: Path) -> None:
    """On the index and on each suite's page."""
    pages = {page.name: Reader(page) for page in data_docs.glob("*.html")}
    assert {"index.html", "images.html", "classes.html"} <= pages.keys()
    assert {name: [] for name in pages} == {name: read.active for name, read in pages.items()}
    everything = "".join(read.text for read in pages.values())
    assert [] == [name for name in HOSTILE if name not in everything]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.timeout(240)
def test_a_browser_runs_none_of_it(report_page: Path, data_docs: Path, tmp_path: Path) -> None:
    """Opened without their policy, so that escaping alone must hold; a page that is not escaped does run, here too."""
    pages = [without_policy(page, tmp_path) for page in (report_page, *sorted(data_docs.glob("*.html")))]
    careless = tmp_path / "careless.html"
    careless.write_text(f"<!doctype html><html><body>{HOSTILE[0]}</body></html>")
    opened = {page.name: opened_in_chromium(page, tmp_path) for page in (*pages, careless)}
    assert opened.pop("careless.html").hatched
    assert dict.fromkeys(opened, False) == {name: read.hatched for name, read in opened.items()}
    assert all(name in opened[f"bare-{report_page.name}"].text for name in HOSTILE)


def opened_in_chromium(page: Path, folder: Path) -> Reader:
    """The page as the browser has it after it ran what there was to run."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000"]
    command += [f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    dump = folder / f"dump-{page.name}"
    dump.write_text(done.stdout, encoding="utf-8")
    return Reader(dump)
