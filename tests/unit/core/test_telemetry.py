"""Nothing phones home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from pipeline.core import telemetry

PROGRAM = """
import sys
import pipeline.serving
import onnxruntime
onnxruntime.InferenceSession(sys.argv[1]).run(None, {"x": [1.0]})
"""


def test_onnx_runtime_leaves_nothing_in_the_home_folder(tmp_path: Path) -> None:
    """Neither a device's id nor a database of events, in whatever program asks a model."""
    line = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "same",
        [line("x", onnx.TensorProto.FLOAT, [1])],
        [line("y", onnx.TensorProto.FLOAT, [1])],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), tmp_path / "same.onnx")
    home = tmp_path / "home"
    home.mkdir()
    others = {name: value for name, value in os.environ.items() if name not in (*telemetry.SWITCHES, "XDG_CACHE_HOME")}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "same.onnx")]
    subprocess.run(command, env=others | {"HOME": str(home)}, check=True)

    assert [] == list(home.rglob("*"))


def test_every_switch_is_set_unless_the_user_has_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in telemetry.SWITCHES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "0")
    telemetry.off()
    assert {**telemetry.SWITCHES, "DVC_NO_ANALYTICS": "0"} == {name: os.environ[name] for name in telemetry.SWITCHES}
