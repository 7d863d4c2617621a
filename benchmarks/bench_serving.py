"""Claim: preprocessing inside the exported file costs little, and 8 bits pay where they are allowed.

One photo of 500 × 400 px and batches of 32 of them, answered in turn by the exported file (float32 and int8; uint8
images in), by the same network in ONNX Runtime without preprocessing (prepared float images in), and by torch eager
with its preprocessing, its channels first or last. One thread each, so that cores do not decide. Weights are those in
the folder of real data.

``--write`` puts the table into the docs.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from _bench import REALDATA, REPOSITORY, provenance, replace_section, table

from pipeline.data.transforms import preprocess
from pipeline.evaluation.timing import take_turns
from pipeline.models.backbones import backbone
from pipeline.models.checkpoints import from_file
from pipeline.models.network import Network
from pipeline.models.onnx_graph import onnx_graph
from pipeline.serving.export import to_onnx
from pipeline.serving.predictor import Predictor, session
from pipeline.serving.quantisation import quantise

BACKBONES = ("resnet18", "mobilenet_v2")
CLASSES = [f"class{number}" for number in range(10)]
BATCH = 32
HOW = ("exported file", "exported file, int8", "bare, no preprocessing", "torch eager", "torch eager, channels last")


def calls(name: str, images: np.ndarray) -> dict[str, Callable[[], object]]:
    """Each way to answer ``images``, uint8 [batch, height, width, 3]."""
    row = backbone(name)
    weights = from_file(
        name, REALDATA / "weights" / f"{name}.safetensors", row.preprocessing, origin="benchmark", where="benchmark"
    )
    network = Network(name, weights.build(), len(CLASSES)).eval()
    exported = to_onnx(network, row.preprocessing, CLASSES)
    grainy = np.random.default_rng(1).integers(0, 256, (16, *images.shape[1:]), dtype=np.uint8)
    eight = Predictor(quantise(exported, grainy), threads=1)
    whole = Predictor(exported, threads=1)
    bare = onnx_graph(network, row.preprocessing.size_px, takes="pixels", gives="logits")
    alone = session(bare.SerializeToString(), threads=1)
    given = alone.get_inputs()[0].name

    def seen() -> torch.Tensor:
        return preprocess(torch.from_numpy(images).permute(0, 3, 1, 2), row.preprocessing)

    prepared = seen().numpy()

    lying = copy.deepcopy(network).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def eager(module: torch.nn.Module) -> object:
        return module(seen())

    return dict(
        zip(
            HOW,
            (
                lambda: whole.run(images),
                lambda: eight.run(images),
                lambda: alone.run(None, {given: prepared}),
                partial(eager, network),
                partial(eager, lying),
            ),
            strict=True,
        )
    )


def rows_of(name: str) -> list[list[str]]:
    photo = np.random.default_rng(0).integers(0, 256, (1, 400, 500, 3), dtype=np.uint8)
    one = take_turns(calls(name, photo), runs=60, budget_s=15)
    many = take_turns(calls(name, np.repeat(photo, BATCH, axis=0)), runs=10, budget_s=10)
    bare = np.median(many[HOW[2]])
    return [
        [
            name,
            how,
            f"{np.median(one[how]):.1f}",
            f"{np.percentile(one[how], 95):.1f}",
            f"{1000 * BATCH / np.median(many[how]):.0f}",
            f"{bare / np.median(many[how]):.2f}",
        ]
        for how in HOW
    ]


def main() -> None:
    if not REALDATA.is_dir():
        sys.exit(f"No weights in {REALDATA}; set GRAFTLINE_REALDATA.")
    torch.set_num_threads(1)
    rows = [row for name in BACKBONES for row in rows_of(name)]
    header = ["network", "how", "p50 ms, one image", "p95 ms", f"images/s, batch {BATCH}", "of the bare rate"]
    text = f"{table(header, rows)}\n\nOne thread, taken in turn; {provenance()}."
    print(text)
    if "--write" in sys.argv:
        replace_section(REPOSITORY / "docs" / "performance.md", "serving", text)


if __name__ == "__main__":
    main()
