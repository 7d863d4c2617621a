"""What went wrong in one process of several, as the one that waits for them tells it."""

from __future__ import annotations

import errno
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from scale_errors import raises

from pipeline.core import errors
from pipeline.core.errors import DataError, ServiceError
from pipeline.scale import engine, together
from pipeline.scale.options import Scale

CPU = torch.device("cpu")
CHANGED = DataError(expected="a picture", found="none", where="here", remedy="Paint one.")


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device", "/a/checkpoint.pt"), MemoryError("1 GB")]
)
def test_what_a_new_start_cannot_mend_is_raised_at_once(error: Exception, tmp_path: Path) -> None:
    """With its number and its path, by which a full disk is told in words; tried once, not four times."""
    tries = tmp_path / "tries"
    with pytest.raises(type(error)) as raised:
        together.run(partial(raises, error, tries), Scale(), tmp_path, CPU)
    assert str(error) == str(raised.value)
    assert ["tried"] == tries.read_text().splitlines()


@pytest.mark.parametrize(
    "error", [CHANGED, OSError("a library's own"), OSError(errno.EIO, "broken"), torch.OutOfMemoryError("of CUDA")]
)
def test_what_was_told_is_raised_as_it_was(error: Exception, tmp_path: Path) -> None:
    """Of its own kind, in its own words, with its number."""
    (tmp_path / "told").write_text(json.dumps(together._kept(error)))
    with pytest.raises(type(error)) as raised:
        together._raise_told(tmp_path / "told")
    assert (str(error), getattr(error, "errno", 0)) == (str(raised.value), getattr(raised.value, "errno", 0))


class Failing:
    """An engine whose processes have been started as often as they may."""

    def __init__(self, says: str, told: Path | None = None) -> None:
        self.says, self.told = says, told

    def together(self, *_: Any, **__: Any) -> None:
        if self.told is not None:
            self.told.write_text(json.dumps(errors.kept(CHANGED)))
        raise ServiceError(self.says)


def test_what_a_process_found_comes_before_how_often_they_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two kills before it leave no start in which all could find it told."""
    monkeypatch.setattr(engine, "of", lambda _: Failing("they died", tmp_path / "failure.json"))
    with pytest.raises(DataError, match="Expected a picture; found none"):
        together.run(print, Scale(), tmp_path, CPU)


def test_a_disk_too_full_to_tell_of_it_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes' last words are what is left; any others are passed on as they are."""
    monkeypatch.setattr(engine, "of", lambda _: Failing("OSError: [Errno 28] No space left on device"))
    with pytest.raises(OSError, match="No space left") as error:
        together.run(print, Scale(), tmp_path, CPU)
    assert (errno.ENOSPC, str(tmp_path / "failure.json")) == (error.value.errno, error.value.filename)
    monkeypatch.setattr(engine, "of", lambda _: Failing("they died"))
    with pytest.raises(ServiceError, match="they died"):
        together.run(print, Scale(), tmp_path, CPU)
