"""DVC's own files after a kill: DVC writes ``dvc.lock`` and its lock file in place, so that a process killed in the
middle leaves them cut off.

``dvc.lock`` is kept aside while a stage runs (:func:`keeping`), and the next run begins with :func:`mend`. What a stage
has computed is never lost by this: it is only not yet recorded, and DVC finds it again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from pipeline.core import files
from pipeline.core.files import Document

LOCK = "dvc.lock"
KEPT = ".graftline/dvc.lock.json"


class Kept(Document):
    """``dvc.lock`` as it was when ``stage`` began; ``text`` is None where there was none."""

    stage: str
    text: str | None


@contextlib.contextmanager
def keeping(workspace: Path, stage: str) -> Iterator[None]:
    """Keep a whole ``dvc.lock`` aside while DVC runs ``stage``; afterwards only where that was cut off, for DVC may be
    what was killed: a stage that merely failed leaves nothing to take back."""
    lock = workspace / LOCK
    kept = Kept(stage=stage, text=lock.read_text(encoding="utf-8") if lock.is_file() else None)
    kept.save(workspace / KEPT)
    try:
        yield
    except Exception:
        if not _is_whole(lock, kept):
            raise
        (workspace / KEPT).unlink()
        raise
    (workspace / KEPT).unlink()


def mend(workspace: Path) -> Iterator[str]:
    """Bring back what a killed DVC left cut off; a sentence for each file. Call it with the workspace locked.

    Nothing is touched while another DVC command writes: it holds the lock that is taken here first.
    """
    from dvc.lock import LockError

    yield from mend_holders(workspace)
    if (temporary := _temporary(workspace)) is not None:
        with contextlib.suppress(LockError):
            yield from _mend_record(workspace, temporary)


def mend_holders(workspace: Path) -> Iterator[str]:
    """Of these the list of who reads and writes what: empty after every command, so a damaged one is as good as none,
    and nothing is told by it."""
    from dvc.lock import LockError

    if (temporary := _temporary(workspace)) is not None:
        with contextlib.suppress(LockError):
            yield from _mend_holders(temporary)


def _temporary(workspace: Path) -> Path | None:
    """DVC's folder for such files; None where there is no repository, as whoever asks DVC next is told."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        return Path(Repo.find_root(str(workspace))) / Repo.DVC_DIR / "tmp"
    except DvcException:
        return None


def _mend_holders(temporary: Path) -> Iterator[str]:
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK, SCHEMA
    from voluptuous import Invalid

    path = temporary / RWLOCK_FILE
    if not path.is_file():
        return
    with _holding(temporary, RWLOCK_LOCK):
        try:
            SCHEMA(json.loads(path.read_bytes()))
        except (ValueError, Invalid):
            path.unlink()
            yield f"DVC was killed while it wrote {path.name}: removed"


def _mend_record(workspace: Path, temporary: Path) -> Iterator[str]:
    if not (workspace / KEPT).is_file():
        return
    with _holding(temporary, "lock"):
        kept = Kept.load(workspace / KEPT)
        if not _is_whole(workspace / LOCK, kept):
            if kept.text is None:
                (workspace / LOCK).unlink()
            else:
                files.write_text(workspace / LOCK, kept.text)
            yield f"DVC was killed while it wrote {LOCK}: taken back to what it was before stage {kept.stage}"
        (workspace / KEPT).unlink()


def _is_whole(lock: Path, kept: Kept) -> bool:
    """Can DVC read it, and does it still tell of every output that it told of before? Only ``kept.stage``'s own entry
    was to change; a file cut off between two lines can be read, but has lost the entries after it."""
    from dvc.utils.serialize import ParseError
    from voluptuous import Invalid

    if not lock.is_file():
        return True  # somebody deleted it: DVC cuts it off where it stands
    try:
        text = lock.read_text(encoding="utf-8")
        now = _outputs(text)
    except (ValueError, ParseError, Invalid):
        return False
    if not text.endswith("\n"):
        return False  # it can be read, but its last digest may be half of one
    before = _outputs(kept.text) if kept.text else {}
    return all(before[stage] <= now.get(stage, set()) for stage in before if stage != kept.stage)


def _outputs(text: str) -> dict[str, set[str]]:
    """The paths of each stage's outputs that have a digest."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.serialize import parse_yaml

    stages = COMPILED_LOCKFILE_SCHEMA(parse_yaml(text, LOCK)).get("stages", {})
    return {name: {out["path"] for out in entry.get("outs", ()) if "md5" in out} for name, entry in stages.items()}


@contextlib.contextmanager
def _holding(temporary: Path, name: str) -> Iterator[None]:
    from dvc.config import Config
    from dvc.lock import make_lock

    hardlink = Config(str(temporary.parent), validate=False)["core"].get("hardlink_lock", False)
    with make_lock(str(temporary / name), tmp_dir=str(temporary), hardlink_lock=hardlink):
        yield
