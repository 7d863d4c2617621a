"""What a newcomer types wrong: exit code 2, one message with the fault and the remedy, nothing half-written.

The commands run in this process, on workspaces of a few toy images.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from integration_tools import graftline as graftline_process
from PIL import Image
from refusals import Answer, assert_refused, in_this_process

from pipeline import params
from pipeline.catalog import CATALOG
from pipeline.cli import predicting
from pipeline.core.errors import DataError
from pipeline.graph.table import BY_NAME
from pipeline.release.pin import ensure_pins
from pipeline.serving import signature, signing_key

PARAMS = """\
# a comment that stays
model: toys
ingest:
  target: {name: image_folder, path: data/photos}
  source: null
backbone: {name: small_cnn, weights: none}
train:
  strategy: {name: probe}
"""

ROWS = "".join(f"class{label}/{number}.png,class{label}\n" for label in range(2) for number in range(10))


@pytest.fixture
def graftline(monkeypatch, capsys) -> Callable[..., Answer]:
    """``graftline("stage", "ingest", "-C", folder)``, in this process."""
    return in_this_process(monkeypatch, capsys)


@pytest.fixture
def workspace(tmp_path) -> Path:
    """Two classes of ten images, and random weights; its path holds a space and a letter beyond ASCII."""
    folder = tmp_path / "wörk space"
    for label in range(2):
        for number in range(10):
            photo(folder / f"data/photos/class{label}/{number}.png", seed=10 * label + number)
    (folder / "params.yaml").write_text(PARAMS)
    ensure_pins(folder)
    return folder


def photo(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)


def change(workspace: Path, old: str, new: str) -> None:
    text = (workspace / "params.yaml").read_text()
    assert old in text
    (workspace / "params.yaml").write_text(text.replace(old, new))


def assert_untouched(workspace: Path, stage: str, params: str) -> None:
    """The refused stage left none of its outputs, no temporary, and params.yaml as it was."""
    places = [CATALOG[name].path for name in BY_NAME[stage].outputs]
    # validate leaves its report on purpose: it is how the reader finds out why
    assert [] == [place for place in places if (workspace / place).exists() and not place.startswith("reports/")]
    assert [] == [path for path in workspace.rglob(".*") if path.name != ".graftline"]
    assert params == (workspace / "params.yaml").read_text()


# -- params.yaml -------------------------------------------------------------------------------------------------------

WRONG_PARAMS = {
    "typo at the top": ("train:", "trian:", "the unknown key 'trian'", "Did you mean 'train'?"),
    "typo in a section": ("source: null", "sauce: null", "the unknown key 'sauce'", "Did you mean 'source'?"),
    "typo in a plug-in": ("path: data", "pth: data", "one of the keys of ingest.target (name, path)", "'path'?"),
    "strategy": ("name: probe", "name: prob", "Expected one of: adabn,", "found 'prob'", "Did you mean 'probe'?"),
    "auto's candidate": (
        "name: probe",
        "name: auto, candidates: [lp-ft]",
        "found 'lp-ft'",
        "train.strategy.candidates",
        "Did you mean 'lp_ft'?",
    ),
    "auto's settings": (
        "name: probe",
        "name: auto, settings: {mcc: {epoch: 3}}",
        "settings.mcc.epoch",
        "'mcc' has: backbone_factor",
    ),
    "one of two types": (
        "train:",
        "explain: {images: -3}\ntrain:",
        "Expected 'auto' or greater than",
        "explain.images in",
    ),
    "source": ("name: image_folder", "name: folder", "found 'folder'", "Did you mean 'image_folder'?"),
    "backbone": ("name: small_cnn", "name: resnt18", "found 'resnt18'", "backbone.name", "Did you mean 'resnet18'?"),
    "gate": ("train:", "gate: {gates: {acuracy_floor: {}}}\ntrain:", "'acuracy_floor'", "'accuracy_floor'?"),
    "gate's limit": ("train:", "gate: {gates: {parity: {mx: 1}}}\ntrain:", "unknown key 'mx'", "gate.gates.parity.mx"),
    "key of weights": ("weights: none", "weights: {file: x.pt, sha: y}", "the unknown key 'sha'", "Remove it."),
    "form of weights": (
        "weights: none",
        "weights: {sha256: x}",
        "one of the keys file, url, mlflow",
        "backbone.weights",
    ),
    "digest": ("weights: none", "weights: {file: x.pt, sha256: abc}", "[0-9a-fA-F]{64}", "backbone.weights.sha256"),
    "device": (
        "train:",
        "runtime: {device: gpu}\ntrain:",
        "auto (CUDA, else MPS, else CPU), cpu, cuda",
        "found 'gpu'",
        "runtime.device",
    ),
    "number": ("train:", "seed: zero\ntrain:", "a valid integer", "found 'zero'", "Set seed to such a value"),
    "empty section": (
        "train:\n  strategy: {name: probe}",
        "train:",
        "`key: value` lines",
        "found null",
        "where:  train",
    ),
    "no mapping": (PARAMS, "- model: toys\n", "Expected a YAML mapping", "Write sections"),
    "no YAML": ("model: toys", "model: [toys", "Expected a YAML mapping", "in line", "Mend that line"),
}


@pytest.mark.parametrize(("old", "new", "parts"), [(o, n, p) for o, n, *p in WRONG_PARAMS.values()], ids=WRONG_PARAMS)
def test_a_mistake_in_params(graftline, workspace, old, new, parts):
    """It is told before any work, with the key, what was expected there, and what was probably meant."""
    change(workspace, old, new)
    written = (workspace / "params.yaml").read_text()

    assert_refused(graftline("run", "--inline", "-C", workspace), str(workspace / "params.yaml"), *parts)
    assert_untouched(workspace, "ingest", written)


def test_params_that_are_not_utf8(graftline, workspace):
    """An old editor's bytes are no traceback."""
    (workspace / "params.yaml").write_bytes("model: café\n".encode("latin-1"))

    assert_refused(graftline("status", "-C", workspace), "not UTF-8", "Save the file as UTF-8")


