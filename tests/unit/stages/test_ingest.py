"""The ingest stage on folders made by the test, and on its embedded default."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.core import digests
from pipeline.core.context import Context, Result
from pipeline.core.errors import DataError, ParamsError
from pipeline.data.images import ImageStore
from pipeline.stages import ingest


def photo(file: Path, seed: int, side_px: int = 16) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    Image.fromarray(random.integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)).save(file)


def photos(root: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 5, first_seed: int = 0) -> None:
    for number in range(count * len(classes)):
        photo(root / classes[number % len(classes)] / f"{number}.png", first_seed + number)


def run(workspace: Path, target: dict | str = "image_folder", source: dict | None = None, **params: object) -> Result:
    target = {"name": "image_folder", "path": "photos"} if target == "image_folder" else target
    chosen = ingest.Params.model_validate({"target": target, "source": source} | params)
    (workspace / "scratch").mkdir(exist_ok=True)
    return ingest.run(chosen, Context(workspace, seed=0, scratch=workspace / "scratch"))


def frame(result: Result, domain: str = "target") -> pd.DataFrame:
    return result.outputs[f"{domain}_inventory"].frame


def test_a_folder_of_photos(tmp_path):
    """Every image is a row: where it is, what it is, its class and its split."""
    photos(tmp_path / "photos")
    result = run(tmp_path)
    found = frame(result)

    assert ["cat", "dog"] == result.outputs["label_space"].classes
    assert "photos/cat/0.png" == found["path"].iloc[0]
    assert digests.of_file(tmp_path / "photos/cat/0.png") == found["id"].iloc[0]
    assert {"train", "val", "test"} == set(found["split"])
    assert found["error"].isna().all()
    assert 0 == len(frame(result, "source"))


def test_the_line_has_counts_and_units(tmp_path):
    """What a person sees of the stage."""
    photos(tmp_path / "photos/train")
    photo(tmp_path / "photos/test/cat/x.png", 50)
    photo(tmp_path / "photos/unlabelled/y.png", 51)
    for name in ("notes.txt", "cat.heic"):
        (tmp_path / "photos" / name).write_text("hello")
    (tmp_path / "photos/test/dog").mkdir()
    (tmp_path / "photos/test/dog/z.jpg").write_text("hello")

    expected = (
        "target 13 images (8 train, 2 val, 2 test labelled; 1 unlabelled) · 2 classes · 1 unreadable · "
        "2 other files left out (.heic, .txt)"
    )
    assert expected == run(tmp_path).line


def test_a_test_split_that_may_surprise_is_told(tmp_path):
    """Each class keeps two of its few images for train and val; and where images name train alone, test comes of it."""
    photos(tmp_path / "photos", count=4)
    most = run(tmp_path, test_share=0.99)
    assert 4 == (frame(most)["split"] == "test").sum()
    assert " · test is 50% for 99%: drawn by content, of few images or in large groups" in most.line
    assert "drawn" not in run(tmp_path, test_share=0.45).line

    photos(tmp_path / "named/train", count=4)
    named = run(tmp_path, {"name": "image_folder", "path": "named"}, test_share=0.99)
    assert " · no image names test: it was drawn from the others · test is 50% for 99%" in named.line
    photo(tmp_path / "named/test/cat/1.png", 99)
    assert "drawn" not in run(tmp_path, {"name": "image_folder", "path": "named"}).line


def test_images_outside_the_workspace_have_absolute_paths(tmp_path):
    """Inside, paths are relative, so that a workspace can be moved."""
    photos(tmp_path / "elsewhere")
    (tmp_path / "workspace").mkdir()
    found = frame(run(tmp_path / "workspace", {"name": "image_folder", "path": str(tmp_path / "elsewhere")}))

    assert str(tmp_path / "elsewhere/cat/0.png") == found["path"].iloc[0]


def test_unreadable_files_are_rows_with_an_error(tmp_path):
    """A text file, a truncated JPEG, nothing at all, a web page: each is named, none stops the stage."""
    photos(tmp_path / "photos")
    photo(tmp_path / "photos/cat/cut.jpg", 99, side_px=64)
    content = (tmp_path / "photos/cat/cut.jpg").read_bytes()
    (tmp_path / "photos/cat/cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "photos/cat/text.jpg").write_text("see attachment")
    (tmp_path / "photos/dog/nothing.png").write_bytes(b"")
    (tmp_path / "photos/dog/page.jpg").write_text("<!doctype html><html></html>")
    found = frame(run(tmp_path))
    errors = found[found["error"].notna()].set_index("name")["error"].to_dict()

    assert {"cat/cut.jpg", "cat/text.jpg", "dog/nothing.png", "dog/page.jpg"} == set(errors)
    assert errors["cat/cut.jpg"].startswith("is broken: ")
    assert "is text that begins 'see attachment', not an image" == errors["cat/text.jpg"]
    assert "is empty (0 bytes)" == errors["dog/nothing.png"]
    assert "is an HTML page, not an image" == errors["dog/page.jpg"]


def test_two_labels_for_one_image_stay_visible(tmp_path):
    """Conflicting duplicates are kept in one split, for validate to name."""
    photos(tmp_path / "photos")
    shutil.copy(tmp_path / "photos/cat/0.png", tmp_path / "photos/dog/copy.png")
    found = frame(run(tmp_path))
    twice = found[found["id"].duplicated(keep=False)]

    assert ["cat", "dog"] == twice["label"].tolist()
    assert 1 == twice["split"].nunique()


def test_the_embedded_default(tmp_path):
    """Digits are written to shards from which every image can be read again."""
    result = run(
        tmp_path,
        {"name": "handwritten_digits", "labels_per_class": 5},
        {"name": "rendered_digits", "images_per_class": 6},
    )
    result.outputs["shards"].save(tmp_path / "data/shards")
    target, source = (result.outputs[f"{domain}_inventory"] for domain in ("target", "source"))
    val = target.split("val").frame

    assert [str(digit) for digit in range(10)] == result.outputs["label_space"].classes
    assert {str(digit): 1 for digit in range(10)} == val["label"].value_counts().to_dict()
    assert 40 == len(target.split("train").labelled)
    assert 1 == source.frame.groupby("group")["split"].nunique().max()
    for manifest in (target, source):
        contents = ImageStore(tmp_path).contents(manifest)
        assert manifest.frame["id"].tolist() == [digests.of_bytes(content) for content in contents]


def test_equal_input_equal_output(tmp_path):
    """Twice the same, byte for byte, however many threads looked."""
    found = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        photos(tmp_path / folder / "photos")
        result = run(tmp_path / folder, source={"name": "rendered_digits", "images_per_class": 2})
        for name, artefact in result.outputs.items():
            artefact.save(tmp_path / folder / "out" / name)
        found.append(digests.of_path(tmp_path / folder / "out"))

    assert found[0] == found[1]


def test_the_source_speaks_the_targets_language(tmp_path):
    """Mapped names meet; what does not is reported and keeps its label."""
    photos(tmp_path / "photos", ("cat", "dog"))
    photos(tmp_path / "drawings", ("feline", "dog", "horse"), first_seed=100)
    source = {"name": "image_folder", "path": "drawings"}
    result = run(tmp_path, source=source, label_map={"feline": "cat"})
    labels = result.outputs["label_space"]

    assert (["cat", "dog"], ["horse"], []) == (labels.classes, labels.source_only, labels.target_only)
    assert {"cat", "dog", "horse"} == set(frame(result, "source")["label"])
    assert "source only: horse" in result.line


def test_no_common_class_is_allowed_and_said(tmp_path):
    """The source then serves pretraining only."""
    photos(tmp_path / "photos")
    photos(tmp_path / "drawings", ("horse",), first_seed=100)

    assert "source and target share no class" in run(tmp_path, source={"name": "image_folder", "path": "drawings"}).line


def test_a_typo_in_the_label_map(tmp_path):
    """The user's mistake, with the nearest name."""
    photos(tmp_path / "photos")
    photos(tmp_path / "drawings", ("feline",), first_seed=100)
    with pytest.raises(ParamsError) as caught:
        run(tmp_path, source={"name": "image_folder", "path": "drawings"}, label_map={"felin": "cat"})

    assert "Did you mean 'feline'?" == caught.value.remedy


