"""Whole-or-nothing writing."""

import ctypes
import errno
import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.core import files


def test_failed_write_leaves_the_old_content(tmp_path):
    """An exception while writing leaves the file as it was, and nothing beside it."""
    path = tmp_path / "report.json"
    files.write_text(path, "old")

    def write_half():
        with files.replacing(path) as fresh:
            fresh.write_text("half of the n")
            raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        write_half()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_folders_above_are_made(tmp_path):
    """As many as are missing."""
    files.write_text(tmp_path / "far/away/report.json", "new")
    assert (tmp_path / "far/away/report.json").read_text() == "new"


def test_the_error_of_the_block_is_told(tmp_path):
    """Not one about the temporary, which the block's own mishap may have taken away."""

    def go_wrong():
        with files.replacing(tmp_path / "report.json") as fresh:
            fresh.parent.rmdir()
            raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        go_wrong()


def test_a_file_system_without_locks_will_do(tmp_path, monkeypatch):
    """What is written has its place; what a kill would leave there is not swept, for nobody can tell whose it is."""

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with files.replacing(tmp_path / "report.json") as fresh:
        fresh.write_text("new")
        assert files.sweep(tmp_path) == []
    assert (tmp_path / "report.json").read_text() == "new"


def test_replaces_a_folder_that_holds_files(tmp_path):
    """A folder takes the place of a fuller one: nothing of the old is left."""
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with files.replacing(target) as fresh:
        fresh.mkdir()
        (fresh / "new.txt").write_text("new")
    assert [entry.name for entry in target.iterdir()] == ["new.txt"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]


def test_document_round_trip(tmp_path):
    """A document is equal to itself after saving and loading, infinities included."""

    class Report(files.Document):
        score: float
        classes: list[str]

    report = Report(score=float("inf"), classes=["ä", "b"])
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == report


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from pipeline.core import files
with files.replacing(Path(sys.argv[1])) as fresh:
    fresh.mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_leaves_is_swept(tmp_path):
    """Its temporary goes, by its name; a living writer's and anything that is not ours stay."""
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(tmp_path / "bundle")])
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    (tmp_path / ".mine.partial").mkdir()
    with files.replacing(tmp_path / "report") as fresh:
        fresh.write_text("at work")
        assert files.sweep(tmp_path) == [left]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".mine.partial", "report"]
    assert files.sweep(tmp_path / "nowhere") == []


def test_folder_is_exchanged_in_one_step(tmp_path, monkeypatch):
    """Both folders are whole at any time: none is absent in between."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if sys.platform != "linux":
        pytest.skip("only Linux exchanges two folders in one step")
    monkeypatch.chdir(tmp_path)
    for new, old in ((tmp_path / "new", tmp_path / "old"), (Path("new"), Path("old"))):
        before = list(new.iterdir())
        assert files.exchange(new, old) is True, "this file system cannot"
        assert [entry.name for entry in old.iterdir()] == [entry.name for entry in before]
    with pytest.raises(FileNotFoundError) as caught:
        files.exchange(tmp_path / "old", tmp_path / "nowhere")
    assert (caught.value.strerror, caught.value.filename) == (os.strerror(errno.ENOENT), str(tmp_path / "nowhere"))


def test_folder_is_replaced_where_the_system_cannot_exchange(tmp_path, monkeypatch):
    """By two renames."""
    monkeypatch.setattr(files, "exchange", lambda *_: False)
    test_replaces_a_folder_that_holds_files(tmp_path)


def test_link_is_replaced(tmp_path):
    """A symlink takes another's place, also one that leads nowhere."""
    for target in ("v1", "v2"):
        with files.replacing(tmp_path / "current") as fresh:
            os.symlink(target, fresh)
    assert os.readlink(tmp_path / "current") == "v2"
    assert [entry.name for entry in tmp_path.iterdir()] == ["current"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_that_cannot_exchange_says_so(tmp_path, monkeypatch, code):
    """The kernel knows how and the file system does not, or neither does: nothing has changed, and that is no error."""

    def refuse(*_):
        ctypes.set_errno(code)
        return -1

    for library in (SimpleNamespace(renameat2=refuse), SimpleNamespace()):
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, library=library, **options: library)
        assert files.exchange(tmp_path / "new", tmp_path / "old") is False


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch, kind):
    """Each file is flushed while nothing has the final name yet: a power cut leaves no empty file there."""
    place, flushed = tmp_path / "place", set()

    def fsync(descriptor):
        assert not place.exists()
        flushed.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    with files.replacing(place) as fresh:
        if kind == "folder":
            (fresh / "below").mkdir(parents=True)
            (fresh / "a").write_text("a")
            (fresh / "below/b").write_text("b")
            (fresh / "link").symlink_to("nowhere")
        else:
            fresh.write_text("a")
    found = [place] if kind == "file" else [place / "a", place / "below/b"]
    assert flushed == {path.stat().st_ino for path in found}


