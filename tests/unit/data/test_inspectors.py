"""Processes that look at files see what this one sees, and leave nothing behind however they or it end."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image, ImageFile
from threadpoolctl import threadpool_info, threadpool_limits

from pipeline.core import file_state
from pipeline.core.context import Context
from pipeline.data import inspection_cache, inspection_stream, inspectors
from pipeline.data.inspection import Inspection, inspect
from pipeline.data.inspection_cache import InspectionCache
from pipeline.data.inspection_stream import inspect_all
from pipeline.data.inspectors import Inspectors, StoppedError
from pipeline.data.sources import image_folder
from pipeline.stages import ingest


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Good ones, a broken one, one that is missing, and names with a line's end and in another script."""
    names = ["a.png", "b.jpg", "line\nend.png", "ä日本.png", "broken.jpg", "missing.png"]
    paths = [tmp_path / "images" / name for name in names]
    paths[0].parent.mkdir()
    for seed, path in enumerate(paths[:-1]):
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (90, 70, 3), dtype=np.uint8)).save(path)
    paths[4].write_bytes(paths[4].read_bytes()[:3000])
    return paths


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes from the first file on."""
    monkeypatch.setattr(inspectors, "ALONE", 0)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[str]]:
    """The processes that are started."""
    processes: list[subprocess.Popen[str]] = []

    class Noted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)
            processes.append(self)

    monkeypatch.setattr(inspectors.subprocess, "Popen", Noted)
    return processes


@pytest.mark.usefixtures("at_once")
def test_a_process_sees_what_this_one_sees(files, started):
    """To the last digit, errors too, and several times in a row; at the end it is gone."""
    with Inspectors() as some:
        for _ in range(2):
            assert [inspect(file) for file in files] == some.inspect(files)
    assert [-signal.SIGKILL] == [process.returncode for process in started]


def test_few_files_start_no_process(files, started, monkeypatch):
    """They would be done before it has begun."""
    monkeypatch.setattr(inspectors, "ALONE", 2 * len(files))
    with Inspectors() as some:
        for _ in range(2):
            some.inspect(files)
        assert [] == started
        some.inspect(files)
    assert 1 == len(started)


@pytest.mark.parametrize(("expected", "processes"), [(99, 0), (100, 1)])
def test_where_thousands_are_expected_they_start_at_once(files, started, monkeypatch, expected, processes):
    """Few may still become many: then they start later."""
    monkeypatch.setattr(inspectors, "ALONE", 100)
    with Inspectors(expected) as some:
        some.inspect(files)
    assert processes == len(started)


def test_files_that_are_known_are_not_expected(files, tmp_path, monkeypatch):
    """A thousand more in a hundred thousand are no reason to start processes."""
    monkeypatch.setattr(file_state, "SETTLED_NS", -(10**12))
    asked: list[int] = []
    monkeypatch.setattr(
        inspection_stream, "Inspectors", lambda expected: asked.append(expected) or Inspectors(expected)
    )
    for _ in range(2):
        with InspectionCache(tmp_path / "cache") as cache:
            list(inspect_all(files, lambda file: file, cache, total=6))
    assert [6, 2] == asked  # the broken one and the missing one are looked at each time


@pytest.mark.usefixtures("at_once")
def test_whoever_stops_in_the_middle_hears_nothing_of_them(files, started, capfd):
    """They are ended without a word, whatever they are at."""
    stream = inspect_all(files * 200, lambda file: file, InspectionCache(None), workers=2)
    with pytest.raises(OSError, match="disk"):  # noqa: PT012 - the loop is what is interrupted
        for _ in stream:
            raise OSError("the disk is full")
    stream.close()
    assert ("", "") == tuple(capfd.readouterr())
    assert 2 * [-signal.SIGKILL] == [process.returncode for process in started]


def test_whoever_stops_does_not_wait_for_what_was_handed_out(files, monkeypatch):
    """A thread ends the image that it is at, not the sixteen that it has."""
    looked_at: list[Path] = []
    monkeypatch.setattr(inspectors, "inspect", lambda file: looked_at.append(file) or time.sleep(0.1) or inspect(file))
    stream = inspect_all(files * 200, lambda file: file, InspectionCache(None), workers=2)
    next(stream)
    before = len(looked_at)
    stream.close()
    assert len(looked_at) < before + 14  # two, on a machine that does not stall


@pytest.mark.usefixtures("at_once")
def test_nor_for_a_process_that_was_asked(files, started, capfd):
    """It is killed over its work, and whoever asked hears that nobody wants to know."""
    with Inspectors() as some, ThreadPoolExecutor(1) as pool:
        pool.submit(some.inspect, files).result()
        asked = pool.submit(some.inspect, files * 20_000)
        time.sleep(0.3)
        some.stop()
        with pytest.raises(StoppedError):
            asked.result(timeout=30)
    assert [-signal.SIGKILL] == [process.returncode for process in started]
    assert ("", "") == tuple(capfd.readouterr())


@pytest.mark.usefixtures("at_once")
def test_a_process_that_starts_too_late_is_asked_nothing(files, started):
    """It was being started when everything was stopped."""
    with Inspectors() as some:
        some.stop()
        with pytest.raises(StoppedError):
            some.inspect(files)
    assert [-signal.SIGKILL] == [process.returncode for process in started]


def test_torch_has_its_threads_again(files):
    """The limit that looks need is one of the linear algebra's, not of what torch asks."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        stream = inspect_all(files, lambda file: file, InspectionCache(None), workers=2)
        next(stream)
        here = torch.get_num_threads()
        stream.close()
        with ThreadPoolExecutor(1) as pool:
            assert (3, 3) == (here, pool.submit(torch.get_num_threads).result())
    finally:
        torch.set_num_threads(before)


