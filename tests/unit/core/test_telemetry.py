"""Nothing phones home."""

from __future__ import annotations

import os

import pytest

from pipeline.core import telemetry


def test_every_switch_is_set_unless_the_user_has_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in telemetry.SWITCHES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "0")
    telemetry.off()
    assert {**telemetry.SWITCHES, "DVC_NO_ANALYTICS": "0"} == {name: os.environ[name] for name in telemetry.SWITCHES}
