"""The tables of ``strategies.py``, from its results."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from _bench import mean_and_spread, table

Result = dict[str, Any]

Rule = Callable[[list[Result]], float]
"""From all candidates of one problem to the test accuracy of the one that the rule takes."""


def sections(results: list[Result]) -> dict[str, str]:
    """Markdown by the name of the section it goes into; parts without a result are left out."""
    makers = {
        "unlabelled": unlabelled,
        "regret": regret,
        "few": few,
        "photos": photos,
        "misleading": misleading,
    }
    made = {name: make(_of("unlabelled" if name == "regret" else name, results)) for name, make in makers.items()}
    return {name: text for name, text in made.items() if text}


def _of(part: str, results: list[Result]) -> list[Result]:
    return [row for row in results if row["part"] == part]


def _cases(rows: list[Result]) -> list[str]:
    return list(dict.fromkeys(row["case"] for row in rows))


def _problems(rows: list[Result]) -> list[list[Result]]:
    """Rows of one case under one seed each."""
    keys = list(dict.fromkeys((row["case"], row["seed"]) for row in rows))
    return [[row for row in rows if (row["case"], row["seed"]) == key] for key in keys]


def _first_runs(rows: Iterable[Result], strategy: str) -> list[float]:
    """Accuracies of a strategy under each problem's own seed."""
    return [
        row["accuracy"]
        for row in rows
        if row["strategy"] == strategy and row.get("repeat", 0) == 0 and row.get("accuracy") is not None
    ]


def _strategies(rows: list[Result]) -> list[str]:
    names = list(dict.fromkeys(row["strategy"] for row in rows if row["strategy"] != "auto"))
    return [*names, "auto"] if any(row["strategy"] == "auto" for row in rows) else names


def _seconds(rows: list[Result], strategy: str) -> str:
    taken = [
        row["seconds"]
        for row in rows
        if row["strategy"] == strategy and row.get("repeat", 0) == 0 and row.get("seconds") is not None
    ]
    return f"{statistics.mean(taken):.0f}" if taken else "–"


def _cell(values: Sequence[float]) -> str:
    """Mean and spread; a single seed says so."""
    if len(values) < 2:
        return f"{values[0]:.1f} (one seed)" if values else "–"
    return mean_and_spread(values)


def unlabelled(rows: list[Result]) -> str:
    """Accuracy of every strategy on every shift, without one target label."""
    if not rows:
        return ""
    cases = _cases(rows)
    body = [
        [
            f"`{name}`",
            *(_cell(_first_runs([row for row in rows if row["case"] == case], name)) for case in cases),
            _seconds(rows, name),
        ]
        for name in _strategies(rows)
    ]
    chosen = "; ".join(
        f"{case}: {', '.join(row['chose'] for row in rows if row['case'] == case and row['strategy'] == 'auto')}"
        for case in cases
    )
    return f"{table(['strategy', *cases, 'seconds'], body)}\n\n`auto` chose, by seed: {chosen}."


RULES: dict[str, Rule] = {
    "`auto`": lambda rows: next(row["accuracy"] for row in rows if row["strategy"] == "auto"),
    "always `mcc`": lambda rows: next(row["accuracy"] for row in rows if row["strategy"] == "mcc"),
    "the highest MixVal, no guard": lambda rows: _highest(rows, "mixval"),
    "information maximisation, no guard": lambda rows: _highest(rows, "information"),
    "by lot (mean of all)": lambda rows: statistics.mean(row["accuracy"] for row in _candidates(rows)),
    "the baseline": lambda rows: next(row["accuracy"] for row in rows if row["strategy"] == "probe"),
}


def _candidates(rows: list[Result]) -> list[Result]:
    return [row for row in rows if row.get("candidate") and row.get("accuracy") is not None]


def _highest(rows: list[Result], figure: str) -> float:
    return max((row for row in _candidates(rows) if row.get(figure) is not None), key=lambda row: row[figure])[
        "accuracy"
    ]


def regret(rows: list[Result]) -> str:
    """Test accuracy that each rule gives away against the best candidate, which only test labels know."""
    problems = [problem for problem in _problems(rows) if _candidates(problem)]
    if not problems:
        return ""
    body = []
    for name, rule in RULES.items():
        lost = [max(row["accuracy"] for row in _candidates(problem)) - rule(problem) for problem in problems]
        gain = [rule(problem) - RULES["the baseline"](problem) for problem in problems]
        below = sum(value < 0 for value in gain)
        body.append([name, _cell(lost), f"{max(lost):.1f}", f"{min(gain):+.1f}", f"{below} of {len(problems)}"])
    header = ["rule", "mean regret, points", "largest", "least gain over the baseline", "below the baseline"]
    return table(header, body)


def few(rows: list[Result]) -> str:
    """Accuracy with few labels; a column per set and number of labels."""
    if not rows:
        return ""
    cases, names = sorted(_cases(rows), key=_by_set_and_count), _strategies(rows)
    body = []
    for name in names:
        means = [_first_runs([row for row in rows if row["case"] == case], name) for case in cases]
        average = statistics.mean(statistics.mean(values) for values in means if values)
        body.append([f"`{name}`", *map(_cell, means), f"{average:.1f}", _seconds(rows, name)])
    return table(["strategy", *cases, "mean", "seconds"], body)


def _by_set_and_count(case: str) -> tuple[str, int]:
    archive, count = case.split(" × ")
    return archive, int(count)


def photos(rows: list[Result]) -> str:
    """In-domain accuracy, and that on the domain that was left out."""
    if not rows:
        return ""
    cases = _cases(rows)
    body = []
    for name in _strategies(rows):
        own = [row for row in rows if row["strategy"] == name]
        cells = [
            f"{_cell([row['accuracy'] for row in own if row['case'] == case])} / "
            f"{_cell([row['elsewhere'] for row in own if row['case'] == case])}"
            for case in cases
        ]
        means = (statistics.mean(row[key] for row in own) for key in ("accuracy", "elsewhere"))
        body.append([f"`{name}`", *cells, " / ".join(f"{mean:.1f}" for mean in means), _seconds(own, name)])
    return table(["strategy", *(f"without {case}" for case in cases), "mean", "seconds"], body)


def misleading(rows: list[Result]) -> str:
    """A source whose labels contradict the target's."""
    if not rows:
        return ""
    cases = _cases(rows)
    body = [
        [f"`{name}`", *(_cell(_first_runs([row for row in rows if row["case"] == case], name)) for case in cases)]
        for name in _strategies(rows)
    ]
    told = next(row["sentences"] for row in rows if row["strategy"] == "auto")
    return f"{table(['strategy', *cases], body)}\n\nWhat `auto` said, first seed: {' '.join(told[1:6])}"
