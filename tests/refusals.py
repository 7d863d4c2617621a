"""What tests of refusals share: a command in this process, and what each refusal must look like."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from pipeline.cli import main


class Answer(NamedTuple):
    """How a command ended and all it said."""

    code: int
    said: str


def in_this_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """``call("stage", "ingest", "-C", folder)`` runs the command here and tells how it ended."""

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["graftline", *map(str, arguments)])
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        captured = capsys.readouterr()
        return Answer(code, captured.out + captured.err)

    return call


def assert_refused(answer: Answer, *parts: str) -> None:
    """Exit code 2, and one message that holds every part."""
    assert answer.code == 2, answer.said
    assert answer.said.count("graftline: Expected ") == 1, answer.said
    assert answer.said.count("where: ") == 1, answer.said
    assert answer.said.count("remedy: ") == 1, answer.said
    assert "Traceback" not in answer.said, answer.said
    missing = [part for part in parts if part not in answer.said]
    assert missing == [], answer.said