def test_a_source_image_that_is_a_target_test_image_is_held_out(tmp_path):
    """No leak across domains: the copy goes where the original is."""
    photos(tmp_path / "photos", count=20)
    shutil.copytree(tmp_path / "photos", tmp_path / "copies")
    result = run(tmp_path, source={"name": "image_folder", "path": "copies"})
    target, source = (frame(result, domain).set_index("id")["split"] for domain in ("target", "source"))
    held_out = target[target != "train"]

    assert len(held_out) > 5
    assert held_out.to_dict() == source[held_out.index].to_dict()


def test_near_duplicates_share_a_split(tmp_path):
    """A recompressed copy of a large enough picture goes with the original; the line counts it."""
    for number in range(30):
        random = np.random.default_rng(number)
        smooth = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((96, 96))
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        smooth.save(folder / f"{number:02d}.png")
        smooth.save(folder / f"{number:02d}-copy.jpg", quality=95)
    result = run(tmp_path)
    found = frame(result)

    assert 1 == found.groupby(found["name"].str[:4])["split"].nunique().max()
    assert "30 duplicates or near-duplicates kept together" in result.line


def test_one_class_is_refused(tmp_path):
    """There is nothing to tell apart; found here, not after pretraining. (The path is often one folder too deep.)"""
    photos(tmp_path / "photos", ("cat",))
    with pytest.raises(DataError) as caught:
        run(tmp_path)

    assert "one class only, 'cat'" == caught.value.found
    assert "folder per class" in caught.value.remedy


