"""The hand-off folder, its pointer, and the signature that is on every version."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.core import digests
from pipeline.core.errors import ServiceError, WorkspaceError
from pipeline.release import publish
from pipeline.release.signer import Signer
from pipeline.serving.signature import digest_of_content


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / "golden").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"model")
    (folder / "golden/inputs.npz").write_bytes(b"inputs")
    return folder


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path / "workspace", None)


@pytest.fixture
def handoff(tmp_path: Path) -> Path:
    return tmp_path / "hand off"


def test_current_is_the_bundle(bundle: Path, handoff: Path, signer: Signer) -> None:
    """After publishing, the pointer leads to an equal copy; it is relative, so that the folder can be moved."""
    publish.publish(handoff, bundle, 1, signer)
    assert digests.of_path(bundle) == digest_of_content(handoff / "current")
    moved = handoff.rename(handoff.with_name("elsewhere"))
    assert b"model" == (moved / "current/model.onnx").read_bytes()


def test_nothing_but_versions_and_the_pointer_is_left(bundle: Path, handoff: Path, signer: Signer) -> None:
    """No temporary name stays behind."""
    publish.publish(handoff, bundle, 1, signer)
    publish.publish(handoff, bundle, 2, signer)
    assert ["current", "v1", "v2"] == sorted(entry.name for entry in handoff.iterdir())


def test_publishing_twice_is_publishing_once(bundle: Path, handoff: Path, signer: Signer) -> None:
    """A repeated step finds its work done; undoing the repetition takes nothing away."""
    publish.publish(handoff, bundle, 1, signer)
    again = publish.publish(handoff, bundle, 1, signer)
    assert publish.Published(1, replaced="v1", created=False) == again
    publish.undo_publish(handoff, again)
    assert "v1" == publish.pointed_at(handoff)


def test_undo_goes_back_to_the_version_before(bundle: Path, handoff: Path, signer: Signer) -> None:
    """The pointer returns, the new folder is removed."""
    publish.publish(handoff, bundle, 1, signer)
    publish.undo_publish(handoff, publish.publish(handoff, bundle, 2, signer))
    assert ("v1", False) == (publish.pointed_at(handoff), (handoff / "v2").exists())


def test_undo_of_the_first_leaves_no_pointer(bundle: Path, handoff: Path, signer: Signer) -> None:
    """There was no current before, and there is none after."""
    publish.undo_publish(handoff, publish.publish(handoff, bundle, 1, signer))
    assert [] == list(handoff.iterdir())


def test_failed_copy_changes_nothing(
    bundle: Path, handoff: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that is not equal is never put in place, and current stays."""
    publish.publish(handoff, bundle, 1, signer)

    def lossy(source: Path, destination: Path) -> None:
        destination.mkdir()
        (destination / "model.onnx").write_bytes(b"mod")

    monkeypatch.setattr(shutil, "copytree", lossy)
    with pytest.raises(ServiceError, match="not equal"):
        publish.publish(handoff, bundle, 2, signer)
    assert ["current", "v1"] == sorted(entry.name for entry in handoff.iterdir())
    assert "v1" == publish.pointed_at(handoff)


def test_folder_is_never_replaced_while_current_points_at_it(
    bundle: Path, handoff: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same version with other contents: whenever a folder is put in place, `current` leads to another whole one."""
    publish.publish(handoff, bundle, 1, signer)
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
    again = publish.publish(handoff, bundle, 1, signer)
    assert [("v1.new", "v1"), ("current", "v1"), ("v1", "v1.new"), ("current", "v1.new")] == seen
    assert publish.Published(1, replaced="v1", created=False) == again
    assert ["current", "v1"] == sorted(entry.name for entry in handoff.iterdir())
    assert digests.of_path(bundle) == digest_of_content(handoff / "current")


def test_kill_while_a_second_copy_stood_in_is_mended(bundle: Path, handoff: Path, signer: Signer) -> None:
    """`current` was left at the second copy: pointing it at the version again removes that."""
    publish.publish(handoff, bundle, 1, signer)
    shutil.copytree(handoff / "v1", handoff / "v1.new")
    publish._point(handoff, "v1.new")
    publish.point(handoff, 1)
    assert ["current", "v1"] == sorted(entry.name for entry in handoff.iterdir())
    assert "v1" == publish.pointed_at(handoff)


def test_nothing_to_publish(tmp_path: Path, handoff: Path, signer: Signer) -> None:
    """Without a bundle the message names what is missing."""
    with pytest.raises(WorkspaceError, match=r"no model\.onnx"):
        publish.publish(handoff, tmp_path / "bundle", 1, signer)


def test_what_is_handed_off_is_signed(bundle: Path, handoff: Path, signer: Signer) -> None:
    """By the workspace's key; the bundle of the stages, which must stay reproducible, gets no signature."""
    publish.publish(handoff, bundle, 1, signer)
    assert signer.has_signed(handoff / "current")
    assert not (bundle / "model.sig").exists()


def test_no_version_is_ever_seen_unsigned(
    bundle: Path, handoff: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where signing fails, nothing is put in place and `current` stays."""
    publish.publish(handoff, bundle, 1, signer)

    def fail(folder: Path) -> None:
        assert folder.name == "v2"
        raise ServiceError("no key today")

    monkeypatch.setattr(signer, "sign", fail)
    with pytest.raises(ServiceError, match="no key today"):
        publish.publish(handoff, bundle, 2, signer)
    assert ["current", "v1"] == sorted(entry.name for entry in handoff.iterdir())


def test_publishing_again_signs_once(bundle: Path, handoff: Path, signer: Signer) -> None:
    """ECDSA gives another signature each time: the one that holds is kept, so that a repeated run changes no byte."""
    publish.publish(handoff, bundle, 1, signer)
    before = digests.of_path(handoff / "v1")
    publish.publish(handoff, bundle, 1, signer)
    assert before == digests.of_path(handoff / "v1")


@pytest.mark.parametrize("spoil", [Path.unlink, lambda file: file.write_text("{}")], ids=["none", "damaged"])
def test_publishing_again_mends_a_signature(
    bundle: Path, handoff: Path, signer: Signer, spoil: Callable[[Path], object]
) -> None:
    """Of an older version's folder, which has none, or of one that lost it."""
    publish.publish(handoff, bundle, 1, signer)
    spoil(handoff / "v1/model.sig")
    publish.publish(handoff, bundle, 1, signer)
    assert signer.has_signed(handoff / "v1")