WRONG_SETS = {
    "no value": ("seed", "key=value", "found 'seed'", "For example: --set"),
    "unknown key": ("trian.strategy.name=probe", "the unknown key 'trian'", "Did you mean 'train'?"),
    "unknown strategy": ("train.strategy.name=lpft", "found 'lpft'", "Did you mean 'lp_ft'?"),
    "unclosed bracket": ("backbone.weights={file: x", "after 'backbone.weights='", "Close every bracket"),
    "wrong kind": ("seed=zero", "found 'zero'", "Set seed to such a value"),
}


@pytest.mark.parametrize(("assignment", "parts"), [(a, p) for a, *p in WRONG_SETS.values()], ids=WRONG_SETS)
def test_a_mistake_in_set(graftline, workspace, assignment, parts):
    """--set changes params.yaml only if all of it is right."""
    answer = graftline("run", "--inline", "--set", "seed=3", "--set", assignment, "-C", workspace)

    assert_refused(answer, "--set", *parts)
    assert_untouched(workspace, "ingest", PARAMS)


def test_set_can_mend_what_is_wrong_in_the_file(graftline, workspace):
    """And a fault that it leaves there is told as one of the file."""
    change(workspace, "name: probe", "name: prob")
    written = (workspace / "params.yaml").read_text()
    answer = graftline("run", "--inline", "--set", "seed=3", "-C", workspace)

    assert_refused(answer, f"train.strategy in {workspace / 'params.yaml'}", "Did you mean 'probe'?")
    assert_untouched(workspace, "ingest", written)
    assert ["train.strategy.name: prob → full"] == params.assign(workspace, ["train.strategy.name=full"])


def test_a_secret_in_a_malformed_set_is_not_shown(graftline, workspace):
    """The message may end in a log."""
    answer = graftline("run", "--set", "notify.webhook=[https://hooks.example/token", "-C", workspace)

    assert_refused(answer, "after 'notify.webhook='")
    assert "token" not in answer.said


def test_another_backbone_keeps_the_weights_that_were_set(workspace):
    """A name chooses a plug-in where there are plug-ins; the backbone's neighbours are its own."""
    params.assign(workspace, ["backbone.name=mobilenet_v2"])

    assert "none" == params.load(workspace).backbone.weights


# -- images ------------------------------------------------------------------------------------------------------------


def _empty(workspace: Path) -> None:
    change(workspace, "data/photos", "data/none")
    (workspace / "data/none").mkdir()


