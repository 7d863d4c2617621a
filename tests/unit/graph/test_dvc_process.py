"""One process for the stages of a run: DVC's own words, stage by stage, whatever becomes of the process meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from dvc.repo import Repo

from pipeline.graph.dvc_process import TAIL, UNTOLD, DvcProcess

Repros = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    Repo.init(str(tmp_path), no_scm=True).close()
    return tmp_path


@pytest.fixture
def process(workspace: Path) -> Iterator[DvcProcess]:
    process = DvcProcess(workspace)
    yield process
    process.close()


@pytest.fixture
def repro(workspace: Path, process: DvcProcess) -> Repros:
    """Reproduce a stage with this command: the exit code, the errors, and what was said."""

    def run(command: str, **more: list[str]) -> tuple[int, str, list[str]]:
        (workspace / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"stage": {"cmd": command, **more}}}))
        said: list[str] = []
        return *process.repro("stage", said.append), said

    return run


def of_dvc() -> psutil.Process:
    """The one child of these tests that runs DVC."""
    (child,) = (child for child in psutil.Process().children() if "pipeline.graph.dvc_process" in child.cmdline())
    return child


def test_what_a_stage_indents_is_passed_on(repro: Repros) -> None:
    """DVC's own lines, and what a stage says to nobody, are not."""
    assert repro("echo '  7 of 9 images'; echo aside; echo '  all'") == (0, "", ["  7 of 9 images", "  all"])


def test_one_process_serves_all_stages(repro: Repros) -> None:
    """Each with its own lines, errors and exit code; a failure ends nothing, nor does a line that was not ended."""
    assert repro("echo '  one'")[::2] == (0, ["  one"])
    first = of_dvc()
    code, errors, said = repro("echo '  two'; printf '  half'; expr 40 + 2 >&2; exit 3")
    assert (code, said) == (255, ["  two", "  half"])
    assert "42" in errors.splitlines()
    assert repro("echo '  three'") == (0, "", ["  three"])
    assert first == of_dvc()


def test_a_change_between_two_stages_is_seen(repro: Repros, workspace: Path) -> None:
    """DVC reads its files anew for each stage: what has not changed is not run again, what has is."""
    ran = []
    for seed in (0, 0, 1):
        (workspace / "params.yaml").write_text(f"seed: {seed}\n")
        _, _, said = repro("echo '  ran' && touch out", params=["seed"], outs=["out"])
        ran.append(len(said))
    assert ran == [1, 0, 1]


def test_a_stage_that_reads_finds_nothing(repro: Repros) -> None:
    """The names of the stages after it come by standard input, and are not its to take."""
    assert repro("cat; echo '  read'")[::2] == (0, ["  read"])
    assert repro("echo '  next'")[::2] == (0, ["  next"])


def test_only_the_end_of_many_errors_is_kept(repro: Repros) -> None:
    """However much a stage complains, and without waiting for somebody to read it."""
    _, errors, _ = repro("seq 100000 >&2; exit 1")
    assert len(errors.splitlines()) <= TAIL
    assert "100000" in errors.splitlines()


def test_no_stage_says_by_chance_that_it_has_ended(repro: Repros, workspace: Path) -> None:
    """Not by the line that ends another run's stages, either: exit codes are DVC's, the next stage's lines its own."""
    assert repro(f"echo '{DvcProcess(workspace)._mark}0'; exit 3")[0] == 255
    assert repro("echo '  next'") == (0, "", ["  next"])


def test_interrupted_it_ends_the_stage(workspace: Path, process: DvcProcess, repro: Repros) -> None:
    """Whoever reads has gone, or pressed Ctrl-C: the stage is not left at work, and the next one gets a new process."""
    (workspace / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": {"stage": {"cmd": "echo '  begun'; seq 100000; sleep 600"}}})
    )

    def interrupt(line: str) -> None:
        family.extend(psutil.Process().children(recursive=True))
        raise KeyboardInterrupt

    family: list[psutil.Process] = []
    with pytest.raises(KeyboardInterrupt):
        process.repro("stage", interrupt)
    assert not any(member.is_running() for member in family)
    assert repro("echo '  again'") == (0, "", ["  again"])


def test_a_standard_output_that_is_lost(repro: Repros, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC gives its own up after any broken pipe, and lives on: that is a failure, and nobody waits for it for ever."""
    (workspace / "broken").mkdir()
    (workspace / "broken/sitecustomize.py").write_text(
        "from dvc.commands.repro import CmdRepro\ndef run(self):\n    raise BrokenPipeError\nCmdRepro.run = run\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(workspace / "broken"))
    assert repro("true")[0] == UNTOLD
    monkeypatch.delenv("PYTHONPATH")
    assert repro("echo '  again'") == (0, "", ["  again"])


def test_nothing_is_sent_home(repro: Repros) -> None:
    """DVC's analytics would, from a child for every stage that nobody waits for."""
    for _ in range(2):
        repro("true")
    assert of_dvc().children() == []


def test_killed_with_a_stage(repro: Repros) -> None:
    """The exit code is the signal; the next stage gets a new process."""
    code, _, said = repro("echo '  begun'; kill -9 $PPID")
    assert (code, said) == (-signal.SIGKILL, ["  begun"])
    assert repro("echo '  again'") == (0, "", ["  again"])


def test_killed_between_stages(repro: Repros) -> None:
    """Nobody notices but the clock."""
    repro("true")
    killed = of_dvc()
    os.kill(killed.pid, signal.SIGKILL)
    psutil.wait_procs([killed])
    assert repro("echo '  again'") == (0, "", ["  again"])


def test_nothing_of_the_workspace_is_imported(repro: Repros, workspace: Path) -> None:
    """A team's own ``dvc.py`` or ``pipeline`` package beside its params.yaml is not taken for ours."""
    (workspace / "dvc.py").write_text("raise SystemExit('not this one')\n")
    (workspace / "pipeline").mkdir()
    (workspace / "pipeline/__init__.py").write_text("raise SystemExit('nor this one')\n")
    assert repro("echo '  ours'") == (0, "", ["  ours"])


def test_it_ends_with_the_run(workspace: Path) -> None:
    """Closed, it is gone; closing twice, or before any stage ran, is no error."""
    process = DvcProcess(workspace)
    process.close()
    (workspace / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"stage": {"cmd": "true"}}}))
    process.repro("stage", print)
    child = of_dvc()
    process.close()
    process.close()
    assert not child.is_running()
