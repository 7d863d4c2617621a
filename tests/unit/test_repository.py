"""The repository root is itself a workspace: what was generated there is in step with what generates it."""

import json
from pathlib import Path

from pipeline import params
from pipeline.graph import dvcfile
from pipeline.workspace import SCHEMA_FILE, TEMPLATES

ROOT = Path(__file__).resolve().parents[2]


def test_params_are_the_digits_preset():
    """`graftline init --from digits` and the root start from the same file."""
    assert (TEMPLATES / "digits.yaml").read_text() == (ROOT / params.FILE).read_text()


def test_schema_is_in_step():
    """Editors complete what the code accepts."""
    assert params.json_schema() == json.loads((ROOT / SCHEMA_FILE).read_text())


def test_dvc_yaml_is_in_step():
    """dvc.yaml lists the import closure of every stage as it is now."""
    assert dvcfile.in_step(ROOT, params.load(ROOT)), "graftline render"


def test_prefect_yaml_is_the_template():
    """The deployment of the root is that of any workspace."""
    assert (TEMPLATES / "prefect.yaml").read_text() == (ROOT / "prefect.yaml").read_text()


def test_ignored_paths_hold_every_template_line():
    """The root ignores what a workspace ignores."""
    for name in ("gitignore", "dvcignore"):
        missing = set((TEMPLATES / name).read_text().splitlines()) - set((ROOT / f".{name}").read_text().splitlines())
        assert missing == set()