def _missing(workspace: Path) -> None:
    change(workspace, "data/photos", "data/photo")


def _archive(workspace: Path) -> None:
    change(workspace, "data/photos", "photos.zip")
    (workspace / "photos.zip").write_bytes(b"PK")


def _one_class(workspace: Path) -> None:
    change(workspace, "data/photos", "data/photos/class0")
    for number in range(10):
        photo(workspace / f"data/photos/class0/again/{number}.png", seed=100 + number)
        (workspace / f"data/photos/class0/{number}.png").unlink()


def _too_high(workspace: Path) -> None:
    change(workspace, "data/photos", "data")


WRONG_FOLDERS = {
    "empty": (_empty, "an empty folder", "one folder per class"),
    "missing": (_missing, "no such folder", "relative to the workspace"),
    "an archive": (_archive, "a file, ", "Unpack it"),
    "one class": (_one_class, "one class only, 'again'", "a folder per class"),
    "one level too high": (_too_high, "a single folder, 'photos'", "Give the folder below"),
}


@pytest.mark.parametrize(("spoil", "parts"), [(s, p) for s, *p in WRONG_FOLDERS.values()], ids=WRONG_FOLDERS)
def test_a_folder_that_is_not_as_expected(graftline, workspace, spoil, parts):
    """ingest names the folder, the setting and what to do."""
    spoil(workspace)
    written = (workspace / "params.yaml").read_text()

    assert_refused(graftline("stage", "ingest", "-C", workspace), "ingest.target", *parts)
    assert_untouched(workspace, "ingest", written)


