"""The model as a file that answers by itself: exported, held to the network, bundled, signed, asked."""

from pipeline.core import telemetry

telemetry.off()  # before ONNX Runtime is imported, also by a program of the user's own
