"""dvc.yaml: rendered from the table, in step with params.yaml, and considerate of what the user adds."""

import pytest

from pipeline import params
from pipeline.core.errors import DataError, WorkspaceError
from pipeline.graph import dvcfile, outside
from pipeline.graph.table import BY_NAME


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "photos").mkdir()
    write_params(
        tmp_path,
        "ingest:\n  target: {name: image_folder, path: photos}\n  source:\ntrain:\n  strategy: {name: probe}\n",
    )
    return tmp_path


def write_params(folder, text):
    (folder / "params.yaml").write_text(text)


def rendered(folder):
    dvcfile.write(folder, params.load(folder))
    return params.read(folder / "dvc.yaml")


def test_places_and_plugins_are_references_to_params(workspace):
    """DVC fills in what params.yaml spells out, so `dvc exp run -S` reaches deps too."""
    stages = rendered(workspace)["stages"]
    assert "${ingest.target.path}" in stages["ingest"]["deps"]
    assert {"state/code.json": ["train", "strategies.${train.strategy.name}"]} in stages["train"]["params"]


def test_what_params_leaves_to_its_default_is_spelled_out(workspace):
    """DVC refuses a reference to a key that is not there; a bare name or a missing section is nobody's fault."""
    write_params(
        workspace, "ingest:\n  target: {name: image_folder, path: photos}\n  source:\ntrain:\n  strategy: probe\n"
    )
    assert {"state/code.json": ["train", "strategies.probe"]} in rendered(workspace)["stages"]["train"]["params"]
    write_params(workspace, "ingest:\n  target: {name: image_folder, path: photos}\n  source:\n")
    assert "train" not in rendered(workspace)["stages"]["train"]["params"]


def test_what_the_user_added_is_kept(workspace):
    """Stages, plots and artifacts of the user's own survive a rendering."""
    rendered(workspace)
    own = {"stages": {"mine": {"cmd": "true"}}, "plots": [{"own.csv": {}}], "artifacts": {"m": {"path": "m.onnx"}}}
    text = (workspace / "dvc.yaml").read_text()
    text = text.replace("stages:\n", "stages:\n  mine: {cmd: 'true'}\n", 1).replace(
        "plots:\n", "plots:\n  - own.csv: {}\n", 1
    )
    (workspace / "dvc.yaml").write_text(text + "artifacts:\n  m: {path: m.onnx}\n")
    write_params(workspace, (workspace / "params.yaml").read_text() + "seed: 3\n")
    document = rendered(workspace)
    assert own["stages"]["mine"] == document["stages"]["mine"]
    assert own["plots"][0] in document["plots"]
    assert own["artifacts"] == document["artifacts"]
    assert set(BY_NAME) < set(document["stages"])


def test_a_rendering_is_stable(workspace):
    """Rendered twice, nothing changes."""
    rendered(workspace)
    assert dvcfile.write(workspace, params.load(workspace)) is False


def test_dvc_yaml_of_other_parameters_is_refused(workspace):
    """A stage that would read a folder DVC does not watch says how to bring dvc.yaml in step."""
    rendered(workspace)
    (workspace / "dvc.yaml").write_text((workspace / "dvc.yaml").read_text().replace("${ingest.target.path}", "other"))
    with pytest.raises(WorkspaceError, match="graftline render"):
        dvcfile.require_tracked(workspace, BY_NAME["ingest"], params.load(workspace))


def test_an_input_that_dvc_does_not_watch_is_refused(workspace):
    """`dvc exp run -S train.strategy.name=auto` after a rendering for another: auto also reads the distances."""
    rendered(workspace)
    text = (workspace / "params.yaml").read_text().replace("name: probe", "name: auto")
    write_params(workspace, text)
    with pytest.raises(WorkspaceError, match=r"'reports/domains.json' among the deps of stage train"):
        dvcfile.require_tracked(workspace, BY_NAME["train"], params.load(workspace))
    rendered(workspace)
    dvcfile.require_tracked(workspace, BY_NAME["train"], params.load(workspace))


def test_a_missing_folder_is_named_with_its_key(workspace):
    """Before DVC would stop at it with words of its own."""
    (workspace / "photos").rmdir()
    with pytest.raises(DataError, match=r"'photos', which does not exist\.\n  where:  ingest\.target\.path"):
        outside.check(workspace, BY_NAME["ingest"], params.load(workspace))


def test_a_folder_that_holds_the_workspace_is_refused(workspace):
    """The workspace's own outputs would be among its images."""
    write_params(workspace, "ingest:\n  target: {name: image_folder, path: .}\n  source:\n")
    for check in (outside.check, outside.check_kinds):
        with pytest.raises(DataError, match="which holds the workspace itself"):
            check(workspace, BY_NAME["ingest"], params.load(workspace))
