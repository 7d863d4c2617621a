"""Odd images, and things that only look like images: used in the one documented way, or set aside with a reason.

Nothing here may block: each test ends within seconds or fails.
"""

from __future__ import annotations

import io
import os
import re
import socket
import subprocess
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from integration_tools import GRAFTLINE, environment
from onnx import helper
from PIL import Image, ImageCms
from refusals import Answer, assert_refused, in_this_process

from pipeline.catalog import CATALOG
from pipeline.core.errors import DataError
from pipeline.data.image_files import is_image_name
from pipeline.data.images import ImageStore, decode
from pipeline.data.inspection import inspect
from pipeline.data.preprocessing import Preprocessing
from pipeline.data.transforms import preprocess
from pipeline.models.onnx_graph import OPSET
from pipeline.release.pin import ensure_pins
from pipeline.serving.preprocessing_graph import INPUT, preprocessing_graph

pytestmark = pytest.mark.timeout(60)

PARAMS = """\
model: toys
ingest:
  target: {name: image_folder, path: data}
  source: null
validate: {unreadable: quarantine}
backbone: {name: small_cnn, weights: none}
"""


def grain(height: int = 20, width: int = 30, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(content: bytes) -> np.ndarray:
    """What Pillow makes of a file without a word from us."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


# -- encodings ---------------------------------------------------------------------------------------------------------

SIXTEEN = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
CMYK = saved(Image.fromarray(grain(channels=4), "CMYK"), "JPEG", quality=95)
PROGRESSIVE = saved(Image.fromarray(grain()), "JPEG", progressive=True, quality=95)


def _palette() -> tuple[bytes, np.ndarray]:
    """Colours 0 to 3, of which the first is clear: it is laid on white."""
    numbers = grain(channels=1) % 4
    colours = np.array([[9, 9, 9], [200, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)
    image = Image.fromarray(numbers, "P")
    image.putpalette(colours.ravel().tolist())
    shown = colours.copy()
    shown[0] = 255
    return saved(image, "PNG", transparency=0), shown[numbers]


def _animated() -> tuple[bytes, np.ndarray]:
    frames = [Image.fromarray(grain(seed=seed)).quantize(8) for seed in range(3)]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), np.asarray(frames[0].convert("RGB"))


def _animated_png() -> tuple[bytes, np.ndarray]:
    frames = [Image.fromarray(grain(seed=seed)) for seed in range(3)]
    return saved(frames[0], "PNG", save_all=True, append_images=frames[1:]), grain()


def _rotated(orientation: int) -> tuple[bytes, np.ndarray]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = {3: np.rot90(grain(), 2), 6: np.rot90(grain(), -1), 8: np.rot90(grain()), 2: grain()[:, ::-1]}
    return saved(Image.fromarray(grain()), "PNG", exif=exif), turned[orientation]


def _half_clear() -> tuple[bytes, np.ndarray]:
    """Half of the colour and half of white."""
    pixels = np.dstack([grain(), np.full((20, 30), 128, np.uint8)])
    mixed = np.round(grain() * (128 / 255) + 255 * (1 - 128 / 255)).astype(np.uint8)
    return saved(Image.fromarray(pixels, "RGBA"), "PNG"), mixed


def _with_profile() -> tuple[bytes, np.ndarray]:
    """It is not applied: pixels are taken as sRGB, as deployment does."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    return saved(Image.fromarray(grain()), "PNG", icc_profile=profile), grain()


def _bad_checksum(chunk: bytes, *, of_the_data: bool = False) -> bytes:
    """A PNG whose chunk has another checksum than it says; or whose packed pixels have, in a chunk that is right."""
    content = bytearray(saved(Image.fromarray(grain()), "PNG"))
    start = content.index(chunk)
    end = start + 4 + int.from_bytes(content[start - 4 : start], "big")
    if of_the_data:
        content[end - 1] ^= 0xFF
        content[end : end + 4] = zlib.crc32(content[start:end]).to_bytes(4, "big")
    else:
        content[end] ^= 0xFF
    return bytes(content)


ENCODINGS: dict[str, Callable[[], tuple[bytes, np.ndarray]]] = {
    "1 × 1": lambda: (saved(Image.fromarray(grain(1, 1)), "PNG"), grain(1, 1)),
    "20,000 × 1": lambda: (saved(Image.fromarray(grain(20_000, 1)), "PNG"), grain(20_000, 1)),
    "1 × 20,000": lambda: (saved(Image.fromarray(grain(1, 20_000)), "PNG"), grain(1, 20_000)),
    "animated GIF": _animated,
    "animated PNG": _animated_png,
    "CMYK": lambda: (CMYK, plain(CMYK)),
    "progressive": lambda: (PROGRESSIVE, plain(PROGRESSIVE)),
    "16-bit grey": lambda: (
        saved(Image.fromarray(SIXTEEN), "PNG"),
        np.repeat((SIXTEEN >> 8).astype(np.uint8)[:, :, None], 3, axis=2),
    ),
    "16-bit TIFF": lambda: (
        saved(Image.fromarray(SIXTEEN), "TIFF"),
        np.repeat((SIXTEEN >> 8).astype(np.uint8)[:, :, None], 3, axis=2),
    ),
    "1-bit": lambda: (
        saved(Image.fromarray(grain(channels=1) > 127), "PNG"),
        np.repeat(((grain(channels=1) > 127) * np.uint8(255))[:, :, None], 3, axis=2),
    ),
    "palette with a clear colour": _palette,
    "half clear": _half_clear,
    "colour profile": _with_profile,
    "sound pixels under a wrong checksum": lambda: (_bad_checksum(b"IDAT"), grain()),
    "mirrored by EXIF": lambda: _rotated(2),
    "upside down by EXIF": lambda: _rotated(3),
    "turned right by EXIF": lambda: _rotated(6),
    "turned left by EXIF": lambda: _rotated(8),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_odd_image_is_used_rightly(encoding: str) -> None:
    """Its pixels are those that the documentation promises, worked out here by another way."""
    content, expected = ENCODINGS[encoding]()
    assert inspect(content).error is None
    pixels = decode(content)
    assert (pixels.shape, pixels.dtype) == (expected.shape, np.uint8)
    assert np.abs(pixels.astype(int) - expected).max() <= (1 if encoding == "half clear" else 0)


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if "20,000" not in name])
@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_training_and_deployment_see_the_same(encoding: str, fit: str) -> None:
    """The exported graph makes of the decoded image what the network was trained on."""
    size = Preprocessing(size_px=24, resize_px=24 if fit == "stretch" else 28, fit=fit)
    graph = helper.make_model(preprocessing_graph(size), opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(graph)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = decode(ENCODINGS[encoding]()[0])[None]
    (deployed,) = session.run(None, {INPUT: pixels})
    trained = preprocess(torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2), size).numpy()
    np.testing.assert_allclose(trained, deployed, atol=5e-4)


