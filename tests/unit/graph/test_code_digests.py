"""The digests of the code are computed once for each change of the package."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import pipeline
from pipeline.core import file_state
from pipeline.graph import closure, code_digests
from pipeline.graph.table import STAGES


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever they are computed."""
    times: list[int] = []
    monkeypatch.setattr(code_digests, "_computed", lambda: {"train": len(times), "times": times.append(0)})
    monkeypatch.setattr(file_state, "SETTLED_NS", -(10**12))
    return times


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "site/pipeline"
    (root / "stages/__pycache__").mkdir(parents=True)
    (root / "stages/train.py").write_text("1")
    monkeypatch.setattr(closure, "PACKAGE_ROOT", root)
    return root


def test_they_are_those_of_the_closure(tmp_path: Path) -> None:
    """Of every stage and every family of plug-ins, the second time too."""
    first, again = (code_digests.of_package(tmp_path) for _ in range(2))
    assert first == again == code_digests._computed()
    assert {"train", "ingest", "strategies"} <= set(first)


def test_they_are_computed_once(package: Path, computed: list[int], tmp_path: Path) -> None:
    """Compiled files are not part of it."""
    before = code_digests.of_package(tmp_path)
    (package / "stages/__pycache__/train.pyc").write_text("2")
    assert (before, 1) == (code_digests.of_package(tmp_path), len(computed))


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "stages/train.py").write_text("2"),
        lambda root: (root / "stages/probe.py").write_text("1"),
        lambda root: (root / "stages/train.py").unlink(),
        lambda root: (root / "stages").rename(root / "steps"),
        lambda root: shutil.copytree(root / "stages", root / "more"),
    ],
)
def test_a_change_of_any_file_computes_them_anew(package, computed, tmp_path, change) -> None:
    """One that is edited, added, removed or moved."""
    code_digests.of_package(tmp_path)
    change(package)
    code_digests.of_package(tmp_path)
    assert 2 == len(computed)


def test_a_file_changed_a_moment_ago_may_change_again(package, computed, tmp_path, monkeypatch) -> None:
    """Its clock may not have ticked since: nothing is kept."""
    monkeypatch.setattr(file_state, "SETTLED_NS", 10**12)
    for _ in range(2):
        code_digests.of_package(tmp_path)
    assert 2 == len(computed)
    assert not (tmp_path / code_digests.FILE).exists()


@pytest.mark.parametrize("damage", [lambda kept: kept[:-1], lambda kept: kept.replace(b"train", b"trait")])
def test_what_was_kept_and_damaged_is_not_believed(package, computed, tmp_path, damage) -> None:
    """They are computed again."""
    code_digests.of_package(tmp_path)
    kept = tmp_path / code_digests.FILE
    kept.write_bytes(damage(kept.read_bytes()))
    code_digests.of_package(tmp_path)
    assert 2 == len(computed)


def test_a_folder_that_cannot_be_written_costs_time_alone(package, computed, tmp_path) -> None:
    """They are computed each time."""
    (tmp_path / ".graftline").write_text("in the way")
    for _ in range(2):
        code_digests.of_package(tmp_path)
    assert 2 == len(computed)


def test_whatever_a_stage_depends_on_is_watched() -> None:
    """Also the files that its row names beside its code."""
    places = [closure.CODE_ROOT / file for stage in STAGES for file in stage.files]
    assert places
    assert all(place.exists() and place.is_relative_to(closure.PACKAGE_ROOT) for place in places)


def test_another_version_of_the_package_computes_them_anew(package, computed, tmp_path, monkeypatch) -> None:
    """In an image whose files all have one time, a file of the same size would not tell."""
    code_digests.of_package(tmp_path)
    monkeypatch.setattr(pipeline, "__version__", "0.0.0")
    code_digests.of_package(tmp_path)
    assert 2 == len(computed)
