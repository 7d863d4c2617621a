"""What every data source keeps to; a new file in pipeline/data/sources is tested here without an edit."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.core import plugins
from pipeline.core.context import Context
from pipeline.core.params import PluginParams
from pipeline.data.inspection import inspect
from pipeline.data.manifest import SPLITS

SOURCES = "pipeline.data.sources"


def _photos(root: Path) -> None:
    random = np.random.default_rng(0)
    for label, number in itertools.product(("cat", "dog"), range(3)):
        file = root / "data" / label / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(file)


def _table(root: Path) -> None:
    _photos(root)
    rows = [f"{file.relative_to(root / 'data')},{file.parent.name}" for file in sorted((root / "data").rglob("*.png"))]
    (root / "data" / "list.csv").write_text("path,label\n" + "\n".join(rows))


def _eurosat(root: Path) -> None:
    _photos(root)
    (root / "tv" / "eurosat").mkdir(parents=True)
    (root / "data").rename(root / "tv" / "eurosat" / "2750")


TOYS: dict[str, tuple[Callable[[Path], None], dict[str, object]]] = {
    "image_folder": (_photos, {"path": "data"}),
    "table": (_table, {"path": "data/list.csv"}),
    "torchvision_set": (_eurosat, {"dataset": "EuroSAT", "root": "tv"}),
    "rendered_digits": (lambda root: None, {"images_per_class": 2}),
}
"""How to make a small input; a source without an entry is run with its defaults."""


@pytest.fixture(params=plugins.names(SOURCES))
def source(request, tmp_path):
    """A source's module, its params and a context in which it finds something."""
    module = plugins.load(SOURCES, request.param)
    make, values = TOYS.get(request.param, (lambda root: None, {}))
    make(tmp_path)
    return module, module.Params(**values), Context(tmp_path, seed=0)


def test_it_describes_itself(source):
    """A sentence, and params that bear the file's name."""
    module, params, _ = source

    assert module.SUMMARY.endswith(".")
    assert isinstance(params, PluginParams)
    assert module.__name__.rpartition(".")[2] == params.name


def test_its_location_is_a_path_that_exists_or_none(source):
    """DVC is told to track it."""
    module, params, context = source
    place = module.location(params)

    assert place is None or (context.workspace / place).exists()


def test_its_records_are_images_and_counted(source):
    """As many as announced, each readable, with known splits and unique names."""
    module, params, context = source
    found = module.records(params, context)
    records = list(found)

    assert found.total == len(records) > 0
    assert len(records) == len({record.name for record in records})
    assert {record.split for record in records} <= {None, *SPLITS}
    assert [] == [record.name for record in records[:50] if inspect(record.content).error]
    assert {type(record.label) for record in records} <= {str, type(None)}


def test_the_same_twice(source):
    """Equal params, files and seed give equal records in equal order."""
    module, params, context = source

    assert list(module.records(params, context)) == list(module.records(params, context))


@pytest.mark.parametrize("name", plugins.names(SOURCES))
def test_importing_it_is_light(name):
    """Reading params.yaml must not import what only reading images needs."""
    heavy = {"torch", "torchvision", "sklearn", "matplotlib", "pandas", "numpy", "PIL", "scipy"}
    program = f"import sys, {SOURCES}.{name}; print(*{heavy!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "" == done.stdout.strip()
