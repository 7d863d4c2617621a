"""What was seen in a file is known the next time, as long as the file is the same."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from importlib import import_module
from inspect import getsource
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.core import file_state
from pipeline.core.file_state import FileState
from pipeline.data import images, inspection_cache, inspectors
from pipeline.data.inspection import Inspection, inspect
from pipeline.data.inspection_cache import InspectionCache
from pipeline.data.inspection_stream import inspect_all

Run = Callable[[], list[Inspection]]


def paint(path: Path, seed: int) -> Path:
    """A small bitmap: every one has as many bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "BMP")
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [paint(tmp_path / f"{number}.bmp", number) for number in range(5)]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read, in any order."""
    names: list[str] = []

    def reading(path: Path) -> Inspection:
        names.append(path.name)
        return inspect(path)

    monkeypatch.setattr(inspectors, "inspect", reading)
    return names


@pytest.fixture
def run(files: list[Path], tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run over the files of that moment; their times count as settled at once."""
    monkeypatch.setattr(file_state, "SETTLED_NS", -(10**12))

    def once() -> list[Inspection]:
        read.clear()
        with InspectionCache(tmp_path / "cache") as cache:
            return [seen for _, seen in inspect_all(files, lambda file: file, cache, 2)]

    return once


def test_an_unchanged_file_is_not_read_again(run: Run, read: list[str]) -> None:
    """The second run says the same without reading anything."""
    first = run()
    assert len(read) == 5
    assert first == run()
    assert read == []