def test_the_linear_algebra_has_one_thread_meanwhile(files):
    """Looks are on all cores already."""

    def threads() -> set[int]:
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    with threadpool_limits(2, user_api="blas"):
        stream = inspect_all(files, lambda file: file, InspectionCache(None), workers=2)
        next(stream)
        assert {1} == threads()
        stream.close()
        assert {2} == threads()


@pytest.mark.usefixtures("at_once")
def test_each_thread_has_its_own_and_the_order_stays(files, started):
    """Whoever looks at which: the stream is in the order of its items, and so is what the cache knows."""
    many = [file for file in files for _ in range(16)]
    found = list(inspect_all(many, lambda file: file, InspectionCache(None), workers=2))
    assert [(file, inspect(file)) for file in many] == found
    assert 2 * [-signal.SIGKILL] == [process.returncode for process in started]


@pytest.mark.parametrize(("total", "largest"), [(0, 16), (400, 25), (5000, 32)])
def test_files_are_handed_out_so_that_each_thread_gets_several_turns(files, monkeypatch, total, largest):
    """Many at a time where there are many, fewer where a thread would be left with more to do than the others."""
    handed: list[int] = []
    monkeypatch.setattr(Inspectors, "inspect", lambda _, some: handed.append(len(some)) or map(inspect, some))
    list(inspect_all(files * 60, lambda file: file, InspectionCache(None), workers=2, total=total))
    assert (largest, len(files) * 60) == (max(handed), sum(handed))


@pytest.mark.usefixtures("at_once")
def test_a_relative_path_is_the_same_file(files, monkeypatch):
    """Also where the process began in another folder."""
    with Inspectors() as some:
        some.inspect(files)
        monkeypatch.chdir(files[0].parent)
        assert [inspect(files[0])] == some.inspect([Path("a.png")])


def test_a_disk_that_fills_stops_all_of_ingest(files, started, monkeypatch, tmp_path, capfd):
    """What the threads have begun is ended before the cache is written; the error is that of the disk."""
    monkeypatch.setattr(inspectors, "ALONE", 0)
    monkeypatch.setattr(file_state, "SETTLED_NS", -(10**12))
    rows = []

    def full(self: object, row: dict[str, object]) -> None:
        rows.append(row)
        raise OSError("the disk is full")

    monkeypatch.setattr(ingest._Rows, "add", full)
    folder = files[0].parent
    for number in range(200):
        shutil.copy(files[0], folder / f"{number}.png")
    chosen = image_folder.Params(path=str(folder))
    cache = InspectionCache(tmp_path / "cache")
    with pytest.raises(OSError, match="the disk is full") as caught:
        ingest._inspected("target", chosen, Context(workspace=tmp_path, seed=0, workers=2), tmp_path, cache)
    assert caught.value is not None  # held, with the frames that it came through, as Prefect holds it
    assert 1 == len(rows)
    assert 2 * [-signal.SIGKILL] == [process.returncode for process in started]
    assert ("", "") == tuple(capfd.readouterr())


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("end", [signal.SIGKILL, getattr(signal, "SIGRTMIN", signal.SIGUSR1)])
def test_a_killed_process_is_told_and_replaced_by_the_thread(files, started, capfd, end):
    """As the kernel kills where memory ends: its files are looked at here, and no other is started in its place."""
    with Inspectors() as some:
        some.inspect(files)
        started[0].send_signal(end)
        started[0].wait()
        for _ in range(2):
            assert [inspect(file) for file in files] == some.inspect(files)
    how = f"was ended by signal {end:d} ({signal.strsignal(end)})"
    assert f"  a process that looks at images {how}; a thread takes its place\n" == capfd.readouterr().out
    assert 1 == len(started)