@pytest.mark.parametrize(("before", "after"), [(0o777, 0o775), (0o702, 0o700), (0o750, 0o750), (0o644, 0o644)])
def test_strangers_may_not_write_what_is_put_in_place(tmp_path, monkeypatch, before, after):
    """Whatever the umask; no other right is given or taken, and what is right already is left alone: on some file
    systems nobody may change it. What a link leads to is not touched."""
    changed = []
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "theirs").touch()
    for path, mode in ((outside / "theirs", 0o666), (outside, 0o777)):
        path.chmod(mode)
    with files.replacing(tmp_path / "folder") as fresh:
        fresh.mkdir()
        for name in ("folder", "file"):
            (fresh / name).mkdir() if name == "folder" else (fresh / name).touch()
            (fresh / name).chmod(before)
        fresh.chmod(before)
        chmod = os.chmod
        monkeypatch.setattr(os, "chmod", lambda *arguments: (changed.append(arguments), chmod(*arguments)))
        (fresh / "to a folder").symlink_to(outside)
        (fresh / "to a file").symlink_to(outside / "theirs")
    with files.replacing(tmp_path / "link") as fresh:
        fresh.symlink_to(outside / "theirs")
    modes = {stat.S_IMODE((tmp_path / "folder" / name).stat().st_mode) for name in (".", "folder", "file")}
    assert modes == {after}
    assert len(changed) == (3 if before != after else 0)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (outside, outside / "theirs")] == [0o777, 0o666]


def test_a_file_is_read_and_what_is_none_is_refused(tmp_path):
    """At once: nobody writes to the named pipe, so that to open it would wait for ever."""
    (tmp_path / "file").write_bytes(b"content")
    with files.reading(tmp_path / "file") as file:
        assert file.read() == b"content"
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a named pipe"), (Path(os.devnull), "a device")):
        with pytest.raises(files.NotAFileError) as caught, files.reading(path):
            pass
        error = caught.value
        assert (error.errno, error.strerror) == (errno.EINVAL, f"{kind}, not a file")
        assert error.filename == str(path)
    with pytest.raises(FileNotFoundError), files.reading(tmp_path / "nowhere"):
        pass


def test_kinds_in_words(tmp_path):
    """None for a file and for a folder."""
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        kinds = [files.kind_of((tmp_path / name).stat().st_mode) for name in (".", "file", "pipe", "socket")]
    assert kinds == [None, None, "a named pipe", "a socket"]
    assert files.kind_of(os.stat(os.devnull).st_mode) == "a device"


def test_a_document_is_text_for_people(tmp_path):
    """Indented by two, one line at its end, other scripts as they are."""

    class Report(files.Document):
        classes: list[str]

    Report(classes=["ä"]).save(tmp_path / "report.json")
    assert (tmp_path / "report.json").read_bytes() == '{\n  "classes": [\n    "ä"\n  ]\n}\n'.encode()


def test_a_folder_is_saved_whole(tmp_path):
    """A copy of all that the stage has put into it; what stood there before is gone."""
    (tmp_path / "built/below").mkdir(parents=True)
    (tmp_path / "built/below/a").write_text("a")
    (tmp_path / "place").mkdir()
    (tmp_path / "place/old").touch()
    files.Folder(tmp_path / "built").save(tmp_path / "place")
    saved = files.Folder.load(tmp_path / "place")
    assert [path.relative_to(saved.path).as_posix() for path in sorted(saved.path.rglob("*"))] == ["below", "below/a"]
    assert (tmp_path / "built/below/a").is_file()
