"""How the files of a bundle are called."""

MODEL = "model.onnx"
LABELS = "labels.txt"
CARD = "MODEL_CARD.md"
BILL = "bom.cdx.json"
MANIFEST = "manifest.json"
SIGNATURE = "model.sig"
"""In what was handed off; the stages' own bundle has none."""