def _header_of(width: int, height: int) -> bytes:
    content = bytearray(saved(Image.fromarray(grain()), "PNG"))
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


BROKEN = {
    "the header's checksum": (_bad_checksum(b"IHDR"), "is not in an image format|is broken"),
    "the pixels' checksum": (_bad_checksum(b"IDAT", of_the_data=True), "is broken"),
    "no width": (_header_of(0, 20), "is broken|is not in an image format"),
    "a bomb": (_header_of(60_000, 60_000), "decompression bomb"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_image_is_set_aside_in_words(kind: str) -> None:
    """Never used half."""
    content, said = BROKEN[kind]
    seen = inspect(content)
    assert seen.error is not None
    assert re.search(said, seen.error), seen.error
    assert seen.phash is None


# -- what only looks like an image -------------------------------------------------------------------------------------


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Two classes of twelve images; unreadable ones are quarantined."""
    folder = tmp_path / "workspace"
    for label in range(2):
        for number in range(12):
            file = folder / f"data/class{label}/{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(grain(24, 24, seed=100 * label + number)).save(file)
    (folder / "params.yaml").write_text(PARAMS)
    ensure_pins(folder)
    return folder


def ingested(workspace: Path) -> dict[str, str | None]:
    """Runs ingest in a process of its own, which is killed where it blocks; the names of images with their errors."""
    done = subprocess.run(
        [*GRAFTLINE, "stage", "ingest", "-C", str(workspace)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    frame = CATALOG["target_inventory"].load(workspace).frame
    return {name: error if isinstance(error, str) else None for name, error in frame[["name", "error"]].to_numpy()}


def test_what_is_no_file_is_set_aside_and_blocks_nothing(workspace: Path) -> None:
    """A named pipe, a socket, a dead link, a link to itself, a folder: each under an image's name."""
    place = workspace / "data/class0"
    os.mkfifo(place / "pipe.jpg")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(place / "s.png"))
    (place / "dead.png").symlink_to("nowhere.png")
    (place / "self.png").symlink_to("self.png")
    (place / "folder.jpg").mkdir()
    (workspace / "data/empty.jpg").mkdir()
    (place / "circle").symlink_to("..")
    (place / "good.png").symlink_to("1.png")

    seen = ingested(workspace)
    listening.close()
    assert "cannot be read: a named pipe, not a file" == seen["class0/pipe.jpg"]
    assert seen["class0/s.png"].startswith("cannot be read: ")
    assert "cannot be read: No such file or directory" == seen["class0/dead.png"]
    assert seen["class0/self.png"].startswith("cannot be read: ")
    assert seen["class0/good.png"] is None
    assert 24 + 5 == len(seen)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (os.mkfifo, "a named pipe, "),
        (lambda path: path.symlink_to("nowhere"), "a link that leads nowhere, "),
    ],
    ids=["a named pipe", "a dead link"],
)
def test_what_dvc_would_wait_for_is_named_before(
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], None],
    found: str,
) -> None:
    """DVC opens every file of the data: a run says what lies there instead of waiting without end."""
    from pipeline.graph import through_dvc

    make(workspace / "data/class1/odd.jpg")
    with pytest.raises(DataError, match=found) as caught:
        through_dvc.stale(workspace)
    assert str(workspace / "data/class1/odd.jpg") in caught.value.found
    assert "ingest.target.path in params.yaml" == caught.value.where
    assert_refused(in_this_process(monkeypatch, capsys)("status", "-C", workspace), found, "Remove it")


