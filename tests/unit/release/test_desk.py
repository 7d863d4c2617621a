"""What a step has at hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.flow_params import Publish, Tracking
from pipeline.release._desk import Desk


@pytest.mark.parametrize(
    ("handoff", "folder", "shown"),
    [("handoff", "/work space/handoff", "handoff/v3"), ("/srv/models/", "/srv/models", "/srv/models/v3")],
)
def test_hand_off_folder(handoff: str, folder: str, shown: str) -> None:
    """A relative hand-off folder lies in the workspace, an absolute one is taken as it is."""
    settings = SimpleNamespace(model="digits", tracking=Tracking(), publish=Publish(handoff=handoff))
    desk = Desk(Path("/work space"), settings)  # type: ignore[arg-type]
    assert (Path(folder), shown) == (desk.handoff, desk.shown(3))