def _truncated() -> bytes:
    import io

    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()[: buffer.tell() // 2]


BAD_IMAGES = {
    "text": ("note.jpg", b"hello, I am text\n", "note.jpg: is text that begins 'hello, I am text'"),
    "truncated": ("half.jpg", _truncated(), "half.jpg: is broken: image file is truncated"),
    "a web page": ("page.png", b"<!DOCTYPE html><html>404</html>", "page.png: is an HTML page, not an image"),
    "no bytes": ("nothing.png", b"", "nothing.png: is empty (0 bytes)"),
}


@pytest.mark.parametrize(("name", "content", "found"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_an_unreadable_image_stops_the_run(graftline, workspace, name, content, found):
    """validate names the file, what is wrong with it, and both ways on."""
    (workspace / "data/photos/class0" / name).write_bytes(content)
    assert 0 == graftline("stage", "ingest", "-C", workspace).code

    answer = graftline("stage", "validate", "-C", workspace)
    assert_refused(answer, found, "Replace or remove these files, or set validate.unreadable to quarantine")
    assert_untouched(workspace, "validate", PARAMS)


def test_an_unreadable_image_can_be_quarantined(graftline, workspace):
    """The run goes on without it, and says so."""
    (workspace / "data/photos/class0/note.jpg").write_bytes(b"hello")
    change(workspace, "train:", "validate: {unreadable: quarantine}\ntrain:")
    answers = [graftline("stage", name, "-C", workspace) for name in ("ingest", "validate")]

    assert [0, 0] == [answer.code for answer in answers]
    assert "20 target images" in answers[1].said
    assert "1 quarantined" in answers[1].said
    assert 20 == len(CATALOG["target_manifest"].load(workspace))


def test_one_image_per_class(graftline, workspace):
    """Each class is named, with what to do."""
    for path in (workspace / "data/photos").rglob("[1-9].png"):
        path.unlink()
    assert 0 == graftline("stage", "ingest", "-C", workspace).code

    answer = graftline("stage", "validate", "-C", workspace)
    assert_refused(answer, "at least 10 usable", "class 'class1': 1 labelled images in train", "Label more images")
    assert_untouched(workspace, "validate", PARAMS)


# -- tables ------------------------------------------------------------------------------------------------------------

WRONG_TABLES = {
    "no path column": ("file,label\n" + ROWS, "a column 'path'", "the columns file, label", "path_column"),
    "no label column": ("path,klass\n" + ROWS, "every image is unlabelled", "add a label column"),
    "semicolons": (("path,label\n" + ROWS).replace(",", ";"), "separated by semicolons", "Save it as CSV with commas"),
    "a row without a path": ("path,label\n,class0\n" + ROWS, "no path in its data row 1", "take the row out"),
    "every path wrong": ("path,label\n" + ROWS.replace("/", "-"), "none of the 20", "Set `root`"),
    "a path outside": ("path,label\n../../x.png,class0\n" + ROWS, "'../../x.png'", "take the row out"),
    "unknown split": ("path,label,split\nclass0/0.png,class0,trian\n", "'trian'", "Rename the value"),
    "no rows": ("path,label\n", "a table without rows", "one row per image"),
    "nothing": ("", "No columns to parse", "Save it as UTF-8 CSV"),
    "not UTF-8": (("path,label\nclass0/0.png,café\n").encode("latin-1"), "'utf-8' codec", "Save it as UTF-8 CSV"),
}


@pytest.mark.parametrize(("table", "parts"), [(t, p) for t, *p in WRONG_TABLES.values()], ids=WRONG_TABLES)
def test_a_table_that_is_not_as_expected(graftline, workspace, table, parts):
    """ingest names the table, what is wrong in it, and what to do."""
    change(workspace, "name: image_folder, path: data/photos", "name: table, path: data/photos/list.csv")
    (workspace / "data/photos/list.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    written = (workspace / "params.yaml").read_text()

    assert_refused(graftline("stage", "ingest", "-C", workspace), "ingest.target", *parts)
    assert_untouched(workspace, "ingest", written)


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("class9/0.png,class0\n", "class9/0.png: cannot be read: No such file or directory"),
        ("class0/0.png,NaN\n", "class 'NaN': "),
    ],
    ids=["a missing image", "a label called NaN"],
)
def test_one_bad_row_of_a_table(graftline, workspace, row, found):
    """validate names it."""
    change(workspace, "name: image_folder, path: data/photos", "name: table, path: data/photos/list.csv")
    (workspace / "data/photos/list.csv").write_text("path,label\n" + ROWS.partition("\n")[2] + row)
    written = (workspace / "params.yaml").read_text()
    assert 0 == graftline("stage", "ingest", "-C", workspace).code

    assert_refused(graftline("stage", "validate", "-C", workspace), found)
    assert_untouched(workspace, "validate", written)


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("path: data/photos", "path: data/photos/list.csv", ("a file, ", "Set the source's name to `table`")),
        ("name: image_folder", "name: table", ("found a folder", "`image_folder`")),
    ],
    ids=["a table as a folder", "a folder as a table"],
)
def test_the_wrong_kind_of_source(graftline, workspace, old, new, parts):
    """The remedy names the right one."""
    (workspace / "data/photos/list.csv").write_text("path,label\n" + ROWS)
    change(workspace, old, new)

    assert_refused(graftline("stage", "ingest", "-C", workspace), "ingest.target.path", *parts)


def test_a_column_that_the_user_named_must_exist(graftline, workspace):
    """Only columns under their usual names may be absent: a typo must not make every image unlabelled."""
    named = "name: table, path: data/photos/list.csv, label_column: diagnosys"
    change(workspace, "name: image_folder, path: data/photos", named)
    (workspace / "data/photos/list.csv").write_text("path,diagnosis\n" + ROWS)

    answer = graftline("stage", "ingest", "-C", workspace)
    assert_refused(answer, "a column 'diagnosys'", "the columns path, diagnosis", "ingest.target.label_column")


# -- weights -----------------------------------------------------------------------------------------------------------


class Harmful:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("harm",)


def _other_architecture(file: Path) -> None:
    import torch

    torch.save({"conv1.weight": torch.zeros(4, 3, 3, 3), "fc.weight": torch.zeros(2, 4)}, file)


WRONG_WEIGHTS = {
    "missing": ("nope.pt", lambda file: None, "nothing at ", "Correct the path"),
    "text": ("text.pt", lambda file: file.write_text("hello"), "text.pt is broken or something else", "Fetch the file"),
    "text called safetensors": ("t.safetensors", lambda file: file.write_text("hello"), "t.safetensors is broken"),
    "code": ("code.pt", lambda file: file.write_bytes(pickle.dumps(Harmful())), "may run code", "Save it again where"),
    "another architecture": ("other.pt", _other_architecture, "tensors of small_cnn", "lacks", "in backbone.name"),
    "another suffix": ("w.bin", lambda file: file.write_bytes(b"x"), "ends in .safetensors, .pt, .pth", "save_file"),
    "a folder": ("folder.pt", lambda file: file.mkdir(), "is a folder", "Correct the path"),
}


