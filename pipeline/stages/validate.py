"""validate: what the data must look like before anything is learnt from them.

Great Expectations looks at the manifest, never at pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from pipeline.core import params as base
from pipeline.core.context import Context, Result
from pipeline.core.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from pipeline.data.labels import LabelSpace
    from pipeline.data.manifest import Manifest
    from pipeline.data.profile import DataProfile
    from pipeline.data.validation import Check, Quarantined, ValidationReport

DOCS = "reports/data_docs/index.html"
"""The Data Docs, below the workspace."""

NAMED = 10
"""Images an error message names; the report has more."""


class NearDuplicates(base.Params):
    """Which images count as the same picture. Use the values that ingest has."""

    max_distance: int = Field(default=2, ge=0, le=16, description="Differing bits of the 64-bit perceptual hash.")
    min_side_px: int = Field(
        default=48, ge=1, description="Smaller images are not compared: they look alike too easily."
    )


class Params(base.Params):
    """Limits; each is a parameter of the suites in pipeline/data/suites."""

    unreadable: Literal["stop", "quarantine"] = Field(
        "stop", description="What to do about an image that cannot be read: stop the run, or go on without it."
    )
    min_images: int = Field(10, ge=1, description="Usable target images at least.")
    min_labelled_per_class: int = Field(2, ge=0, description="Labelled target images of each class in train at least.")
    min_side_px: int = Field(8, ge=1, description="Shorter side at least, pixels.")
    max_side_px: int = Field(10_000, ge=1, description="Longer side at most, pixels.")
    max_aspect_ratio: float = Field(8.0, ge=1, description="Longer side over shorter side at most.")
    min_brightness: float = Field(
        0.15, ge=0, le=1, description="Luma that a hundredth of an image's pixels reach at least: 0 black, 1 white."
    )
    min_sharpness: float = Field(
        15.0, ge=0, description="Variance of the Laplacian of its luma at 256 px at least; a blurred image has less."
    )
    modes: list[str] = Field(["RGB", "L"], description="Pillow modes that are not worth a warning.")
    max_copy_share: float = Field(0.05, ge=0, le=1, description="Share of images that copy another in their split.")
    max_imbalance: float = Field(20.0, ge=1, description="How many times rarer than the largest class one may be.")
    max_label_share_change: float = Field(
        0.1, ge=0, le=1, description="Change of a class's share of the labels since the last run at most."
    )
    near_duplicates: NearDuplicates | None = Field(
        NearDuplicates(),
        description="Nearly equal pictures in two splits that the user gave, or of two labels; null: not looked for.",
    )
    suites: str | None = Field(
        None, description="Folder with your own images.json, classes.json or drift.json; null: the packaged ones."
    )


def run(
    params: Params,
    context: Context,
    *,
    source_inventory: Manifest,
    target_inventory: Manifest,
    label_space: LabelSpace,
    data_profile: DataProfile,
) -> Result:
    """Check both inventories; give the usable rows on, with a report and Data Docs.

    Raises:
        DataError: a critical check failed. It names the images; report and Data Docs are then already in the workspace.
        ParamsError: a suite file that cannot be used.
    """
    from pipeline.core.files import Folder
    from pipeline.data import expectations
    from pipeline.data.profile import DataProfile, changes
    from pipeline.data.validation import ValidationReport

    target, source = _usable(target_inventory), _usable(source_inventory)
    profile = DataProfile.of(target=target, source=source)
    tables, leaks = _tables(params, target_inventory, source_inventory, label_space, profile, data_profile)
    docs = context.empty_folder("data_docs")
    checks = expectations.run_suites(tables, _suites(params, context), _suite_parameters(params, label_space), docs)
    report = ValidationReport(
        success=all(check.passed or check.severity != "critical" for check in checks),
        checks=checks,
        quarantined=_unreadable(target_inventory) + _unreadable(source_inventory),
        leaks=leaks,
        leak_count=len(leaks),
        profile=profile,
        changes=changes(data_profile, profile),
    )
    if not report.success:
        raise _refusal(report, _leave(report, Folder(docs), context.workspace / "reports"))
    outputs = {
        "source_manifest": source,
        "target_manifest": target,
        "validation": report,
        "data_docs": Folder(docs),
    }
    return Result(_line(report), outputs)


def _usable(inventory: Manifest) -> Manifest:
    return inventory.where(inventory.frame["error"].isna())


def _unreadable(inventory: Manifest) -> list[Quarantined]:
    from pipeline.data.validation import Quarantined

    rows = inventory.frame[inventory.frame["error"].notna()]
    return [
        Quarantined(domain=domain, name=name, reason=reason)
        for domain, name, reason in rows[["domain", "name", "error"]].itertuples(index=False)
    ]


def _tables(
    params: Params,
    target_inventory: Manifest,
    source_inventory: Manifest,
    label_space: LabelSpace,
    profile: DataProfile,
    last: DataProfile,
) -> tuple[dict[str, pd.DataFrame], list[Any]]:
    """The tables to check, by suite (drift only where there is something to compare with), and the leaks found."""
    from pipeline.data import checks

    images = checks.both(target_inventory, source_inventory)
    near = params.near_duplicates
    alike: dict[str, Any] = {
        "max_distance": near.max_distance if near else None,
        "min_side_px": near.min_side_px if near else 0,
    }
    pairs = checks.find_leaks(images, **alike)
    tables = {
        "images": checks.images_table(images, pairs, **alike),
        "classes": checks.classes_table(_usable(target_inventory), _usable(source_inventory), label_space),
        "drift": checks.drift_table(profile, last),
    }
    if tables["drift"].empty:
        del tables["drift"]
    return tables, [checks.as_leak(images, *pair) for pair in pairs]


def _suites(params: Params, context: Context) -> dict[str, Any]:
    """As in the files, but an unreadable image is a warning where it is to be quarantined."""
    from pipeline.data.expectations import load_suites

    suites = load_suites(context.workspace / params.suites if params.suites else None)
    if params.unreadable == "quarantine":
        for expectation in suites["images"]["expectations"]:
            if expectation.get("kwargs", {}).get("column") == "error":
                expectation["severity"] = "warning"
    return suites


def _suite_parameters(params: Params, label_space: LabelSpace) -> dict[str, Any]:
    """What ``$PARAMETER`` may name in a suite file: every limit, and ``labels``."""
    limits = params.model_dump(exclude={"unreadable", "near_duplicates", "suites"})
    labels = [*label_space.classes, *label_space.source_only]
    return limits | {"labels": labels, "min_unique_share": 1 - params.max_copy_share}


def _leave(report: ValidationReport, docs: Any, reports: Path) -> Path:
    """Write report and Data Docs into the workspace although the stage fails: they are how the reader finds out why."""
    report.save(reports / "validation.json")
    docs.save(reports / "data_docs")
    return reports / "data_docs" / "index.html"


def _refusal(report: ValidationReport, page: Path) -> DataError:
    failures = report.failures
    return DataError(
        expected="that " + "; and that ".join(check.says for check in failures),
        found="otherwise:" + "".join(map(_found, failures)),
        where=f"the images of ingest.target and ingest.source; all checks: {page}",
        remedy=" ".join(dict.fromkeys(check.remedy for check in failures if check.remedy))
        or "Correct the data, or change the suite.",
    )


def _found(check: Check) -> str:
    """Up to :data:`NAMED` rows with what is wrong with each, one to a line."""
    named = check.named[:NAMED] or [f"{check.says}: {check.observed}"]
    more = check.unexpected_count - len(named)
    return "".join(f"\n    {text}" for text in [*named, *([f"and {more:,} more"] if more > 0 else [])])


def _line(report: ValidationReport) -> str:
    """``1,797 target + 3,000 source images · 14 checks passed, 1 warning · 0 quarantined · reports/…/index.html``."""
    from pipeline.data.validation import tally

    target, source = report.profile.target.images, report.profile.source.images
    images = f"{target:,} target + {source:,} source images" if source else f"{target:,} target images"
    checks = tally([check.state for check in report.checks])
    return f"{images} · {checks} · {len(report.quarantined):,} quarantined · {DOCS}"
