"""The model card: what the model is, how good it is, and what it is not for (Mitchell et al. 2019).

Filled in from the reports alone. It has no clock's reading in it: equal reports make an equal card.
"""

from __future__ import annotations

import re
from typing import Any

import jinja2

from pipeline.serving.golden import INT8_TOLERANCE

FEW_IMAGES = 30
"""A class with fewer test images than this has a wide interval; the card says so."""

NAMED = 12

FIGURES = (
    ("accuracy", "Accuracy"),
    ("balanced_accuracy", "Balanced accuracy"),
    ("f1_macro", "F1, macro"),
    ("f1_weighted", "F1, weighted"),
    ("precision_macro", "Precision, macro"),
    ("recall_macro", "Recall, macro"),
    ("worst_class_recall", "Lowest recall of a class"),
    ("top5_accuracy", "Top-5 accuracy"),
    ("ece", "Expected calibration error"),
    ("brier", "Brier score"),
    ("baseline_accuracy", "Accuracy of the simple baseline"),
    ("champion_accuracy", "Accuracy of the champion before it"),
    ("source_accuracy", "Accuracy kept on the source domain"),
)

TEMPLATE = """\
# {{ name }}

Classifies images into {{ classes|length }} classes: {{ class_list }}.
Backbone `{{ model.backbone or "unknown" }}`, transferred by `{{ model.strategy or "unknown" }}`.
{% if verdict.passed %}
It passed all {{ verdict.findings|length }} gates.
{% else %}
**It did not pass its gates** ({{ failed|join(", ") }}); do not deploy it without knowing why.
{% endif %}

## Use it

```python
import numpy as np, onnxruntime
from PIL import Image, ImageOps
session = onnxruntime.InferenceSession("model.onnx")
photo = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
image = np.asarray(photo)[None]  # uint8 [batch, height, width, 3], any size
probabilities = session.run(["probabilities"], {"images": image})[0]
print(open("labels.txt", encoding="utf-8").read().splitlines()[probabilities[0].argmax()])
```

Resizing, cropping and normalising are inside the file. Images of one batch have one size. `golden/` holds images
with the answers they must get: compare after every deployment.

## Results

{% if metrics.accuracy is none %}
Not scored: {{ metrics.notes|join("; ") }}.
{% else %}
On {{ metrics.images|count }} labelled test images of the target domain, by ONNX Runtime on this file. Intervals are
95 %: Wilson; of balanced accuracy Price and Bonett; of F1 by bootstrap over test images.

| Figure | Value | 95 % interval |
|---|---:|---:|
{% for key, title in figures if metrics[key] is not none %}
| {{ title }} | {{ metrics[key]|rate }} | {{ metrics|interval(key) }} |
{% endfor %}

### Per class

| Class | Images | Precision | Recall | 95 % interval | F1 |
|---|---:|---:|---:|---:|---:|
{% for row in metrics.per_class %}
| {{ row.label|cell }} | {{ row.images|count }} | {{ row.precision|rate }} | {{ row.recall|rate }} | {{
row|interval("recall") }} | {{ row.f1|rate }} |
{% endfor %}

### Per slice

| Slice | Images | Accuracy | 95 % interval |
|---|---:|---:|---:|
{% for row in metrics.slices %}
| {{ row.column|cell }} = {{ row.value|cell }} | {{ row.images|count }} | {{ row.accuracy|rate }} | {{
row|interval("accuracy") }} |
{% endfor %}
{% endif %}

{% if robustness.clean_accuracy is not none %}
### Robustness

On {{ robustness.images|count }} of the test images ({{ robustness.clean_accuracy|rate }} unchanged): {{
robustness.corruption_accuracy|rate }} on average under nine common corruptions at three severities, {{
robustness.worst_corruption_accuracy|rate }} under the worst of them ({{ robustness.worst_corruption[0]|words }}).
{% if robustness.pgd_8_accuracy is not none %}
Under attack (L∞, FGSM and PGD) {{ robustness.pgd_2_accuracy|rate }} at 2/255 and {{
robustness.pgd_8_accuracy|rate }} at 8/255.
{% else %}
Attacks by gradient do not apply to this head; that is no proof of strength.
{% endif %}
{% if shipped_int8 %}
These figures are of the float32 network by torch, not of the int8 file.
{% endif %}
{% endif %}

## Gates

| Gate | Result |
|---|---|
{% for finding in verdict.findings %}
| {{ finding.gate }} | {{ "passed" if finding.passed else "failed" }} |
{% endfor %}
{% for gate in verdict.off %}
| {{ gate }} | off |
{% endfor %}

{{ "The float32 file it was quantised from" if shipped_int8 else "The file" }} answers as the trained network does:
{{ parity.disagreements }} disagreements on {{ parity.images|count }} {{
parity.split }} images at batch {{ parity.batches|map(attribute="batch_size")|join(", ") }}; largest difference of a
probability {{ "%.1e"|format(parity.max_probability_delta) }}.
{% if shipped_int8 %}

## Precision

{{ parity.quantisation.sentence|capfirst }}.
Ranges come from {{ parity.quantisation.calibration_images|count }} training images of the {{
parity.quantisation.calibration_domain }} domain. On x86 processors without VNNI, set ONNX Runtime's session option
`session.x64quantprecision` to `1`: without it sums are cut off at 16 bits, and the accuracy is another. On all others
leave it at `0`: it changes no answer there and takes twice the time. Between processors, probabilities may differ from
those in `golden/` by up to {{ int8_tolerance }}.
{% endif %}

## Data

{% for domain, images in data.items() if images.images %}
- {{ domain }}: {{ images.images|count }} images, {{ images.labelled|count }} labelled;
{%- for split, number in images.splits.items() %} {{ split }} {{ number|count }}{{ "," if not loop.last }}
{%- endfor %}

{% endfor %}
{% if training.labels_from %}
- Labels came from the {{ training.labels_from }} domain. Model selection: {{ training.selection }}.
{% endif %}
{% for sentence in training.sentences %}
- {{ sentence }}
{% endfor %}
{% if training.candidates %}

### What was tried

| Strategy | Seed | Outcome | Why |
|---|---:|---|---|
{% for row in training.candidates %}
| {{ row.strategy }} | {{ row.repeat + 1 }} | {{ row.outcome }} | {{ row.why|cell }} |
{% endfor %}
{% endif %}

## Limits

- It always answers with one of its {{ classes|length }} classes, also for an image of none of them.
- The figures hold for images like the test images; other cameras, places or times may differ.
{% if few %}
- Fewer than {{ few_images }} test images of: {{ few|join(", ") }}. Their figures are uncertain.
{% endif %}
{% for note in metrics.notes if metrics.accuracy is not none %}
- {{ note|capfirst }}.
{% endfor %}
- Time per image depends on the machine and is in the run's report, not here.
"""


