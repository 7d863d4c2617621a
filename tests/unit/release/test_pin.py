"""What changes by itself, as files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pipeline.data.profile import DataProfile
from pipeline.evaluation.champion import ChampionPin
from pipeline.evaluation.domain_card import DomainCard
from pipeline.release import pin

PROFILE = "state/data_profile.json"
DOMAIN = "state/previous_domain.npz"


def validated(workspace: Path, images: int, *, success: bool = True) -> None:
    """A validation report over so many target images."""
    profile = {**DataProfile.empty().model_dump(), "target": {"images": images}}
    (workspace / "reports").mkdir(exist_ok=True)
    report = {"success": success, "profile": profile}
    (workspace / "reports/validation.json").write_text(json.dumps(report), encoding="utf-8")


def test_before_the_first_run_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    """All pins exist and are empty, so that `dvc repro` has its inputs."""
    pin.ensure_pins(tmp_path)
    assert DataProfile.load(tmp_path / PROFILE) == DataProfile.empty()
    assert ChampionPin() == pin.read_pin(tmp_path)
    assert 0 == len(DomainCard.load(tmp_path / DOMAIN))


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


def carded(workspace: Path, images: int) -> None:
    """A domain card of so many images, as the stage leaves it."""
    ids = [f"{number:064x}" for number in range(images)]
    features = np.zeros((images, 2))
    card = DomainCard.of(ids, features, backbone="small_cnn", backbone_digest="b", preprocessing_digest="p")
    card.save(workspace / "features/domain_card.npz")


def test_the_last_target_is_what_a_new_one_is_compared_with(tmp_path: Path) -> None:
    """The card is pinned as it is; pinning it again changes nothing; without one, an empty one is pinned."""
    assert [True, False] == [pin.pin_previous_domain(tmp_path), pin.pin_previous_domain(tmp_path)]
    assert 0 == len(DomainCard.load(tmp_path / DOMAIN))
    carded(tmp_path, 3)
    assert [True, False] == [pin.pin_previous_domain(tmp_path), pin.pin_previous_domain(tmp_path)]
    assert 3 == len(DomainCard.load(tmp_path / DOMAIN))


def test_a_lost_card_keeps_the_last_one_pinned(tmp_path: Path) -> None:
    """A stage that fails leaves none: what was pinned stays."""
    carded(tmp_path, 3)
    pin.pin_previous_domain(tmp_path)
    (tmp_path / "features/domain_card.npz").unlink()
    assert not pin.pin_previous_domain(tmp_path)
    assert 3 == len(DomainCard.load(tmp_path / DOMAIN))