def test_slices_never_overwrite_the_manifests_columns(tmp_path):
    """A user's column called width is kept under another name; the other domain gets none of it."""
    photos(tmp_path / "data")
    rows = "\n".join(f"{label}/{n}.png,{label},wide,north" for n, label in enumerate(("cat", "dog") * 3))
    (tmp_path / "data/list.csv").write_text(f"path,label,width,site\n{rows}\n")
    photos(tmp_path / "drawings", first_seed=100)
    source = {"name": "image_folder", "path": "drawings"}
    result = run(tmp_path, {"name": "table", "path": "data/list.csv"}, source)

    assert [] == result.outputs["source_inventory"].slices
    assert ["site", "user_width"] == result.outputs["target_inventory"].slices
    assert {16} == set(frame(result)["width"])


@pytest.mark.parametrize("domain", ["target", "source"])
def test_an_empty_folder_is_named_with_its_setting(tmp_path, domain):
    """A source plug-in does not know whose it is; the message does. Nothing is left behind."""
    photos(tmp_path / "photos")
    (tmp_path / "empty").mkdir()
    empty = {"name": "image_folder", "path": "empty"}
    with pytest.raises(DataError) as caught:
        run(tmp_path, **({"target": empty} if domain == "target" else {"source": empty}))

    assert f"ingest.{domain}.path in params.yaml" == caught.value.where
    assert [] == list((tmp_path / "scratch").iterdir())


def test_no_labels_at_all(tmp_path):
    """Unlabelled photos and no source: nothing to learn."""
    photo(tmp_path / "photos/1.png", 0)
    with pytest.raises(DataError, match="none in either: every image is unlabelled"):
        run(tmp_path)


def test_remains_of_a_killed_run_do_no_harm(tmp_path):
    """Half a shard from before is cleared first."""
    (tmp_path / "scratch/shards").mkdir(parents=True)
    (tmp_path / "scratch/shards/target-00007.tar").write_bytes(b"half")
    photos(tmp_path / "photos")

    assert [] == list(run(tmp_path).outputs["shards"].path.iterdir())


def test_reading_the_params_is_light():
    """``graftline --help`` and a params check import neither pandas nor torch."""
    program = (
        "import sys; from pipeline.stages import ingest; ingest.Params(); ingest.Params.model_json_schema(); "
        "print(*{'torch', 'torchvision', 'sklearn', 'pandas', 'numpy', 'PIL', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "" == done.stdout.strip()


def real_data(name: str, folder: Path) -> Path:
    """A real set unpacked, or a skip that says where it was looked for."""
    import os
    import tarfile

    root = Path(os.environ.get("GRAFTLINE_REALDATA", Path(__file__).parents[4] / "shared" / "data"))
    if not (root / f"{name}.tar").exists():
        pytest.skip(f"no {name}.tar in {root}")
    with tarfile.open(root / f"{name}.tar") as tar:
        tar.extractall(folder, filter="data")
    return folder / name


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "images", "classes"), [("rsscn7", 1400, 7), ("ants_bees", 398, 2)])
def test_real_photos(tmp_path, name, images, classes):
    """Sets as they are found, with their GIF and their duplicates."""
    target = {"name": "image_folder", "path": str(real_data(name, tmp_path))}
    result = run(tmp_path, target)

    assert (images, classes) == (len(frame(result)), len(result.outputs["label_space"].classes))
    assert frame(result)["error"].isna().all()