def test_a_name_that_is_not_utf8(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ingest leaves such images out, in a class or below a folder so named, and says which; a run names what DVC would
    stumble over."""
    named, images = os.fsdecode(b"caf\xe9.png"), workspace / "data/class0"
    try:
        (images / named).write_bytes((images / "1.png").read_bytes())
        (workspace / "data" / os.fsdecode(b"\xff")).mkdir()
        (workspace / "data" / os.fsdecode(b"\xff") / "2.png").write_bytes((images / "2.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    ensure_pins(workspace)
    command = in_this_process(monkeypatch, capsys)

    done = command("stage", "ingest", "-C", workspace)
    assert 0 == done.code, done
    assert "2 images left out, whose names are not UTF-8 (rename to use): \\xff/2.png, class0/caf\\xe9.png" in done.said
    assert 24 == len(CATALOG["target_inventory"].load(workspace).frame)
    assert_refused(command("status", "-C", workspace), "names are UTF-8", "\\xff", "Rename it")


def test_images_that_are_all_misnamed(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said why there is none."""
    try:
        for number, file in enumerate(sorted(workspace.glob("data/class*/*.png"))):
            file.rename(file.with_name(os.fsdecode(b"\xe9%d.png" % number)))
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    ensure_pins(workspace)
    refused = in_this_process(monkeypatch, capsys)("stage", "ingest", "-C", workspace)
    assert_refused(refused, "images whose names are UTF-8", "24 whose names are not", "\\xe90.png", "Rename them")


def test_an_image_that_becomes_a_pipe_after_ingest(workspace: Path) -> None:
    """Whoever reads it later does not wait for it either."""
    ingested(workspace)
    file = workspace / "data/class0/1.png"
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(DataError, match="found a named pipe, not a file"):
        list(ImageStore(workspace).contents(CATALOG["target_inventory"].load(workspace)))


def test_names_that_differ_in_case_or_unicode_form_only(workspace: Path) -> None:
    """Both images are kept under their own names; one label in two Unicode forms is one class."""
    composed, parts = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
    (workspace / "data" / composed).mkdir()
    names = [f"{composed}/a.png", f"{composed}/A.png", f"{composed}/é.png", f"{composed}/e\u0301.png"]
    if composed != parts and not (workspace / "data" / parts).exists():
        (workspace / "data" / parts).mkdir()
        names.append(f"{parts}/b.png")
    for number, name in enumerate(names):
        Image.fromarray(grain(24, 24, seed=900 + number)).save(workspace / "data" / name)
    if len(list((workspace / "data" / composed).iterdir())) != 4:
        pytest.skip("this file system keeps one of two names that differ in case or Unicode form")

    assert set(names) <= ingested(workspace).keys()
    frame = CATALOG["target_inventory"].load(workspace).frame
    assert {composed, "class0", "class1"} == set(frame["label"])
    assert 5 == (frame["label"] == composed).sum()


# -- predict -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Scales the shorter side to 256 pixels, as most of our networks do, and answers with the mean of each colour."""
    graph = preprocessing_graph(Preprocessing(size_px=224, resize_px=256))
    graph.node.extend(
        [
            helper.make_node("ReduceMean", ["pixels", "height and width"], ["logits"], keepdims=0),
            helper.make_node("Softmax", ["logits"], ["probabilities"]),
        ]
    )
    graph.initializer.append(helper.make_tensor("height and width", onnx.TensorProto.INT64, [2], [2, 3]))
    del graph.output[:]
    graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 3]) for name in ("logits", "probabilities")
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    chosen = '{"size_px": 224, "resize_px": 256, "fit": "crop", "mean": [0, 0, 0], "std": [1, 1, 1]}'
    helper.set_model_props(made, {"classes": '["a", "b", "c"]', "preprocessing": chosen})
    onnx.save(made, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_predict_answers_what_it_can_and_names_the_rest(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pipes block nothing; an image 20,000 times as long as wide would take 16 GB when scaled, and is named instead."""
    folder = tmp_path / "images"
    folder.mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    for name, encoding in (("long.png", "20,000 × 1"), ("point.png", "1 × 1"), ("turned.png", "turned left by EXIF")):
        (folder / name).write_bytes(ENCODINGS[encoding]()[0])
    answer: Answer = in_this_process(monkeypatch, capsys)("predict", model, folder)
    assert_refused(answer, "2 that cannot be read", "pipe.png", "long.png")
    assert "point.png" in answer.said
    assert "turned.png" in answer.said
    assert "folder.png" not in answer.said


def test_names_that_count_as_images() -> None:
    """By their ending, whatever its case; hidden files never."""
    assert is_image_name("A.JPG")
    assert not is_image_name(".a.jpg")
    assert not is_image_name("a.jpg.html")
