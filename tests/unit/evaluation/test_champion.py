"""The pin: found, absent, missing, or not what was pinned."""

from __future__ import annotations

import pytest

from pipeline.core import digests
from pipeline.core.errors import WorkspaceError
from pipeline.evaluation.champion import FOLDER, ChampionPin

CONTENT = b"a model"
SHA256 = digests.of_bytes(CONTENT)
PIN = ChampionPin(model="bars", version=3, sha256=SHA256, profile={"target": {}})


def put(workspace, content=CONTENT):
    path = workspace / FOLDER / f"{SHA256}.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_no_champion_has_no_file(tmp_path):
    assert ChampionPin().file(tmp_path) is None


def test_the_pinned_file_is_found_by_its_digest(tmp_path):
    assert put(tmp_path) == PIN.file(tmp_path)


def test_a_missing_file_names_the_champion_and_the_remedy(tmp_path):
    with pytest.raises(WorkspaceError) as problem:
        PIN.file(tmp_path)
    assert f"the champion's model (bars v3) at {tmp_path / FOLDER / SHA256}.onnx" == problem.value.expected
    assert ("no such file", "state/champion.json") == (problem.value.found, problem.value.where)
    assert "graftline run" in problem.value.remedy


def test_another_file_under_its_name_is_refused(tmp_path):
    put(tmp_path, b"something else")
    with pytest.raises(WorkspaceError) as problem:
        PIN.file(tmp_path)
    assert "a file with another digest" == problem.value.found


def test_a_pin_survives_the_file(tmp_path):
    PIN.save(tmp_path / "champion.json")
    assert PIN == ChampionPin.load(tmp_path / "champion.json")
