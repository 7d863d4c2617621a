"""The test images must be new to the model."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from pipeline.gates._base import Evidence, Finding, GateParams, finding, missing

SUMMARY = "no test image was trained on"

NAMED = 5


class Params(GateParams):
    """Limits of this gate."""

    max_images: int = Field(0, ge=0, description="leaked test images that are tolerated")


def check(evidence: Evidence, params: Params) -> Finding:
    """Judge the test images seen in training: by content or group (metrics), or as lookalikes (validation)."""
    required = f"at most {params.max_images:,}" if params.max_images else "none"
    same = evidence.metrics.get("leaked_images")
    if same is None or "leaks" not in evidence.validation:
        return missing(__name__, "search for leaks", required=required)
    alike = _lookalikes(evidence.validation)
    count = same + len(alike)
    observed = f"{count:,} test images seen in training" if count else "no test image seen in training"
    names = ", ".join([*evidence.metrics.get("leaks", []), *alike][:NAMED])
    why = f"{observed}: {names}" if names else observed
    return finding(__name__, count <= params.max_images, observed=observed, required=required, why=why)


def _lookalikes(validation: dict[str, Any]) -> list[str]:
    """Names of test images that resemble one of another split, as far as both were used."""
    unused = {(entry["domain"], entry["name"]) for entry in validation["quarantined"]}
    names: set[str] = set()
    for leak in validation["leaks"]:
        places = (leak["left"], leak["right"])
        if leak["kind"] == "lookalike" and not any((place["domain"], place["name"]) in unused for place in places):
            names |= {place["name"] for place in places if place["split"] == "test" and place["domain"] == "target"}
    return sorted(names)
