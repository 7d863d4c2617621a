"""Graftline: retrains image classifiers by transfer learning, proves the result, and hands it off as ONNX."""

__version__ = "0.1.0"
