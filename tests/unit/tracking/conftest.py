"""A fresh MLflow store per test, copied from one that was migrated once; and ONNX files of a few hundred bytes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.tracking.session import Session, open_session

URI = "sqlite:///.graftline/mlflow.db"
DATABASE = ".graftline/mlflow.db"


@pytest.fixture(autouse=True)
def _no_server_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database without experiments of ours."""
    from pipeline.tracking.session import _be_quiet, _make_database

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    _be_quiet()
    _make_database(path)
    return path


@pytest.fixture
def workspace(tmp_path: Path, migrated: Path) -> Path:
    """A workspace (its path holds a space) with nothing but an empty store."""
    folder = tmp_path / "my workspace"
    (folder / ".graftline").mkdir(parents=True)
    shutil.copyfile(migrated, folder / DATABASE)
    return folder


@pytest.fixture
def session(workspace: Path) -> Session:
    return open_session(workspace, URI, "graftline")


@pytest.fixture
def toy_model(tmp_path: Path) -> Callable[[float], Path]:
    """Writes an ONNX file: uint8 images [batch, height, width, 3] → logits, probabilities; one file per bias."""

    def write(bias: float = 0.0) -> Path:
        import onnx
        from onnx import TensorProto, helper

        images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", "height", "width", 3])
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("logits", "probabilities")
        ]
        nodes = [
            helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
            helper.make_node("Add", ["means", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ]
        constants = [
            helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("bias", TensorProto.FLOAT, [3], [bias, 0.0, 0.0]),
        ]
        graph = helper.make_graph(nodes, "toy", [images], outputs, constants)
        path = tmp_path / f"toy {bias}.onnx"
        onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)]), path)
        return path

    return write
