"""Digests: the identity of files, folders and values."""

from __future__ import annotations

import random
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import digests

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""SHA-256 of "abc": the example of FIPS 180."""


def test_they_are_sha256(tmp_path: Path) -> None:
    """Of bytes, of a file, and of the path of one."""
    (tmp_path / "abc").write_bytes(b"abc")
    assert {ABC} == {digests.of_bytes(b"abc"), digests.of_file(tmp_path / "abc"), digests.of_path(tmp_path / "abc")}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_keys_is_nothing(value: dict, shuffler: random.Random) -> None:
    """Of a mapping; the order of a list is something."""
    keys = list(value)
    shuffler.shuffle(keys)
    assert digests.of_json(value) == digests.of_json({key: value[key] for key in keys})
    assert digests.of_json(keys) != digests.of_json([*keys, None])


def test_digests_of_today_are_those_of_yesterday() -> None:
    """They stand in caches and in histories: the sha256 of JSON in its shortest form, other values as they print."""
    assert digests.of_json({"b": [1, 2], "a": None}) == digests.of_bytes(b'{"a":null,"b":[1,2]}')
    assert digests.of_json(Path("models/x.onnx")) == digests.of_bytes(b'"models/x.onnx"')


def test_a_folder_is_its_names_and_contents(tmp_path: Path) -> None:
    """Not the order in which they were written, and not where it lies; a changed, renamed or moved file counts."""

    def folder(name: str, *files: tuple[str, str]) -> str:
        for path, content in files:
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(content)
        return digests.of_path(tmp_path / name)

    first = folder("first", ("a.txt", "1"), ("sub/b.txt", "2"))
    (tmp_path / "again/empty").mkdir(parents=True)
    assert first == folder("again", ("sub/b.txt", "2"), ("a.txt", "1"))
    others = [
        folder("changed", ("a.txt", "1"), ("sub/b.txt", "3")),
        folder("renamed", ("a.txt", "1"), ("sub/c.txt", "2")),
        folder("moved", ("a.txt", "1"), ("b.txt", "2")),
        folder("exchanged", ("a.txt", "2"), ("sub/b.txt", "1")),
    ]
    assert 5 == len({first, *others})


CODE = """\
A = 1

class B:
    def c(self, x=2):
        return x + 1
"""


def digest_of(folder: Path, source: str) -> str:
    file = folder / "module.py"
    file.write_text(source, encoding="utf-8")
    module = ModuleType("module")
    module.__file__ = str(file)
    return digests.of_code(module)


@pytest.mark.parametrize(
    "remarked",
    [
        "# what it is\n" + CODE,
        '"""What it is."""\n' + CODE,
        CODE.replace("A = 1", 'A = 1\n"""One."""'),
        CODE.replace("B:", 'B:\n    """A class."""\n'),
        CODE.replace("        return", '        """More by one."""\n        return'),
        CODE.replace("return x + 1", "return (\n            x\n            + 1  # more by one\n        )"),
    ],
)
def test_remarks_are_not_code(tmp_path: Path, remarked: str) -> None:
    """What is kept of images outlives a comment, a docstring and another layout."""
    assert remarked != CODE
    assert digest_of(tmp_path, CODE) == digest_of(tmp_path, remarked)


@pytest.mark.parametrize(
    ("old", "new"),
    [("A = 1", "A = 2"), ("A = 1", "A = '1'"), ("x=2", "x=3"), ("x + 1", "1 + x"), ("class B", "class C")],
)
def test_code_is_code(tmp_path: Path, old: str, new: str) -> None:
    """A constant, a default, an order or a name: each may change a figure."""
    assert digest_of(tmp_path, CODE) != digest_of(tmp_path, CODE.replace(old, new))