@pytest.mark.parametrize(
    ("name", "make", "parts"), [(n, m, p) for n, m, *p in WRONG_WEIGHTS.values()], ids=WRONG_WEIGHTS
)
def test_a_weights_file_that_cannot_be_used(graftline, workspace, monkeypatch, name, make, parts):
    """backbone names the file, what is wrong with it, and what to do; it runs nothing that is in it."""
    make(workspace / name)
    change(workspace, "weights: none", f"weights: {{file: {name}}}")
    written = (workspace / "params.yaml").read_text()
    monkeypatch.chdir(workspace)

    assert_refused(graftline("stage", "backbone"), "backbone.weights", *parts)
    assert not (workspace / "harm").exists()
    assert_untouched(workspace, "backbone", written)


def test_a_wrong_digest(graftline, workspace):
    """Both digests are in the message."""
    (workspace / "w.pt").write_bytes(b"weights")
    change(workspace, "weights: none", f"weights: {{file: w.pt, sha256: {'a' * 64}}}")
    written = (workspace / "params.yaml").read_text()

    answer = graftline("stage", "backbone", "-C", workspace)
    assert_refused(answer, f"sha256 {'a' * 64}", hashlib.sha256(b"weights").hexdigest(), "Fetch the file again")
    assert_untouched(workspace, "backbone", written)


@pytest.mark.parametrize(("backbone", "known"), [("resnet18", "none, IMAGENET1K_V1"), ("small_cnn", "pretrain, none;")])
def test_a_typo_in_the_name_of_weights(graftline, workspace, backbone, known):
    """The message lists the weights that this backbone has."""
    change(workspace, "{name: small_cnn, weights: none}", f"{{name: {backbone}, weights: IMAGENET}}")
    written = (workspace / "params.yaml").read_text()

    assert_refused(graftline("stage", "backbone", "-C", workspace), known, "found 'IMAGENET'", "Use one of those")
    assert_untouched(workspace, "backbone", written)


# -- folders and commands ----------------------------------------------------------------------------------------------

OUTSIDE = [
    ["run"],
    ["stage", "ingest"],
    ["status"],
    ["models"],
    ["history"],
    ["rollback"],
    ["promote", "1"],
    ["render"],
    ["report"],
]


@pytest.mark.parametrize("command", OUTSIDE, ids=" ".join)
def test_outside_a_workspace(graftline, tmp_path, monkeypatch, command):
    """Every command says so, and leaves nothing behind."""
    monkeypatch.chdir(tmp_path)

    assert_refused(graftline(*command), f"no params.yaml in {tmp_path}", "graftline init")
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["run", "doctor", "history", "status"])
def test_a_missing_folder(graftline, tmp_path, command):
    """-C with a typo is told apart from a folder that is no workspace."""
    answer = graftline(command, "-C", tmp_path / "nope")

    assert_refused(answer, f"no such folder: {tmp_path / 'nope'}", "Correct the path")
    assert [] == list(tmp_path.iterdir())


def test_an_unknown_stage(graftline, workspace):
    """The message lists the stages."""
    assert_refused(graftline("stage", "nope", "-C", workspace), "ingest, validate, backbone", "found 'nope'")


def test_a_stage_before_its_time(graftline, workspace):
    """What is missing is named, with the command that makes it."""
    answer = graftline("stage", "train", "-C", workspace)

    assert_refused(answer, "what stage 'train' reads", "no models/backbone", "graftline run, or dvc repro train")
    assert_untouched(workspace, "train", PARAMS)


def test_a_report_before_the_first_run(graftline, workspace):
    """There is nothing to report on, and no empty page is written."""
    answer = graftline("report", "-C", workspace)

    assert_refused(answer, "what the stages of a run write", "no reports/validation.json", "graftline run")
    assert not (workspace / "report").exists()


