"""A run under Prefect, before its server is there."""

from __future__ import annotations

import httpx
import pytest

from flows import launch
from pipeline import params
from pipeline.core.errors import ParamsError, StoreError, WorkspaceError
from pipeline.release import _desk


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "params.yaml").write_text("model: shop\nseed: 3\n")
    return tmp_path


def test_what_is_set_for_a_run_is_looked_at_and_not_written(workspace):
    """params.yaml may belong to a run that is at work."""
    assert [3, 4] == [launch._preview(workspace, options).seed for options in ([], ["seed=4"])]
    assert (workspace / "params.yaml").read_text() == "model: shop\nseed: 3\n"


def test_a_typo_is_told_before_a_server_starts(workspace, tmp_path_factory):
    """As a mistake in the workspace, and not in the folder in which it was tried."""
    with pytest.raises(ParamsError) as caught:
        launch.run(workspace, assignments=["seeed=4"])
    assert "Did you mean 'seed'?" in str(caught.value)
    assert "/tmp" not in caught.value.where.replace(str(workspace), "")
    with pytest.raises(WorkspaceError, match="graftline init"):
        launch.run(tmp_path_factory.mktemp("empty"), assignments=["seed=4"])


def test_a_store_that_does_not_answer_is_no_reason_not_to_train(workspace, monkeypatch):
    """It is asked while the server starts; the run says itself what is missing."""
    asked = []

    def refuse(*arguments):
        asked.append(arguments)
        raise StoreError("no answer")

    monkeypatch.setattr(_desk, "open_session", refuse)
    settings = params.load(workspace)
    launch._ask_registry(workspace, settings)
    assert [(workspace, settings.tracking.uri, settings.tracking.experiment)] == asked


def test_a_server_that_is_gone_is_named_without_its_secrets():
    """With what is kept, and how to go on without it."""
    said = str(launch._server_gone("http://me:pw@prefect:4200/api", httpx.ReadTimeout("…")))
    assert said == (
        "The Prefect server http://***@prefect:4200/api does not answer: ReadTimeout.\n"
        "  What the stages have made is kept. Start the server and run again, or run without it: "
        "graftline run --inline."
    )
