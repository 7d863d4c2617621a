"""A torch module as an ONNX graph, by torch's exporter."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from onnx import inliner

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn

OPSET = 18
"""The one that torch's exporter writes by itself; nothing here needs a newer."""


def onnx_graph(network: nn.Module, size_px: int, *, takes: str, gives: str) -> ModelProto:
    """``network``, in eval mode on the CPU, from ``takes``, float32 [B, 3, S, S], to ``gives``; the batch is free.

    BatchNorm is folded and functions are inlined.
    """
    example = torch.zeros(2, 3, size_px, size_px)  # two: torch.export takes a batch of one for a constant
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own deprecations, nothing a user can act on
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: "batch"},),
            external_data=False,
            opset_version=OPSET,
            input_names=[takes],
            output_names=[gives],
            verbose=False,
        )
    assert program is not None, "the dynamo exporter always returns a program"
    model = program.model_proto
    return inliner.inline_local_functions(model) if model.functions else model