def render(name: str, model: dict[str, Any], classes: list[str], reports: dict[str, dict[str, Any]]) -> str:
    """The card as Markdown.

    Args:
        name: the registered model's name.
        model: metadata of the ONNX file.
        classes: in the order of the outputs.
        reports: ``verdict``, ``metrics``, ``parity``, ``validation``, ``training`` and ``robustness``, as JSON
            values.
    """
    scores = reports["metrics"]["per_class"]
    text = (
        _environment()
        .from_string(TEMPLATE)
        .render(
            name=name,
            model=model,
            classes=classes,
            class_list=_some(classes),
            figures=FIGURES,
            few=[_cell(score["label"]) for score in scores if score["images"] < FEW_IMAGES],
            few_images=FEW_IMAGES,
            failed=[finding["gate"] for finding in reports["verdict"]["findings"] if not finding["passed"]],
            data=reports["validation"]["profile"],
            shipped_int8=(reports["parity"].get("quantisation") or {}).get("shipped", False),
            int8_tolerance=INT8_TOLERANCE,
            **{key: reports[key] for key in ("verdict", "metrics", "parity", "training", "robustness")},
        )
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def _environment() -> jinja2.Environment:
    # Markdown, not HTML: escaping would spoil it; names that come with the data go through _cell
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)  # nosec B701
    environment.filters |= {"rate": _rate, "count": _count, "interval": _interval, "cell": _cell, "words": _words}
    environment.filters["capfirst"] = _capfirst
    return environment


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _count(number: int) -> str:
    return f"{number:,}"


def _interval(row: dict[str, Any], key: str) -> str:
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    return "" if low is None or high is None else f"{low:.3f}–{high:.3f}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _capfirst(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cell(text: str) -> str:
    """Text that cannot break out of a table's cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more (`labels.txt`)" if len(names) > NAMED else ""
    return ", ".join(_cell(name) for name in names[:NAMED]) + more
