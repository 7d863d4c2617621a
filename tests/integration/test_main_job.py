"""The main job end to end: images in, a gated, registered, versioned bundle out, by every way there is to run it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess

import pytest
from integration_tools import GRAFTLINE, dvc, environment, graftline, small_workspace

from pipeline.core import digests
from pipeline.graph import through_dvc
from pipeline.graph.table import BY_NAME


def history_of(workspace):
    lines = (workspace / "state/history.jsonl").read_text().splitlines()
    return [(entry["action"], entry["version"]) for entry in map(json.loads, lines)]


def closing_line(done):
    return next(line for line in done.stdout.splitlines() if line.startswith("Gates: "))


def current_of(workspace):
    return os.readlink(workspace / "handoff/current")


def test_a_run_ends_with_a_bundle_a_champion_and_a_report(finished):
    """Everything that deployment and people need is there, and the bundle is what was judged."""
    assert current_of(finished) == "v1"
    model = finished / "handoff/current/model.onnx"
    assert digests.of_file(model) == digests.of_file(finished / "models/model.onnx")
    assert (finished / "handoff/current/labels.txt").read_text().split() == [str(digit) for digit in range(10)]
    assert "<html" in (finished / "report/index.html").read_text()
    assert history_of(finished) == [("promoted", 1)]


def test_after_a_run_dvc_finds_nothing_to_do(finished):
    """The flow and `dvc repro` keep the same lock."""
    assert "Data and pipelines are up to date." in dvc("repro", workspace=finished).stdout
    assert through_dvc.stale(finished) == {}


def test_dvc_shows_metrics_and_plots(finished, tmp_path):
    """`dvc metrics show` and `dvc plots show` work as a DVC user expects."""
    assert "accuracy" in dvc("metrics", "show", workspace=finished).stdout
    shown = dvc("plots", "show", "--out", str(tmp_path / "plots"), workspace=finished)
    assert shown.returncode == 0, shown.stderr
    page = (tmp_path / "plots/index.html").read_text()
    assert "Confusion on the test images" in page
    assert "Reliability" in page


def test_a_second_run_changes_nothing(copy_of):
    """Nothing is computed, no version is made, and the line says so."""
    done = graftline("run", "--inline", workspace=copy_of)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(unchanged)") == len(BY_NAME)
    assert "nothing changed · champion digits v1" in closing_line(done)
    assert history_of(copy_of) == [("promoted", 1)]


def test_dvc_first_and_the_run_recomputes_nothing(tmp_path):
    """After `dvc repro` alone, a run finds every stage done and goes straight to the release."""
    workspace = small_workspace(tmp_path / "by dvc")
    reproduced = dvc("repro", workspace=workspace)
    assert reproduced.returncode == 0, reproduced.stderr
    assert graftline("status", workspace=workspace).stdout.splitlines() == [
        "stages     all up to date",
        "verdict    passed, and nothing decided on it yet",
        "champion   none yet",
        "next       graftline run",
    ]
    done = graftline("run", "--inline", workspace=workspace)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(unchanged)") == len(BY_NAME)
    assert current_of(workspace) == "v1"


def test_more_labels_make_a_second_version_and_rollback_brings_the_first_back(copy_of):
    """v2 is compared with v1 on the same images; a rollback holds in the registry, the hand-off and the next run. It
    needs neither the old version's folder nor what DVC keeps of earlier runs: both may be cleared for room on the disk.
    """
    second = graftline("run", "--inline", "--set", "ingest.target.labels_per_class=10", workspace=copy_of)
    assert second.returncode == 0, second.stderr
    assert "set ingest.target.labels_per_class: 5 → 10" in second.stdout
    assert "backbone  " in second.stdout
    assert any(line.startswith("backbone") and "(unchanged)" in line for line in second.stdout.splitlines())
    assert "champion digits v2" in closing_line(second)
    metrics = json.loads((copy_of / "reports/metrics.json").read_text())
    compared = next(entry for entry in metrics["comparisons"] if entry["against"] == "champion")
    assert compared["images"] == metrics["images"]
    assert current_of(copy_of) == "v2"

    back = graftline("rollback", "--reason", "rehearsal", workspace=copy_of)
    assert back.returncode == 0, back.stderr
    assert current_of(copy_of) == "v1"
    again = graftline("run", "--inline", workspace=copy_of)
    assert "nothing changed" in closing_line(again), "a rerun must not promote what was rolled back"
    assert current_of(copy_of) == "v1"

    forward = graftline("promote", "v2", workspace=copy_of)
    assert forward.returncode == 0, forward.stderr
    assert current_of(copy_of) == "v2"
    assert [action for action, _ in history_of(copy_of)] == ["promoted", "promoted", "rolled_back", "promoted"]
    listed = graftline("models", workspace=copy_of).stdout
    assert "v1" in listed
    assert "v2" in listed
    assert "rehearsal" in graftline("history", workspace=copy_of).stdout

    cleared = dvc("gc", "--workspace", "--force", workspace=copy_of)
    assert cleared.returncode == 0, cleared.stderr
    shutil.rmtree(copy_of / "handoff/v1")
    back = graftline("rollback", workspace=copy_of)
    assert back.returncode == 0, back.stderr
    assert current_of(copy_of) == "v1"
    assert (copy_of / "handoff/current/model.onnx").is_file(), "the registry has what was cleared away"
    assert "all up to date" in graftline("status", workspace=copy_of).stdout


def test_a_failed_gate_holds_and_leaves_the_champion(copy_of):
    """A hold is a result, not a failure: exit 0, or 3 with --strict; the hand-off stays as it was."""
    held = graftline("run", "--inline", "--strict", "--set", "gate.gates.accuracy_floor.min=1", workspace=copy_of)
    assert held.returncode == 3, held.stdout + held.stderr
    assert "1 failed" in closing_line(held)
    assert current_of(copy_of) == "v1"
    assert "verdict    v1 held · accuracy_floor: " in graftline("status", workspace=copy_of).stdout

    again = graftline("run", "--inline", "--strict", workspace=copy_of)
    assert again.returncode == 3, "tried once more it is no better"
    assert "nothing changed" in closing_line(again)


@pytest.mark.parametrize("options", [["--inline"], []], ids=["inline", "through Prefect"])
def test_an_interrupted_run_says_what_is_kept(tmp_path, options):
    """Ctrl-C in a terminal reaches every process of the run; what is said is what the next run does."""
    workspace = small_workspace(tmp_path / "workspace")
    running = subprocess.Popen(
        [*GRAFTLINE, "run", *options, "-C", str(workspace)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    assert running.stdout is not None
    with running.stdout as said:
        assert any(line.startswith("ingest ") for line in said)
        os.killpg(running.pid, signal.SIGINT)
        last = said.read().splitlines()[-1]
    assert 130 == running.wait()
    assert "Interrupted: stages that had ended are kept; the next run goes on from there." == last

    stale = through_dvc.stale(workspace)
    assert ("ingest" in stale, "gate" in stale) == (False, True)


def test_predict_answers_from_the_handoff(finished, tmp_path):
    """By alias, as text, CSV and JSON; an unreadable image is named and the exit code is 2."""
    from pipeline.data.images import ImageStore
    from pipeline.data.manifest import Manifest

    manifest = Manifest.load(finished / "data/manifest/target.parquet").split("test")
    content = next(ImageStore(finished).contents(manifest))
    (tmp_path / "good.png").write_bytes(content)
    (tmp_path / "bad.png").write_text("<html>")
    as_csv = graftline("predict", "champion", str(tmp_path / "good.png"), "--csv", workspace=finished)
    assert as_csv.returncode == 0, as_csv.stderr
    header, row = as_csv.stdout.splitlines()
    assert header == "image,label,confidence"
    assert row.split(",")[1] in [str(digit) for digit in range(10)]
    as_json = graftline("predict", "v1", str(tmp_path), "--json", workspace=finished)
    assert as_json.returncode == 2
    assert "bad.png" in as_json.stderr
    answer = json.loads(as_json.stdout)
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)


def test_what_was_handed_off_verifies_and_what_was_touched_does_not(copy_of):
    """By the workspace's key. One byte more, and neither ``verify`` nor ``predict`` goes further."""
    verified = graftline("verify", "champion", workspace=copy_of)
    assert verified.returncode == 0, verified.stderr
    fingerprint = digests.of_file(copy_of / ".graftline/signing_key.pub")
    files = sum(path.is_file() for path in (copy_of / "bundle").rglob("*"))
    assert f"champion: {files} files as signed by key {fingerprint}\n" == verified.stdout
    assert 0o600 == (copy_of / ".graftline/signing_key.pem").stat().st_mode & 0o777

    with (copy_of / "handoff/v1/labels.txt").open("a") as file:
        file.write("x")
    image = next(copy_of.glob("bundle/golden/*.png"))
    for command in (["verify", "handoff/current"], ["predict", "champion", str(image)]):
        refused = graftline(*command, workspace=copy_of)
        assert (2, "") == (refused.returncode, refused.stdout)
        assert "found labels.txt, which was changed" in refused.stderr

    mended = graftline("run", "--inline", workspace=copy_of)
    assert closing_line(mended).endswith("nothing changed · champion digits v1 · handoff/v1"), mended.stderr
    assert graftline("verify", "v1", workspace=copy_of).returncode == 0


def test_status_says_what_is_stale_and_why(copy_of):
    """Nothing stale after a run; after a change of the gates only the stages that depend on them."""
    assert "all up to date" in graftline("status", workspace=copy_of).stdout
    (copy_of / "params.yaml").write_text((copy_of / "params.yaml").read_text().replace("min: 0.2", "min: 0.3"))
    said = graftline("status", workspace=copy_of).stdout
    assert "gate       stale: " in said
    assert "train      stale" not in said
    assert "champion   digits v1" in said
