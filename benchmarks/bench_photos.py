"""Claim: on real photographs of several fields, from ImageNet weights, a workspace from `graftline init` just works.

Data sets and weight files lie in the folder of real data (GRAFTLINE_REALDATA, or ../shared/data); nothing runs without.
Every row is one run of the stages ingest … evaluate; accuracy is on the untouched test part, with a bootstrap 95 %
interval. ``--write`` puts the table into the docs; arguments name data sets.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

from _bench import REALDATA, REPOSITORY, provenance, replace_section, report_of, run_stages, table, temporary_workspace

BACKBONES = {"resnet18": "weights/resnet18.safetensors", "mobilenet_v2": "weights/mobilenet_v2.safetensors"}
ALL, PROBE = ("probe", "partial", "lp_ft"), ("probe",)
SETS = {
    "ants_bees": {"resnet18": ALL, "mobilenet_v2": PROBE},
    "rsscn7": {"resnet18": PROBE, "mobilenet_v2": PROBE},
    "malaria": {"resnet18": PROBE, "mobilenet_v2": PROBE},
    "cifar10": {"resnet18": PROBE},
}
"""Strategies by data set and backbone. On two cores, fine-tuning thousands of images at 224 px takes hours: only the
smallest set gets the gradient strategies here."""


def main() -> None:
    if not REALDATA.is_dir():
        sys.exit(f"No real data in {REALDATA}; set GRAFTLINE_REALDATA.")
    chosen = [argument for argument in sys.argv[1:] if not argument.startswith("-")] or SETS
    rows = []
    with tempfile.TemporaryDirectory() as unpacked:
        for archive in chosen:
            images = _unpack(archive, Path(unpacked))
            for backbone in SETS[archive]:
                rows += _rows(archive, images, backbone, REALDATA / BACKBONES[backbone])
    header = ["data set", "backbone", "strategy", "test accuracy, % (95 %)", "n test", "cached s", "whole s"]
    text = f"{table(header, rows)}\n\nOne seed; {provenance()}."
    print(text)
    if "--write" in sys.argv:
        replace_section(REPOSITORY / "docs" / "results.md", "photos", text)


def _unpack(archive: str, folder: Path) -> Path:
    with tarfile.open(REALDATA / f"{archive}.tar") as tar:
        tar.extractall(folder / archive, filter="data")
    inside = [entry for entry in (folder / archive).iterdir() if entry.is_dir()]
    return inside[0] if len(inside) == 1 else folder / archive


def _rows(archive: str, images: Path, backbone: str, weights: Path) -> list[list[str]]:
    """One row per strategy, in one workspace: features are computed once, as a user's second strategy finds them."""
    own = ("train", "export", "evaluate")
    rows = []
    with temporary_workspace(target=images) as folder:
        base = [f"backbone.name={backbone}", f"backbone.weights={{file: {weights}}}"]
        first: dict[str, float] = {}
        for strategy in SETS[archive][backbone]:
            took = run_stages(folder, [*base, f"train.strategy.name={strategy}"])
            first = first or took
            metrics = report_of(folder, "metrics")
            cached_s = sum(took[name] for name in own)
            shared_s = sum(seconds for name, seconds in first.items() if name not in own)
            accuracy, low, high = (
                100 * value for value in (metrics.accuracy, metrics.accuracy_low, metrics.accuracy_high)
            )
            rows.append(
                [
                    archive,
                    backbone,
                    f"`{strategy}`",
                    f"{accuracy:.1f} ({low:.1f}–{high:.1f})",
                    f"{metrics.images}",
                    f"{cached_s:.0f}",
                    f"{shared_s + cached_s:.0f}",
                ]
            )
            print(" | ".join(rows[-1]), flush=True)
    return rows


if __name__ == "__main__":
    main()