@pytest.mark.usefixtures("at_once")
def test_one_that_dies_in_the_middle_of_a_look_is_replaced_too(files, started, capfd):
    """It has taken the names and never answers."""
    with Inspectors() as some:
        some.inspect(files)
        started[0].send_signal(signal.SIGSTOP)
        threading.Timer(0.5, started[0].kill).start()
        assert [inspect(file) for file in files] == some.inspect(files)
    assert "was ended by signal 9 (" in capfd.readouterr().out


def all_by_threads(files: list[Path]) -> list[Inspection]:
    """By two threads at once, of which each would have its process."""
    with Inspectors() as some, ThreadPoolExecutor(2) as pool:
        return [seen for half in pool.map(some.inspect, [files[:3], files[3:]]) for seen in half]


@pytest.mark.usefixtures("at_once")
def test_where_none_can_be_started_threads_look(files, monkeypatch, capfd):
    """A container may allow no process more."""

    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(inspectors.subprocess, "Popen", refuse)
    gc.collect()
    before = psutil.Process().num_fds()
    for _ in range(2):
        assert [inspect(file) for file in files] == all_by_threads(files)
    why = "[Errno 11] Resource temporarily unavailable"
    said = f"  no process to look at images could be started ({why}); threads do without\n"
    assert (2 * said, "") == tuple(capfd.readouterr())
    assert before >= psutil.Process().num_fds()


@pytest.mark.usefixtures("at_once")
def test_one_that_cannot_begin_says_why(files, monkeypatch, capfd):
    """Its own words come first; no thread tries again what one has tried."""
    monkeypatch.setattr(inspectors, "PROGRAM", "import no_such_module # {answers}")
    with Inspectors() as some:
        for _ in range(2):
            assert [inspect(file) for file in files] == some.inspect(files)
    out, err = capfd.readouterr()
    assert "  no process to look at images could be started (ended with code 1); threads do without\n" == out
    assert 1 == err.count("No module named 'no_such_module'")


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("program", "patience_s", "why"),
    [
        ("import time; time.sleep(600) # {answers}", 0.5, "it said nothing for 0.5 s"),
        ("import os, time; os.close({answers}); time.sleep(600)", 60, "no longer answers"),
        ("import os; os.write({answers}, b'Listening on port 80\\n')", 60, "Expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_an_interpreter_that_is_none_is_not_waited_for(files, started, monkeypatch, capfd, program, patience_s, why):
    """Where Python is embedded its name may be that of a server, which begins to serve."""
    monkeypatch.setattr(inspectors, "START_S", patience_s)
    monkeypatch.setattr(inspectors, "WAIT_S", 0.2)
    monkeypatch.setattr(inspectors, "PROGRAM", program)
    with Inspectors() as some:
        assert [inspect(file) for file in files] == some.inspect(files)
        assert started[0].returncode is not None
    assert f"could be started ({why}); threads" in capfd.readouterr().out


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (sys, "executable", None),
        (sys, "executable", ""),
        (sys, "frozen", True),
        (sys, "__stderr__", None),
        (os, "environ", {inspectors.MARK: "1"}),
    ],
)
def test_where_there_is_no_interpreter_threads_look(files, started, monkeypatch, capfd, module, name, value):
    """None is known, nowhere for errors to go, or it has turned out to be this program."""
    monkeypatch.setattr(module, name, value, raising=False)
    monkeypatch.setattr(inspectors, "inspect", lambda file: file)
    assert files == all_by_threads(files)
    assert [] == started
    assert ("", "") == tuple(capfd.readouterr())


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (ImageFile, "LOAD_TRUNCATED_IMAGES", True),
        (Image, "MAX_IMAGE_PIXELS", 100),
        (Image, "OPEN", {"OURS": (lambda *_: None, None)}),
    ],
)
def test_where_pillow_has_been_set_up_otherwise_threads_look(files, monkeypatch, capfd, module, name, value):
    """What is truncated, large or of another format is an image then: neither processes nor the cache know that."""
    Image.init()  # else the formats that it learns only when it needs them would be forgotten with the patch
    before = inspection_cache.made_by()
    monkeypatch.setattr(module, name, Image.OPEN | value if name == "OPEN" else value)
    assert before != inspection_cache.made_by()
    assert [inspect(file) for file in files] == all_by_threads(files)
    assert 1 == capfd.readouterr().out.count("Pillow has been set up otherwise here); threads do without")


