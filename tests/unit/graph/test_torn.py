"""DVC's files cut off by a kill: mended from what was kept, and left alone while somebody uses them."""

import contextlib
import json
import subprocess
import sys

import pytest
from dvc.dvcfile import Lockfile
from dvc.repo import Repo

from pipeline.core.errors import DataError, StageError, WorkspaceError
from pipeline.graph import through_dvc, torn
from pipeline.workspace import create

ENTRY = """\
  {name}:
    cmd: graftline stage {name}
    params:
      params.yaml:
        seed: 0
    outs:
    - path: data/{name}.json
      hash: md5
      md5: 0123456789abcdef0123456789abcdef
      size: 12
    - path: reports/{name}
      hash: md5
      md5: fedcba9876543210fedcba9876543210.dir
      size: 345
      nfiles: 6
"""
STAGES = ("ingest", "train", "package")
LOCK = "schema: '2.0'\nstages:\n" + "".join(ENTRY.format(name=name) for name in STAGES)

HOLD = """
import sys, zc.lockfile
held = [zc.lockfile.LockFile(path) for path in sys.argv[1:]]
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torn") / "w"
    for _ in create(folder, target=None, source=None, preset="digits", version_data=False):
        pass
    return folder


def interrupted(workspace, before, after, stage="train"):
    """As if the run had been killed while DVC wrote ``after`` over ``before``."""
    lock = workspace / "dvc.lock"
    lock.unlink(missing_ok=True) if before is None else lock.write_text(before)
    with contextlib.suppress(KeyboardInterrupt), torn.keeping(workspace, stage):
        lock.write_text(after)
        raise KeyboardInterrupt


def test_a_whole_record_is_left_as_it_is(workspace):
    """The stage's own entry may have changed: it was written before the kill."""
    after = LOCK.replace("0123456789abcdef", "1111111111111111", 2)
    interrupted(workspace, LOCK, after)
    assert list(torn.mend(workspace)) == []
    assert (workspace / "dvc.lock").read_text() == after
    assert not (workspace / torn.KEPT).exists()


def test_a_stage_that_merely_failed_leaves_nothing_to_take_back(workspace):
    """What happens to dvc.lock later is the user's affair: a merge, a checkout, a deletion."""
    (workspace / "dvc.lock").write_text(LOCK)
    with pytest.raises(DataError), torn.keeping(workspace, "train"):
        raise DataError(expected="a", found="b", where="c", remedy="d")
    assert not (workspace / torn.KEPT).exists()
    with contextlib.suppress(StageError), torn.keeping(workspace, "train"):
        (workspace / "dvc.lock").write_text(LOCK[:100])  # DVC alone was killed
        raise StageError("exit -9")
    assert len(list(torn.mend(workspace))) == 1
    assert (workspace / "dvc.lock").read_text() == LOCK


def test_a_record_cut_off_anywhere_is_taken_back(workspace):
    """Wherever the file ends, DVC can read it afterwards, and the stages that did not run have all their outputs."""
    repo, lock = Repo(str(workspace)), workspace / "dvc.lock"
    taken_back = 0
    for end in range(len(LOCK)):
        interrupted(workspace, LOCK, LOCK[:end])
        taken_back += len(said := list(torn.mend(workspace)))
        assert all("taken back to what it was before stage train" in line for line in said)
        assert not said or lock.read_text() == LOCK
        record = Lockfile(repo, str(lock)).load()["stages"]
        assert all(len([out for out in record[name]["outs"] if out["md5"]]) == 2 for name in ("ingest", "package"))
    assert taken_back >= 0.9 * len(LOCK)


def test_a_first_record_cut_off_is_removed(workspace):
    """Before the first stage there was none to take back."""
    repo, lock = Repo(str(workspace)), workspace / "dvc.lock"
    first = LOCK[: LOCK.index("  train:")]
    for end in range(len(first)):
        interrupted(workspace, None, first[:end], stage="ingest")
        if list(torn.mend(workspace)):
            assert not lock.exists()
        Lockfile(repo, str(lock)).load()


def test_a_record_that_was_deleted_is_not_brought_back(workspace):
    """Deleting dvc.lock asks for everything to be done again; only what a stage was writing is mended."""
    interrupted(workspace, LOCK, LOCK)
    (workspace / "dvc.lock").unlink()
    assert list(torn.mend(workspace)) == []
    assert not (workspace / "dvc.lock").exists()


@pytest.mark.parametrize("content", ["", '{"wri', '{"write": {"a": 3}}', "[]", "\0\0\0"])
def test_a_damaged_list_of_holders_is_removed(workspace, content):
    """DVC refuses to work with one; without it, it works."""
    holders = workspace / ".dvc/tmp/rwlock"
    holders.parent.mkdir(exist_ok=True)
    holders.write_text(content)
    with pytest.raises(WorkspaceError, match="graftline run first mends"):
        through_dvc.stale(workspace)
    assert list(torn.mend(workspace)) == ["DVC was killed while it wrote rwlock: removed"]
    assert "ingest" in through_dvc.stale(workspace)


def test_holders_that_live_are_left_alone(workspace):
    """A list that can be read is somebody's; and while a living command holds DVC's lock nothing is touched."""
    holders = workspace / ".dvc/tmp/rwlock"
    holders.parent.mkdir(exist_ok=True)
    holders.write_text(json.dumps({"read": {"/data": [{"pid": 1, "cmd": "dvc repro"}]}}))
    assert list(torn.mend(workspace)) == []
    holders.write_text('{"wri')
    interrupted(workspace, LOCK, LOCK[:100])
    places = [str(workspace / ".dvc/tmp" / name) for name in ("lock", "rwlock.lock")]
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, *places], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    assert list(torn.mend(workspace)) == []
    assert holders.read_text() == '{"wri'
    assert (workspace / "dvc.lock").read_text() == LOCK[:100]
    holder.communicate()
    assert len(list(torn.mend(workspace))) == 2


def test_a_folder_without_dvc_is_no_matter_here(tmp_path):
    """Whoever asks DVC next is told."""
    assert list(torn.mend(tmp_path)) == []
