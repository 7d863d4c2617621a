"""How far apart the domains are, from ``domains.json`` and ``drift.json``."""

from __future__ import annotations

from itertools import chain, zip_longest
from statistics import median

from markupsafe import Markup

from pipeline.reporting import charts
from pipeline.reporting.reading import Json
from pipeline.reporting.view import DistanceRow, DomainPair, Domains

MOST_CLASSES = 20
"""Classes in the chart of shares, of more those whose shares differ most; and named on the map, of more none."""


def domains(report: Json | None, drift: Json | None) -> Domains | None:
    if report is None:
        return None
    prior = report.get("prior_shift")
    return Domains(
        pairs=[_pair(one) for one in (report, drift) if one],
        map=_map(report),
        priors=_shares(prior["classes"], (report["source"], report["target"])) if prior and prior["classes"] else None,
        prior_sentence=prior["sentence"] if prior else None,
    )


def _pair(report: Json) -> DomainPair:
    return DomainPair(
        title=f"{report['target'].capitalize()} and {report['source']}",
        nearness=report["nearness"],
        rows=[distance_row(entry) for entry in report["distances"]],
        sentences=report["sentences"],
        note=_note(report) if report["distances"] else None,
    )


def distance_row(entry: Json) -> DistanceRow:
    """A distance as it is printed, all its figures with as many decimals as its value asks for."""
    size = abs(entry["value"])
    digits = 1 if size >= 10 else 3 if size >= 0.1 else 4

    def printed(key: str) -> str:
        return f"{entry[key]:.{digits}f}".replace("-", "−")

    return DistanceRow(
        name=entry["name"],
        value=printed("value"),
        interval=f"{printed('low')} to {printed('high')}",
        null=printed("null"),
        null_interval=f"{printed('null_low')} to {printed('null_high')}",
        is_within_null=entry["low"] <= entry["null_high"],
    )


def _note(report: Json) -> str:
    return (
        f"{report['source_images']:,} and {report['target_images']:,} images, {report['source_per_draw']:,} and "
        f"{report['target_per_draw']:,} of them at a time, in the principal directions that hold "
        f"{report['variance_kept']:.0%} of the features’ variance. {range_note(report)}"
    )


def range_note(report: Json) -> str:
    """What stands beside the values, in sentences."""
    biased = " and ".join(entry["name"] for entry in report["distances"] if entry["is_biased"])
    exact = " and ".join(entry["name"] for entry in report["distances"] if not entry["is_biased"])
    return (
        f"{exact}: 95 % intervals, MMD squared. {biased}: range over half samples, biased upwards; "
        "compare with the null level only."
    )


def _map(report: Json) -> Markup | None:
    """The domains in turn, so that neither covers the other."""
    drawn = report.get("map")
    if not drawn:
        return None
    style = {"source": "first", "target": "second"}
    points = [
        charts.Point(x, y, style[domain], f"{report[domain]} · {'unlabelled' if label is None else label}")
        for x, y, domain, label in zip(drawn["x"], drawn["y"], drawn["domain"], drawn["label"], strict=True)
    ]
    sides = [[point for point in points if point.style == name] for name in style.values()]
    mixed = [point for point in chain.from_iterable(zip_longest(*sides)) if point]
    return charts.scatter(mixed, [(report[domain], name) for domain, name in style.items()], _places(drawn))


def _places(drawn: Json) -> list[tuple[float, float, str]]:
    """Where a class lies: the median of its source images, or of all its images where no class has any there."""
    rows = list(zip(drawn["x"], drawn["y"], drawn["label"], drawn["domain"], strict=True))
    of_source = [row for row in rows if row[2] is not None and row[3] == "source"]
    labelled = of_source or [row for row in rows if row[2] is not None]
    names = sorted({label for _, _, label, _ in labelled})
    if len(names) > MOST_CLASSES:
        return []
    members = {name: [(x, y) for x, y, label, _ in labelled if label == name] for name in names}
    return [(median(x for x, _ in dots), median(y for _, y in dots), name) for name, dots in members.items()]


def _shares(classes: list[Json], names: tuple[str, str]) -> Markup:
    most = sorted(classes, key=lambda entry: -abs(entry["target_share"] - entry["source_share"]))[:MOST_CLASSES]
    rows = [
        charts.Shares(entry["label"], entry["source_share"], entry["target_share"], entry["low"], entry["high"])
        for entry in classes
        if entry in most
    ]
    return charts.paired_shares(rows, names)