@pytest.mark.usefixtures("at_once")
def test_what_lies_in_the_current_folder_is_not_run(files, monkeypatch, tmp_path, capfd):
    """As it is not by ``graftline`` itself."""
    (tmp_path / "json.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    with Inspectors() as some:
        assert [inspect(file) for file in files] == some.inspect(files)
    assert ("", "") == tuple(capfd.readouterr())


@pytest.mark.usefixtures("at_once")
def test_what_is_printed_is_not_taken_for_an_answer(files, monkeypatch, tmp_path, capfd):
    """By whatever runs when an interpreter starts, or by a C library, to the file descriptor."""
    (tmp_path / "sitecustomize.py").write_text("print([], flush=True)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    noisy = "import pipeline.data.inspectors as it; import os; look = it.inspect; "
    noisy += "it.inspect = lambda file: (os.write(1, b'NOISE'), look(file))[1]; "
    monkeypatch.setattr(inspectors, "PROGRAM", inspectors.PROGRAM.replace("from pipeline", f"{noisy}from pipeline"))
    with Inspectors() as some:
        assert [inspect(file) for file in files] == some.inspect(files)
    out, err = capfd.readouterr()
    assert ("", "[]\n" + "NOISE" * len(files)) == (out, err)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "settings", [{"PYTHONWARNDEFAULTENCODING": "1", "PYTHONWARNINGS": "error"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}]
)
def test_settings_of_the_interpreter_change_nothing(files, monkeypatch, capfd, settings):
    """Names are bytes, whatever an interpreter makes of them; and a path in ``sys.path`` is left out as imports do."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(files[0].parent))
    monkeypatch.setattr(sys, "path", [files[0].parent, *sys.path])
    with contextlib.suppress(OSError):  # some file systems take names in UTF-8 alone
        files[0] = files[0].rename(files[0].parent / os.fsdecode(b"caf\xe9.png"))
    seen = [inspect(file) for file in files]
    with Inspectors() as some:
        assert seen == some.inspect(files)
    assert "" == capfd.readouterr().out


SCRIPT = """
    import signal
    import time
    from pathlib import Path
    from pipeline.data import inspectors
    from pipeline.data.inspection_cache import InspectionCache
    from pipeline.data.inspection_stream import inspect_all

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with it ignored
    inspectors.ALONE = 0
    files = sorted(Path({folder!r}).iterdir()) * 8
    for number, _ in enumerate(inspect_all(files, lambda file: file, InspectionCache(None), workers=2)):
        if number == 20:
            print("half", flush=True)
            time.sleep({pause})
    print("done", number + 1, flush=True)
"""
"""Not guarded by ``if __name__ == "__main__"``."""


def script(tmp_path: Path, files: list[Path], pause: int) -> Path:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(SCRIPT.format(folder=str(files[0].parent), pause=pause)))
    return path


def test_a_script_without_a_guard_is_not_run_again(tmp_path, files):
    """As the standard library's spawned processes would."""
    ran = subprocess.run([sys.executable, script(tmp_path, files, 0)], capture_output=True, text=True, timeout=60)
    assert ("half\ndone 40\n", "", 0) == (ran.stdout, ran.stderr, ran.returncode)


def test_ctrl_c_is_for_the_process_that_asks(tmp_path, files):
    """A terminal sends it to all of the group, here while the others are still starting: they say nothing."""
    command, quiet, pipe = [sys.executable, script(tmp_path, files, 60)], subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(command, stdout=quiet, stderr=pipe, text=True, process_group=0) as parent:
        while not (children := psutil.Process(parent.pid).children()):
            assert parent.poll() is None
            time.sleep(0.01)
        os.killpg(parent.pid, signal.SIGINT)
        said = parent.communicate()[1]
    assert 1 == said.count("Traceback")
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert [] == psutil.wait_procs(children, timeout=20)[1]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_they_end_with_the_process_that_asks(tmp_path, files, end):
    """Whatever ended it, and without a word."""
    with subprocess.Popen(
        [sys.executable, script(tmp_path, files, 60)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as parent:
        assert "half\n" == parent.stdout.readline()
        children = psutil.Process(parent.pid).children()
        parent.send_signal(end)
        assert 2 == len(children)
        assert [] == psutil.wait_procs(children, timeout=20)[1]
        out, said = parent.communicate()
    assert "" == out
    assert "" == said or (end == signal.SIGINT and said.rstrip().endswith("KeyboardInterrupt"))
