"""Pins what changes by itself to files, so that the stages stay functions of files.

Some things a stage looks at are not made by a stage: who is champion, and what the last run's data looked like, in
figures (``data_profile``) and to the backbone (``previous_domain``). The flow writes them down before the stages that
read them, and only when there is something new to judge: afterwards ``dvc repro`` finds nothing to do, before and after
a promotion.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from pipeline.catalog import CATALOG
from pipeline.core import digests, files
from pipeline.evaluation.champion import FOLDER, ChampionPin
from pipeline.release._desk import Desk
from pipeline.tracking import runs
from pipeline.tracking.registry import CHAMPION, Version


def pin_champion(desk: Desk) -> ChampionPin:
    """Write the present champion to ``state/champion.json`` and its model to ``state/champion/<sha256>.onnx``.

    Call it between export and evaluate. Where the champion *is* the workspace's model there is no challenger to compare
    with it, and the pin stays: the evaluation that promoted it, made against the champion before, remains valid.
    """
    path = desk.workspace / CATALOG["champion"].path
    champion = desk.at(CHAMPION)
    if path.is_file() and champion is not None and champion.sha256 == _model_sha256(desk.workspace):
        return ChampionPin.load(path)
    pin = _pin(desk, champion)
    if not path.is_file() or ChampionPin.load(path) != pin:
        pin.save(path)
    _forget_others(desk.workspace, pin)
    return pin


def ensure_pins(workspace: Path) -> None:
    """Write empty pins where there are none, so that ``dvc repro`` works in a workspace that no flow has run in."""
    for artefact in CATALOG.values():
        path = workspace / artefact.path
        if artefact.kind == "pinned" and not path.is_file():
            pinned: Any = artefact.type()
            pinned.empty().save(path)


def read_pin(workspace: Path) -> ChampionPin:
    """The champion that the last evaluation compared with."""
    path = workspace / CATALOG["champion"].path
    return ChampionPin.load(path) if path.is_file() else ChampionPin.empty()


def pin_data_profile(workspace: Path) -> bool:
    """Keep the profile of the data that were validated last, as what new data are compared with.

    Data that were refused are nothing to compare with: after a failed validation the profile of the ones before stays.
    Call it before a stale ingest and at no other time: moving the profile makes validate stale. Before the first run
    there is nothing to compare with, and an empty profile is written. Returns whether the file changed.
    """
    from pipeline.data.profile import DataProfile

    path, report = (workspace / CATALOG[name].path for name in ("data_profile", "validation"))
    validation = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}
    if validation.get("success"):
        profile = DataProfile.model_validate(validation["profile"])
    elif path.is_file():
        return False
    else:
        profile = DataProfile.empty()
    if path.is_file() and DataProfile.load(path) == profile:
        return False
    profile.save(path)
    return True


def pin_previous_domain(workspace: Path) -> bool:
    """Keep the domain card of the target whose features were computed last, as what a new target is compared with.

    At the same moment and for the same reason as :func:`pin_data_profile`. Refused data never come as far as features,
    so there is no card of them. Returns whether the file changed.
    """
    from pipeline.evaluation.domain_card import DomainCard

    path, card = (workspace / CATALOG[name].path for name in ("previous_domain", "domain_card"))
    if not card.is_file():
        if path.is_file():
            return False
        DomainCard.empty().save(path)
        return True
    if path.is_file() and digests.of_file(path) == digests.of_file(card):
        return False
    with files.replacing(path) as fresh:
        shutil.copyfile(card, fresh)
    return True


def _model_sha256(workspace: Path) -> str | None:
    model = workspace / CATALOG["model"].path
    return digests.of_file(model) if model.is_file() else None


def _pin(desk: Desk, champion: Version | None) -> ChampionPin:
    if champion is None:
        return ChampionPin.empty()  # as ensure_pins writes it: the first flow after a dvc repro finds nothing to do
    model = desk.workspace / FOLDER / f"{champion.sha256}.onnx"
    if not model.is_file() or digests.of_file(model) != champion.sha256:
        with tempfile.TemporaryDirectory() as scratch, files.replacing(model) as fresh:
            shutil.copyfile(desk.registry.fetch(champion, Path(scratch)), fresh)
    return ChampionPin(
        model=desk.model, version=champion.number, sha256=champion.sha256, profile=_profile(desk, champion)
    )


def _profile(desk: Desk, champion: Version) -> dict[str, Any]:
    """Of the data that the champion was trained on. What is pinned of this very champion is trusted: the reports of its
    run do not change once it has been registered."""
    pinned = read_pin(desk.workspace)
    is_pinned = (desk.model, champion.number, champion.sha256) == (pinned.model, pinned.version, pinned.sha256)
    if is_pinned and pinned.profile:
        return pinned.profile
    return runs.read_report(desk.registry.session, champion.run_id, "validation").get("profile", {})


def _forget_others(workspace: Path, pin: ChampionPin) -> None:
    for model in (workspace / FOLDER).glob("*.onnx"):
        if model.stem != pin.sha256:
            model.unlink()
