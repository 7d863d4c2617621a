"""YAML that asks for objects: a message, and nothing is made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from refusals import assert_refused, in_this_process
from ruamel.yaml import YAML

from pipeline import params
from pipeline.core.errors import ParamsError
from pipeline.graph import dvcfile

TAGS = {
    "a call": "!!python/object/apply:os.mkdir [executed]",
    "a call with new": "!!python/object/new:os.mkdir [executed]",
    "an object": "!!python/object:pathlib.Path {}",
    "a name": "!!python/name:os.system",
    "a module": "!!python/module:antigravity",
    "a tag of somebody's": "!run executed",
}
"""What unsafe loaders turn into objects and calls."""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("tag", TAGS.values(), ids=TAGS)
@pytest.mark.parametrize("text", ["{tag}", "model: {tag}", "seed: {tag}", "train: {tag}", "ingest:\n  target: {tag}"])
def test_params_that_ask_for_an_object(
    tag: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused by its tag, at the top and anywhere below."""
    Path("params.yaml").write_text(text.format(tag=tag) + "\n")
    answer = in_this_process(monkeypatch, capsys)("run", "--inline", "-C", tmp_path)
    assert_refused(answer, "found the tag !", "Take it out", "params.yaml")
    assert {"params.yaml", ".graftline"} >= set(os.listdir()), "something was made"


@pytest.mark.parametrize("tag", TAGS.values(), ids=TAGS)
def test_set_that_asks_for_an_object(
    tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused, and params.yaml stays as it was."""
    Path("params.yaml").write_text("model: toys\n")
    answer = in_this_process(monkeypatch, capsys)("run", "--inline", "-C", tmp_path, "--set", f"seed={tag}")
    assert_refused(answer, "a YAML value after the '='")
    assert "model: toys\n" == Path("params.yaml").read_text()
    assert not Path("executed").exists()


@pytest.mark.parametrize("tag", TAGS.values(), ids=TAGS)
def test_dvc_yaml_that_asks_for_an_object(tag: str, tmp_path: Path) -> None:
    """What a user adds to it is kept, but for tags."""
    Path("params.yaml").write_text("model: toys\n")
    Path("dvc.yaml").write_text(f"stages: {{}}\nmine: {tag}\n")
    with pytest.raises(ParamsError, match="found the tag !"):
        dvcfile.write(tmp_path, params.load(tmp_path))
    assert not Path("executed").exists()


def test_aliases_that_multiply() -> None:
    """Ten lines that stand for ten billion words: references are shared, never copied, and the refusal is quick."""
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    Path("params.yaml").write_text("\n".join(lines) + "\n")
    with pytest.raises(ParamsError, match="the unknown key 'a0'"):
        params.load(Path())


def test_the_tags_would_run() -> None:
    """Read by an unsafe loader, the first of them does make its folder: the tests above can fail."""
    import yaml

    yaml.load(TAGS["a call"], Loader=yaml.UnsafeLoader)  # noqa: S506 - the point of it
    assert Path("executed").is_dir()
    assert YAML(typ="safe").load("a: 1") == {"a": 1}