def test_only_what_changed_or_is_new_is_read(run: Run, read: list[str], files: list[Path], tmp_path: Path) -> None:
    """Other bytes of the same size under the old time of modification, another file under the name, and one more."""
    run()
    before = os.stat(files[1])
    paint(files[1], 11)
    os.utime(files[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    paint(tmp_path / "other.bmp", 12).replace(files[2])
    files.append(paint(tmp_path / "new.bmp", 13))
    found = run()
    assert sorted(read) == ["1.bmp", "2.bmp", "new.bmp"]
    assert [inspect(file) for file in files] == found


def test_a_file_that_has_gone_is_told_and_forgotten(run: Run, read: list[str], files: list[Path]) -> None:
    """It is not answered from memory; where it comes back it is read."""
    run()
    shutil.move(files[0], aside := files[0].with_suffix(".aside"))
    assert run()[0].error == "cannot be read: No such file or directory"
    shutil.move(aside, files[0])
    assert run()[0].error is None
    assert read == ["0.bmp"]


def test_a_broken_image_is_looked_at_each_time(run: Run, read: list[str], files: list[Path]) -> None:
    files[3].write_bytes(files[3].read_bytes()[:60])
    for _ in range(2):
        assert (run()[3].error or "").startswith("is broken")
        assert "3.bmp" in read


def test_a_file_changed_a_moment_ago_is_looked_at_once_more(
    run: Run, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clock may not have ticked since; a run later its times are trusted."""
    monkeypatch.setattr(file_state, "SETTLED_NS", 10**12)
    run()
    run()
    assert len(read) == 5


def test_a_read_that_lasts_settles_nothing(tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A file changed just before a slow read may have changed in the tick in which the read began: not remembered."""
    now = [max(FileState.of(str(files[0]))[2:]) + 1]
    monkeypatch.setattr(file_state.time, "time_ns", lambda: now[0])

    def slowly(paths: Sequence[Path]) -> list[Inspection]:
        now[0] += 10 * file_state.SETTLED_NS
        return [inspect(path) for path in paths]

    for remembered in (False, True):  # the second look begins when the file is settled
        with InspectionCache(tmp_path / "cache") as cache:
            cache.look(files[:1], slowly)
        assert remembered == (InspectionCache(tmp_path / "cache").find(files[0]) is not None)


@pytest.mark.parametrize("new", [False, True])
def test_whoever_is_interrupted_forgets_nothing(
    run: Run, read: list[str], files: list[Path], tmp_path: Path, new: bool
) -> None:
    """What it has not come to may still be there; what it has seen anew is kept beside it."""
    run()
    if new:
        paint(files[0], 77)

    def interrupted_after_one(cache: InspectionCache) -> None:
        list(inspect_all(files[:1], lambda file: file, cache, 2))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), InspectionCache(tmp_path / "cache") as cache:
        interrupted_after_one(cache)
    run()
    assert read == []


def test_a_file_that_changes_between_two_looks_is_written_once(
    files: list[Path], tmp_path: Path, run: Run, read: list[str]
) -> None:
    """A table may list it twice, or both domains have it: the last look counts."""
    run()
    with InspectionCache(tmp_path / "cache") as cache:
        for _ in inspect_all(files, lambda file: file, cache, 2):
            pass
        paint(files[0], 78)
        for _ in inspect_all(files, lambda file: file, cache, 2):
            pass
    assert (
        InspectionCache(tmp_path / "cache").known_before
        == 5
        == len(InspectionCache(tmp_path / "cache")._before["path"])
    )
    assert run()[0] == inspect(files[0])
    assert read == []


@pytest.mark.parametrize("damage", [b"", b"PAR1 and nothing else", b"\x00" * 4096])
def test_a_damaged_cache_is_no_cache(run: Run, read: list[str], tmp_path: Path, damage: bytes) -> None:
    """Everything is read again, and the file is whole afterwards."""
    first = run()
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(damage)
    assert first == run()
    assert len(read) == 5
    assert run()
    assert read == []


def test_another_decoder_sees_for_itself(
    run: Run, read: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an update of Pillow nothing of what the old one saw is taken, or kept."""
    run()
    monkeypatch.setattr(images.PIL, "__version__", "99.0.0")
    run()
    assert len(read) == 5
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_other_code_sees_for_itself() -> None:
    """What is kept is known by the code of every module here that a look goes through."""
    known = set(inspection_cache.CODE)
    for name in inspection_cache.CODE:
        imported = re.findall(r"^from (pipeline\.data\.\w+) import", getsource(import_module(name)), re.M)
        assert set(imported) <= known


def test_an_inode_of_64_bits_is_kept(run: Run, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems number their files by a hash."""
    real = FileState.of
    monkeypatch.setattr(FileState, "of", lambda path: real(path)._replace(inode=2**64 - 3))
    run()
    run()
    assert read == []


def test_a_folder_that_cannot_be_written_costs_time_alone(
    run: Run, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run goes on; a line says that nothing was kept."""
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert len(run()) == 5
    assert "what was seen could not be kept" in capsys.readouterr().out


def test_a_name_that_cannot_be_written_down_costs_time_alone(
    tmp_path: Path, files: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sources leave such files out; should one come through, nothing is kept, and a line says so."""
    monkeypatch.setattr(file_state, "SETTLED_NS", -(10**12))
    try:
        odd = files[0].rename(tmp_path / os.fsdecode(b"caf\xe9.bmp"))
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    with InspectionCache(tmp_path / "cache") as cache:
        assert [inspect(odd)] == cache.look([odd], lambda paths: map(inspect, paths))
    assert "what was seen could not be kept" in capsys.readouterr().out


def test_flipped_bits_are_never_believed(run: Run, read: list[str], tmp_path: Path) -> None:
    """Whatever bit of the file flips, of the table or of the footer that says how to read it, the truth comes out."""
    first = run()
    (file,) = (tmp_path / "cache").iterdir()
    whole, random = file.read_bytes(), np.random.default_rng(0)
    anywhere, footer = random.integers(0, 8 * len(whole), 60), 8 * len(whole) - random.integers(1, 8_000, 60)
    for place in (*anywhere, *footer):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << (place % 8)
        file.write_bytes(damaged)
        assert first == run()