def test_a_refusal_reaches_the_user_through_dvc(tmp_path):
    """The run ends with the stage's own message, once, whatever DVC says of a command that failed."""
    from pipeline.workspace import create

    (tmp_path / "photos").mkdir()
    folder = tmp_path / "work"
    list(create(folder, target=str(tmp_path / "photos"), source=None, preset=None, version_data=False))
    written = (folder / "params.yaml").read_text()
    done = graftline_process("run", "--inline", workspace=folder)

    assert_refused(Answer(done.returncode, done.stdout + done.stderr), "an empty folder", "Put images there")
    assert "failed to reproduce" not in done.stderr
    assert not (folder / "data/inventory").exists()
    assert written == (folder / "params.yaml").read_text()


def test_a_folder_that_may_not_be_written_to(graftline, workspace, monkeypatch):
    """A refusal of the operating system names the place; it is no fault of ours."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(workspace / "state"))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)

    answer = graftline("run", "--inline", "--set", "seed=3", "-C", workspace)
    assert_refused(answer, "Permission denied", str(workspace / "state"), "Change its owner or mode")
    assert (workspace / "params.yaml").read_text() == PARAMS


@pytest.mark.parametrize("arguments", [["bogus"], ["run", "--bogus"], ["stage"], ["promote"]])
def test_a_command_that_there_is_not(graftline, arguments):
    """Typer's own usage errors exit 2 too, and point to the help."""
    answer = graftline(*arguments)

    assert 2 == answer.code
    assert "-h' for help" in answer.said


def test_an_unknown_version_and_nothing_to_roll_back_to(graftline, workspace):
    """Both say what there is, and how to get one."""
    assert_refused(graftline("promote", "99", "-C", workspace), "found v99", "graftline models lists them")
    assert_refused(graftline("rollback", "-C", workspace), "no version of 'toys' at all", "graftline run makes one")


def test_a_schedule_that_is_none(graftline, workspace):
    """The message has an example."""
    answer = graftline("serve", "--cron", "nonsense", "-C", workspace)

    assert_refused(answer, "five fields", "found 'nonsense'", '"0 3 * * *"')


# -- init --------------------------------------------------------------------------------------------------------------


