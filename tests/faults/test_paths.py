"""Places that a workspace or its images cannot be in: each ends in one message and exit code 2; odd names just work."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration_tools import GRAFTLINE, environment, graftline, small_workspace
from release_toys import check_agreed, import_once, in_child, toys, train_in

from pipeline.release import steps

ODD = "Münster 数字 ☃ 100% #1 'quoted'"
PATH_MAX = 4096


def said(*arguments: str, code: int = 2) -> str:
    """What ``graftline …`` writes about its trouble."""
    command = [*GRAFTLINE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "our fault" not in done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


# -- where nothing can be written --------------------------------------------------------------------------------------


@pytest.fixture
def read_only(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """The finished workspace under a second name, at which nobody may write: not even root, whom modes do not stop."""
    place = tmp_path / "read only"
    place.mkdir()
    bound = subprocess.run(["mount", "--bind", finished, place], capture_output=True, text=True, check=False)
    if bound.returncode:
        pytest.skip(f"no right to mount here ({bound.stderr.strip()})")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def test_a_read_only_workspace(read_only: Path) -> None:
    """A run and a rollback are refused with where and what to do; the history can be read."""
    for command in (("run", "--inline"), ("rollback",)):
        message = said(*command, "-C", str(read_only))
        assert "Expected a workspace that can be written to; found 'Read-only file system'." in message
        assert f"where:  {read_only}/.graftline/run.lock" in message
        assert "remedy: Work on a copy elsewhere" in message
    shown = graftline("history", workspace=read_only)
    assert (0, True) == (shown.returncode, "promoted digits v1" in shown.stdout)


def test_a_workspace_without_permission(finished: Path, tmp_path: Path) -> None:
    """The message names the file; nothing is changed."""
    workspace = tmp_path / "w"
    (workspace / ".graftline").mkdir(parents=True)
    shutil.copyfile(finished / "params.yaml", workspace / "params.yaml")
    (workspace / ".graftline").chmod(0o500)
    command = [*GRAFTLINE, "run", "--inline", "-C", workspace]
    if os.geteuid() == 0:
        command = [*without_override(), *command]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Expected to be allowed to read and write the workspace and the data; found 'Permission" in done.stderr
    assert f"where:  {workspace}/.graftline/run.lock" in done.stderr
    assert [] == list((workspace / ".graftline").iterdir())


def without_override() -> list[str]:
    """A command's beginning that takes root's right to ignore modes from it."""
    drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    if shutil.which("setpriv") is None or subprocess.run([*drop, "true"], check=False).returncode:
        pytest.skip("root ignores modes, and there is no setpriv here that could take this right from it")
    return drop


# -- names that lead nowhere -------------------------------------------------------------------------------------------


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    """More than 255 characters in one part: said by init and by run, and shown shortened."""
    place = str(tmp_path / ("x" * 300))
    for command in (("init", place), ("run", "--inline", "-C", place)):
        message = said(*command)
        assert "Expected a path that the file system can hold; found 'File name too long'." in message
        assert "remedy: Choose a shorter one, nearer to the root." in message
        assert "x" * 300 not in message


def test_a_loop_of_links(tmp_path: Path) -> None:
    """As the workspace and as the folder of images."""
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    for command in (("run", "--inline", "-C", str(loop)), ("init", str(tmp_path / "w"), "--target", str(loop))):
        message = said(*command)
        assert "Expected a path that leads somewhere; found 'Too many levels of symbolic links'." in message
        assert f"where:  {loop}" in message


@pytest.mark.faults
def test_images_that_become_a_loop(copy_of: Path, tmp_path: Path) -> None:
    """The folder that params.yaml names is a link to itself by now: told before DVC meets it."""
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    source = ("--set", "ingest.target.name=image_folder", "--set", f"ingest.target.path={loop}")
    message = said("run", "--inline", *source, "-C", str(copy_of))
    assert f"Expected files and folders; found a link that leads nowhere, {loop}." in message
    assert "where:  ingest.target.path in params.yaml" in message
    assert "remedy: Remove it, or point it at what is there." in message


@pytest.mark.faults
def test_a_workspace_at_the_end_of_what_a_path_can_hold(tmp_path: Path) -> None:
    """It can be made, but a stage's files no longer fit: the run says so."""
    deep = str(tmp_path)
    while len(deep) < PATH_MAX - 200:
        deep = f"{deep}/{'d' * min(200, PATH_MAX - 100 - len(deep) - 1)}"
    Path(deep).mkdir(parents=True)
    small_workspace(Path(deep) / "w")
    message = said("run", "--inline", "-C", f"{deep}/w", code=1)
    assert "graftline: Stage 'ingest' failed" in message
    assert "File name too long" in message


# -- names that are merely odd -----------------------------------------------------------------------------------------


def test_a_release_in_a_folder_with_an_odd_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spaces, other scripts, and what means something in a URL: registered, promoted, rolled back, handed off."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    import_once()
    workspace = tmp_path / ODD
    workspace.mkdir()

    def work() -> None:
        train = train_in(workspace)
        for bias in (0.1, 0.2):
            train(bias)
            toys.release(workspace)
        shutil.rmtree(workspace / "handoff/v1")  # made again from what MLflow keeps
        steps.rollback(workspace, toys.SETTINGS, reason="complaints")
        check_agreed(workspace)

    assert in_child(work, tmp_path / "log") == 0, (tmp_path / "log").read_text()
    assert (workspace / ".graftline/mlflow.db").is_file()


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_run_in_a_folder_with_an_odd_name(tmp_path: Path) -> None:
    """The whole of it, and a second one that finds nothing to do."""
    workspace = small_workspace(tmp_path / ODD)
    for ending in ("champion digits v1 · handoff/v1", "nothing changed · champion digits v1 · handoff/v1"):
        done = graftline("run", "--inline", workspace=workspace)
        assert done.returncode == 0, done.stdout + done.stderr
        assert ending in done.stdout
