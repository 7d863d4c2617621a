"""The hand-off folder and its pointer."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core import digests
from pipeline.core.errors import ServiceError, WorkspaceError
from pipeline.release import publish


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "golden").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"model")
    (folder / "golden/inputs.npz").write_bytes(b"inputs")
    return folder


@pytest.fixture
def handoff(tmp_path: Path) -> Path:
    return tmp_path / "hand off"


def test_current_is_the_bundle(bundle: Path, handoff: Path) -> None:
    """After publishing, the pointer leads to an equal copy; it is relative, so that the folder can be moved."""
    publish.publish(handoff, bundle, 1)
    assert digests.of_path(bundle) == digests.of_path(handoff / "current")
    moved = handoff.rename(handoff.with_name("elsewhere"))
    assert b"model" == (moved / "current/model.onnx").read_bytes()


def test_nothing_but_versions_and_the_pointer_is_left(bundle: Path, handoff: Path) -> None:
    """No temporary name stays behind."""
    publish.publish(handoff, bundle, 1)
    publish.publish(handoff, bundle, 2)
    assert ["current", "v1", "v2"] == sorted(entry.name for entry in handoff.iterdir())


def test_publishing_twice_is_publishing_once(bundle: Path, handoff: Path) -> None:
    """A repeated step finds its work done; undoing the repetition takes nothing away."""
    publish.publish(handoff, bundle, 1)
    again = publish.publish(handoff, bundle, 1)
    assert publish.Published(1, replaced="v1", created=False) == again
    publish.undo_publish(handoff, again)
    assert "v1" == publish.pointed_at(handoff)


def test_undo_goes_back_to_the_version_before(bundle: Path, handoff: Path) -> None:
    """The pointer returns, the new folder is removed."""
    publish.publish(handoff, bundle, 1)
    publish.undo_publish(handoff, publish.publish(handoff, bundle, 2))
    assert ("v1", False) == (publish.pointed_at(handoff), (handoff / "v2").exists())


def test_undo_of_the_first_leaves_no_pointer(bundle: Path, handoff: Path) -> None:
    """There was no current before, and there is none after."""
    publish.undo_publish(handoff, publish.publish(handoff, bundle, 1))
    assert [] == list(handoff.iterdir())


def test_failed_copy_changes_nothing(bundle: Path, handoff: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that is not equal is never put in place, and current stays."""
    publish.publish(handoff, bundle, 1)

    def lossy(source: Path, destination: Path) -> None:
        destination.mkdir()
        (destination / "model.onnx").write_bytes(b"mod")

    monkeypatch.setattr(shutil, "copytree", lossy)
    with pytest.raises(ServiceError, match="not equal"):
        publish.publish(handoff, bundle, 2)
    assert ["current", "v1"] == sorted(entry.name for entry in handoff.iterdir())
    assert "v1" == publish.pointed_at(handoff)


def test_folder_is_never_replaced_while_current_points_at_it(
    bundle: Path, handoff: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same version with other contents: whenever a folder is put in place, `current` leads to another whole one."""
    publish.publish(handoff, bundle, 1)
    (bundle / "card.md").write_text("a new verdict", encoding="utf-8")
    seen = []
    replacing = publish.replacing

    @contextlib.contextmanager
    def watched(path: Path) -> Iterator[Path]:
        seen.append((path.name, publish.pointed_at(handoff)))
        with replacing(path) as fresh:
            yield fresh
        assert b"model" == (handoff / "current/model.onnx").read_bytes()

    monkeypatch.setattr(publish, "replacing", watched)
    again = publish.publish(handoff, bundle, 1)
    assert [("v1.new", "v1"), ("current", "v1"), ("v1", "v1.new"), ("current", "v1.new")] == seen
    assert publish.Published(1, replaced="v1", created=False) == again
    assert ["current", "v1"] == sorted(entry.name for entry in handoff.iterdir())
    assert digests.of_path(bundle) == digests.of_path(handoff / "current")


def test_kill_while_a_second_copy_stood_in_is_mended(bundle: Path, handoff: Path) -> None:
    """`current` was left at the second copy: pointing it at the version again removes that."""
    publish.publish(handoff, bundle, 1)
    shutil.copytree(handoff / "v1", handoff / "v1.new")
    publish._point(handoff, "v1.new")
    publish.point(handoff, 1)
    assert ["current", "v1"] == sorted(entry.name for entry in handoff.iterdir())
    assert "v1" == publish.pointed_at(handoff)


def test_nothing_to_publish(tmp_path: Path, handoff: Path) -> None:
    """Without a bundle the message names what is missing."""
    with pytest.raises(WorkspaceError, match=r"no model\.onnx"):
        publish.publish(handoff, tmp_path / "bundle", 1)
