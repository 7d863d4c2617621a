"""What changes by itself, as files."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.data.profile import DataProfile
from pipeline.evaluation.champion import ChampionPin
from pipeline.release import pin

PROFILE = "state/data_profile.json"


def validated(workspace: Path, images: int, *, success: bool = True) -> None:
    """A validation report over so many target images."""
    profile = {**DataProfile.empty().model_dump(), "target": {"images": images}}
    (workspace / "reports").mkdir(exist_ok=True)
    report = {"success": success, "profile": profile}
    (workspace / "reports/validation.json").write_text(json.dumps(report), encoding="utf-8")


def test_before_the_first_run_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    """Both pins exist and are empty, so that `dvc repro` has its inputs."""
    pin.ensure_pins(tmp_path)
    assert DataProfile.load(tmp_path / PROFILE) == DataProfile.empty()
    assert ChampionPin() == pin.read_pin(tmp_path)


def test_pins_that_are_there_are_left_alone(tmp_path: Path) -> None:
    """Making sure of the pins never moves one: that would make a stage stale."""
    pin.ensure_pins(tmp_path)
    before = (tmp_path / PROFILE).read_bytes()
    validated(tmp_path, 50)
    pin.ensure_pins(tmp_path)
    assert before == (tmp_path / PROFILE).read_bytes()


def test_the_last_data_are_what_new_data_are_compared_with(tmp_path: Path) -> None:
    """The last report's profile is pinned; pinning it again changes nothing."""
    assert pin.pin_data_profile(tmp_path)
    validated(tmp_path, 50)
    assert [True, False] == [pin.pin_data_profile(tmp_path), pin.pin_data_profile(tmp_path)]
    assert 50 == DataProfile.load(tmp_path / PROFILE).target.images


def test_refused_data_are_nothing_to_compare_with(tmp_path: Path) -> None:
    """After a failed validation the profile of the data before stays; before the first there is an empty one."""
    validated(tmp_path, 10, success=False)
    assert pin.pin_data_profile(tmp_path)
    assert DataProfile.load(tmp_path / PROFILE) == DataProfile.empty()
    validated(tmp_path, 50)
    pin.pin_data_profile(tmp_path)
    validated(tmp_path, 10, success=False)
    assert not pin.pin_data_profile(tmp_path)
    assert 50 == DataProfile.load(tmp_path / PROFILE).target.images


def test_a_lost_report_keeps_the_last_profile(tmp_path: Path) -> None:
    """Without a report there is nothing newer: what was pinned stays."""
    validated(tmp_path, 50)
    pin.pin_data_profile(tmp_path)
    (tmp_path / "reports/validation.json").unlink()
    assert not pin.pin_data_profile(tmp_path)
    assert 50 == DataProfile.load(tmp_path / PROFILE).target.images