def test_init_twice(graftline, workspace):
    """The second changes nothing."""
    assert_refused(graftline("init", workspace), "found params.yaml in", "graftline run -C", "another folder")
    assert (workspace / "params.yaml").read_text() == PARAMS


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--target", "nope"], ("'nope', which does not exist", "Check the path")),
        (["--target", ""], ("an empty path", "Check the path")),
        (["--target", "photos.tar"], ("the file 'photos.tar'", "Unpack an archive first")),
        (["--source", "nope"], ("--source", "'nope', which does not exist")),
        (["--from", "nope"], ("digits, photos", "found 'nope'", "Name one of them")),
    ],
    ids=["missing", "empty", "archive", "source", "preset"],
)
def test_init_with_images_that_cannot_be(graftline, tmp_path, monkeypatch, options, parts):
    """Nothing is made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos.tar").write_bytes(b"")

    assert_refused(graftline("init", "new", *options), *parts)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_init_where_no_folder_can_be(graftline, tmp_path, place):
    """A file in the way is named."""
    (tmp_path / "file").write_text("mine")

    assert_refused(graftline("init", tmp_path / place), str(tmp_path / place), "Choose another folder")
    assert "mine" == (tmp_path / "file").read_text()


# -- predict -----------------------------------------------------------------------------------------------------------


def _foreign_onnx(file: Path, **metadata: str) -> None:
    """Answers with the mean of each colour; made by somebody else unless it has our metadata."""
    import onnx
    from onnx import TensorProto, helper

    steps = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["logits"], axes=[1, 2], keepdims=0),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, [None, None, None, 3])
    answers = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, 3]) for n in ("logits", "probabilities")]
    graph = helper.make_graph(steps, "foreign", [images], answers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    helper.set_model_props(model, metadata)
    onnx.save(model, file)


WRONG_MODELS = {
    "missing": ("nope", lambda file: None, "'nope', which does not exist", "graftline models lists"),
    "unknown version": ("v7", lambda file: None, "handoff/v7", "graftline promote v7 hands one of these off"),
    "no champion yet": ("champion", lambda file: None, "no champion was handed off", "graftline models lists"),
    "random bytes": ("noise.onnx", lambda file: file.write_bytes(b"\x07" * 999), "cannot be read as ONNX"),
    "no metadata of ours": ("foreign.onnx", _foreign_onnx, "without class names", "handoff/current"),
    "another file": ("model.pt", lambda file: file.write_bytes(b"x"), "a .pt file", "handoff/current"),
    "another folder": ("folder", lambda file: file.mkdir(), "a folder without model.onnx", "handoff/current"),
}


@pytest.mark.parametrize(("name", "make", "parts"), [(n, m, p) for n, m, *p in WRONG_MODELS.values()], ids=WRONG_MODELS)
def test_predict_with_a_model_that_is_none(graftline, workspace, monkeypatch, name, make, parts):
    """The message says what predict takes, and where to find one."""
    make(workspace / name)
    monkeypatch.chdir(workspace)

    assert_refused(graftline("predict", name, "data/photos"), *parts)


@pytest.mark.parametrize(
    ("images", "parts"),
    [
        ("nope.jpg", ("'nope.jpg', which does not exist", "Check the path")),
        ("empty", ("no image in empty", "Name another folder")),
    ],
)
def test_predict_without_images(graftline, workspace, monkeypatch, images, parts):
    """An empty answer would look like success."""
    monkeypatch.chdir(workspace)
    (workspace / "empty").mkdir()
    _foreign_onnx(workspace / "m.onnx")

    assert_refused(graftline("predict", "m.onnx", images), *parts)


@pytest.mark.parametrize("version", ["first", "0", "v", "v-1", "²"])
def test_promote_what_is_no_version(graftline, version):
    """Both ways to write one are told."""
    assert_refused(graftline("promote", version), "such as 2 or v2", f"'{version}'", "graftline models lists")


def test_predict_looks_where_people_look(tmp_path):
    """Thumbnails in a hidden folder are no images of theirs; an address is not a path with a slash too few."""
    for name in ("a.png", "more/b.png", ".thumbs/c.png", "more/.d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [path.relative_to(tmp_path).as_posix() for path in predicting._files([str(tmp_path)])]
    assert ["a.png", "more/b.png"] == found
    with pytest.raises(DataError, match=r"'https://example.org/a.jpg', which does not exist[\s\S]*Download it"):
        predicting._files(["https://example.org/a.jpg"])


def test_predict_with_an_unreadable_image(graftline, tmp_path):
    """The others are answered; this one is named, and the exit code says that not all went well."""
    photo(tmp_path / "good.png", seed=0)
    (tmp_path / "bad.jpg").write_text("hello")
    _foreign_onnx(tmp_path / "m.onnx", classes='["red", "green", "blue"]')
    answer = graftline("predict", tmp_path / "m.onnx", tmp_path)

    assert_refused(answer, "1 that cannot be read", "bad.jpg is ")
    assert "good.png" in answer.said


# -- bundles that are handed to predict and verify -------------------------------------------------------------------


@pytest.fixture
def handed(tmp_path, workspace) -> Path:
    """A bundle as the workspace has published it: v1, signed."""
    folder = workspace / "handoff/v1"
    folder.mkdir(parents=True)
    _foreign_onnx(folder / "model.onnx", classes='["red", "green", "blue"]')
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    signature.sign(folder, signing_key.ensure(workspace, None))
    (workspace / "handoff/current").symlink_to("v1")
    return folder


@pytest.fixture
def never_loaded(monkeypatch) -> None:
    """Whatever is refused is refused before a predictor has seen it."""

    def load(*_, **__):
        raise AssertionError("it was loaded")

    monkeypatch.setattr("pipeline.serving.predictor.Predictor.__init__", load)


@pytest.mark.parametrize("name", ["v1", "champion", "toys@champion", "handoff/v1"])
def test_a_bundle_that_verifies(graftline, workspace, handed, monkeypatch, name):
    """By path, alias or version: one line, with the key to compare; and predict answers."""
    monkeypatch.chdir(workspace)
    fingerprint = hashlib.sha256((workspace / signing_key.PUBLIC).read_bytes()).hexdigest()
    assert Answer(0, f"{name}: 2 files as signed by key {fingerprint}\n") == graftline("verify", name)
    assert 0 == graftline("predict", name, "data/photos/class0").code


WRONG_BUNDLES = {
    "a changed byte": (lambda v1: (v1 / "labels.txt").write_text("x"), "labels.txt, which was changed"),
    "an added file": (lambda v1: (v1 / "notes.txt").write_text("x"), "notes.txt, which was added"),
    "a missing file": (lambda v1: (v1 / "labels.txt").unlink(), "labels.txt, which is missing"),
    "no signature": (lambda v1: (v1 / "model.sig").unlink(), "no model.sig", "graftline promote VERSION"),
    "a damaged signature": (lambda v1: (v1 / "model.sig").write_text("{"), "model.sig", "damaged"),
    "another key": (
        lambda v1: signature.sign(v1, signing_key.ensure(v1 / "../../../other", None)),
        "one by another key",
        "--key FILE",
    ),
    "no key": (
        lambda v1: (v1 / "../.." / signing_key.PUBLIC).unlink(),
        "the public key of who signed the bundle",
        "signing_key.pub",
        "-C",
    ),
}


@pytest.mark.parametrize(("touch", "parts"), [(t, p) for t, *p in WRONG_BUNDLES.values()], ids=WRONG_BUNDLES)
@pytest.mark.usefixtures("never_loaded")
def test_a_bundle_that_does_not_verify(graftline, workspace, handed, monkeypatch, touch, parts):
    """Neither command goes further; predict says how to load it all the same."""
    monkeypatch.chdir(workspace)
    touch(handed)

    assert_refused(graftline("verify", "champion"), *parts)
    assert_refused(graftline("predict", "champion", "data/photos"), *parts, "--unverified")


def test_a_bundle_is_verified_by_a_given_key(graftline, workspace, handed, tmp_path, monkeypatch):
    """Far from the workspace that signed it, with the public half alone."""
    monkeypatch.chdir(tmp_path)
    key = (workspace / signing_key.PUBLIC).rename(tmp_path / "shop.pub")
    images = workspace / "data/photos/class0"
    assert 0 == graftline("verify", handed, "--key", key).code
    assert 0 == graftline("predict", handed, images, "--key", key).code
    assert_refused(graftline("verify", handed, "--key", images / "0.png"), "public half of an elliptic-curve key")
    assert_refused(graftline("verify", handed, "--key", tmp_path / "no.pub"), "found nothing there")


def test_an_unverified_bundle_is_loaded_if_asked_for(graftline, workspace, handed, monkeypatch):
    """Of an older version, say."""
    monkeypatch.chdir(workspace)
    (handed / "model.sig").unlink()
    assert 0 == graftline("predict", "v1", "data/photos/class0", "--unverified").code


def test_what_was_never_handed_off_needs_no_signature(graftline, workspace, handed, monkeypatch):
    """This workspace's own bundle, which its stages have just made, and a bare file, which has no place for one."""
    monkeypatch.chdir(workspace)
    (handed / "model.sig").unlink()
    handed.rename(workspace / "bundle")
    assert 0 == graftline("predict", "challenger", "data/photos/class0").code
    assert 0 == graftline("predict", "bundle/model.onnx", "data/photos/class0").code
    assert_refused(graftline("verify", "challenger"), "no model.sig")
    assert_refused(graftline("verify", "bundle/model.onnx"), "a single file")
    (workspace / "bundle").rename(workspace / "elsewhere")
    assert_refused(graftline("predict", "elsewhere", "data/photos"), "no model.sig")


@pytest.mark.parametrize(
    ("model", "options", "found"),
    [("v1", ["--unverified"], "--unverified"), ("handoff/v1/model.onnx", [], "a file without a signature")],
)
def test_a_key_with_nothing_to_verify(graftline, workspace, handed, monkeypatch, model, options, found):
    """A key that is not used must not look as if it had been."""
    monkeypatch.chdir(workspace)
    key = workspace / signing_key.PUBLIC
    assert_refused(graftline("predict", model, "data/photos", "--key", key, *options), found, "Drop --key")


def test_a_signing_key_that_is_not_there_stops_a_run_before_its_stages(graftline, workspace):
    """And no other key is made in its place."""
    change(workspace, "train:", "publish: {signing_key: /run/secrets/key.pem}\ntrain:")
    answer = graftline("run", "--inline", "-C", workspace)
    assert_refused(answer, "private key", "/run/secrets/key.pem (publish.signing_key in params.yaml)", "openssl")
    assert not (workspace / "data/manifest").exists()
    assert not (workspace / signing_key.OWN).exists()
