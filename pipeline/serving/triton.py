"""The bundle's model as a repository for NVIDIA Triton: ``NAME/config.pbtxt`` and ``NAME/1/model.onnx``.

Serve it with ``tritonserver --model-repository=BUNDLE/triton``. The file is a second copy: Triton wants it there, and
links do not survive every way of copying. Stores that go by content (DVC, most object stores) keep it once.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.serving.onnx_file import OnnxFile

CONFIG = """\
# {name}: uint8 images [height, width, 3] of any size in, logits and probabilities out.
# https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html
name: "{name}"
backend: "onnxruntime"
max_batch_size: 64
input [
  {{ name: "images" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] }}
]
output [
  {{ name: "logits" data_type: TYPE_FP32 dims: [ {classes} ] }},
  {{ name: "probabilities" data_type: TYPE_FP32 dims: [ {classes} ] label_filename: "labels.txt" }}
]
dynamic_batching {{ }}
"""


def write(repository: Path, name: str, model: OnnxFile, labels: list[str]) -> None:
    """Lay out the model below ``repository``; equal models make equal bytes."""
    folder = repository / name
    folder.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(CONFIG.format(name=name, classes=len(labels)), encoding="utf-8")
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    model.save(folder / "1" / "model.onnx")
