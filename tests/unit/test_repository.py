"""The repository root is itself a workspace: what was generated there is in step with what generates it."""

import ast
import json
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from pipeline import params
from pipeline.graph import dvcfile
from pipeline.workspace import TEMPLATES

ROOT = Path(__file__).resolve().parents[2]


def test_params_are_the_digits_preset():
    """`graftline init --from digits` and the root start from the same file."""
    assert (TEMPLATES / "digits.yaml").read_text() == (ROOT / params.FILE).read_text()


def test_schema_is_in_step():
    """Editors complete what the code accepts."""
    assert params.json_schema() == json.loads((ROOT / params.SCHEMA_FILE).read_text())


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


def declared(*extras: str) -> set[str]:
    """Names of distributions, in one spelling; an extra may be a group too."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = document["project"]
    optional = project["optional-dependencies"] | document["dependency-groups"]
    wanted = [
        *project["dependencies"],
        *(entry for extra in extras for entry in optional[extra]),
    ]
    return {normalised(re.split(r"[\[<>=!~; ]", entry)[0]) for entry in wanted}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(package: str) -> dict[str, str]:
    """Foreign modules that the files of ``package`` import, each with one file that does."""
    found: dict[str, str] = {}
    for file in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            else:
                continue
            found |= {name.split(".")[0]: file.relative_to(ROOT).as_posix() for name in names}
    ours = {"pipeline", "flows", "infra"}
    return {name: file for name, file in found.items() if name not in sys.stdlib_module_names | ours}


@pytest.mark.parametrize(("package", "extras"), [("pipeline", ("ray",)), ("flows", ()), ("infra", ("dev", "mutation"))])
def test_every_import_is_of_a_declared_dependency(package, extras):
    """A package that only came along with another may go with its next version."""
    distributions = packages_distributions() | {"pydantic_core": ["pydantic"]}
    names = declared(*extras)
    missing = {
        module: file
        for module, file in imported(package).items()
        if not names & {normalised(name) for name in distributions.get(module, [module])}
    }
    assert {} == missing
