"""Runs the suites in ``suites/*.json`` over the check tables. The only home of Great Expectations.

A suite file is Great Expectations' own JSON. Three keys carry what people read:

* ``description``: the expectation in plain words; ``$min_side_px`` and the like are replaced by the value in force;
* ``meta.found``: what to say of a row that fails, ``$value`` being what the checked column holds there;
* ``meta.remedy``: what to do about it.

``{"$PARAMETER": "min_side_px"}`` in ``kwargs`` takes its value from params.yaml. ``severity`` is ``critical`` (the run
stops) or ``warning``.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from pipeline.core import telemetry
from pipeline.core.errors import ParamsError
from pipeline.data import data_docs
from pipeline.data.checks import INDEX
from pipeline.data.validation import Check, ValidationReport

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations import ExpectationSuite
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
    from great_expectations.expectations.expectation import Expectation
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

__all__ = ["ValidationReport", "load_suites", "run_suites"]

Suite = dict[str, Any]

PACKAGED = Path(__file__).parent / "suites"
NAMES = tuple(INDEX)

KEPT_ROWS = 100
"""Failing rows named in the report for each check; their number is always exact."""


# ── suite files ──


def load_suites(folder: Path | None = None) -> dict[str, Suite]:
    """Suites by name. A file in ``folder`` takes the place of the packaged one of the same name; the others stay.

    Raises:
        ParamsError: no such folder, a file whose name is not a suite's, or one that is not a suite in JSON.
    """
    files = {name: PACKAGED / f"{name}.json" for name in NAMES}
    if folder is not None:
        files |= _own_files(folder)
    return {name: _read(path) for name, path in files.items()}


def _own_files(folder: Path) -> dict[str, Path]:
    files = {path.stem: path for path in sorted(folder.glob("*.json"))}
    unknown = [path.name for name, path in files.items() if name not in NAMES]
    if unknown or not files:
        raise ParamsError(
            expected="a folder with one or more of " + ", ".join(f"{name}.json" for name in NAMES),
            found=f"'{unknown[0]}' among them" if unknown else "no such file",
            where=f"validate.suites in params.yaml ({folder})",
            remedy="Name the files so, or set validate.suites to null for the packaged suites.",
        )
    return files


def _read(path: Path) -> Suite:
    try:
        suite = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _bad_suite(path.stem, f"text that is not JSON ({error})") from error
    if not isinstance(suite, dict) or not isinstance(suite.get("expectations"), list):
        raise _bad_suite(path.stem, "JSON without a list 'expectations'")
    return suite


def _bad_suite(suite: str, found: str) -> ParamsError:
    return ParamsError(
        expected="a Great Expectations suite, as in pipeline/data/suites",
        found=found,
        where=f"{suite}.json in validate.suites (params.yaml)",
        remedy="Correct the file; the packaged suites show the form.",
    )


# ── running ──


def run_suites(
    tables: Mapping[str, pd.DataFrame], suites: Mapping[str, Suite], parameters: Mapping[str, Any], docs: Path
) -> list[Check]:
    """Check each table with the suite of its name and write Data Docs, a folder of static pages, to ``docs``.

    Args:
        tables: by suite name; see :mod:`pipeline.data.checks`. A suite without a table is left out.
        parameters: values for ``$PARAMETER``.

    Raises:
        ParamsError: a suite names an expectation, column or parameter that does not exist.
    """
    telemetry.off()
    results = {name: _run(name, table, suites[name], parameters) for name, table in tables.items()}
    checks = {
        name: [_check(name, result, len(tables[name])) for result in found.results] for name, found in results.items()
    }
    data_docs.write(docs, checks, {name: _page(result) for name, result in results.items()})
    return [check for found in checks.values() for check in found]


def _run(
    name: str, table: pd.DataFrame, suite: Suite, parameters: Mapping[str, Any]
) -> ExpectationSuiteValidationResult:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.delete_data_docs_site("local_site")  # the default; it would be written to a temporary folder
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    batch = context.data_sources.add_pandas("graftline").add_dataframe_asset(name)
    definition = gx.ValidationDefinition(
        name=name,
        data=batch.add_batch_definition_whole_dataframe("all"),
        suite=context.suites.add(_build(name, suite, parameters)),
    )
    result = context.validation_definitions.add(definition).run(
        batch_parameters={"dataframe": table},
        expectation_parameters=dict(parameters),
        result_format={
            "result_format": "COMPLETE",
            "unexpected_index_column_names": INDEX[name],
            "return_unexpected_index_query": False,
        },
    )
    _in_order(result)
    return result


def _build(name: str, suite: Suite, parameters: Mapping[str, Any]) -> ExpectationSuite:
    """Each expectation is built here: ``ExpectationSuite(expectations=…)`` logs a bad one and leaves it out."""
    import great_expectations as gx

    built = gx.ExpectationSuite(name=name)
    for position, expectation in enumerate(suite["expectations"]):
        built.add_expectation(_expectation(name, position, expectation, parameters))
    return built


def _expectation(name: str, position: int, raw: dict[str, Any], parameters: Mapping[str, Any]) -> Expectation:
    from great_expectations.exceptions import GreatExpectationsError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    for parameter in _parameters_in(raw.get("kwargs")):
        if parameter not in parameters:
            known = ", ".join(sorted(parameters))
            raise _bad_suite(name, f"the parameter '{parameter}', which does not exist (there are: {known})")
    try:
        described = raw | {"description": _describe(raw, parameters)}
        described["meta"] = {"position": position} | raw.get("meta", {})
        return ExpectationConfiguration(**described).to_domain_obj()
    except (GreatExpectationsError, ValueError, TypeError, AttributeError) as error:
        raise _bad_suite(name, f"an expectation that cannot be built: {error}") from error


def _parameters_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$PARAMETER"]] if "$PARAMETER" in value else []
        return own + [found for part in value.values() for found in _parameters_in(part)]
    return [found for part in value for found in _parameters_in(part)] if isinstance(value, list) else []


def _describe(raw: dict[str, Any], parameters: Mapping[str, Any]) -> str:
    """The description with its values; for a suite without one, the type and arguments spelt out."""
    if "description" in raw:
        words = {name: _spoken(value) for name, value in parameters.items()}
        return Template(raw["description"]).safe_substitute(words)
    arguments = ", ".join(f"{key} {value}" for key, value in raw.get("kwargs", {}).items())
    return f"{raw['type'].removeprefix('expect_').replace('_', ' ')} ({arguments})"


def _spoken(value: Any) -> str:
    return " or ".join(map(str, value)) if isinstance(value, list) else _number(value)


def _in_order(result: ExpectationSuiteValidationResult) -> None:
    """As in the suite's file: Great Expectations groups them by column and puts failures to evaluate first."""
    result.results.sort(key=lambda found: _config(found).meta["position"])


def _config(result: ExpectationValidationResult) -> ExpectationConfiguration:
    """The expectation behind a result; typed optional there, always set by a validation."""
    assert result.expectation_config is not None
    return result.expectation_config


# ── from Great Expectations' words to ours ──


def _check(suite: str, result: ExpectationValidationResult, rows: int) -> Check:
    _raise_if_broken(suite, result)
    config, found = _config(result), result.result
    failing = found.get("unexpected_index_list") or []
    column = config.kwargs.get("column")
    template = Template(str(config.meta.get("found", "$value")))
    names = [str(row[INDEX[suite][-1]]) for row in failing[:KEPT_ROWS]]
    reasons = [template.safe_substitute(value=_number(row.get(column))) for row in failing[:KEPT_ROWS]]
    unexpected = int(found.get("unexpected_count") or 0)
    return Check(
        suite=suite,
        name=str(config.meta.get("name") or f"{config.type}:{column or 'table'}"),
        says=config.description or config.type,
        severity="critical" if config.severity == "critical" else "warning",
        passed=bool(result.success),
        applicable=not _is_bare(found),
        observed=_observed(suite, found, unexpected, rows),
        unexpected_count=unexpected,
        images=names if suite == "images" else [],
        classes=names if suite != "images" else [],
        reasons=reasons,
        remedy=config.meta.get("remedy"),
    )


def _is_bare(found: Mapping[str, Any]) -> bool:
    """Each row of the column is null, and so was passed over. An expectation about nulls themselves counts none."""
    return found.get("missing_count") is not None and found["missing_count"] == found["element_count"]


def _observed(suite: str, found: Mapping[str, Any], unexpected: int, rows: int) -> str:
    """``not so for 3 of 1,797 images``, ``so for all 10 classes``, or the figure that was measured."""
    if "observed_value" in found:
        return _number(found["observed_value"])
    if _is_bare(found):
        return "nothing to look at"
    noun = "images" if suite == "images" else "classes"
    return f"not so for {unexpected:,} of {rows:,} {noun}" if unexpected else f"so for all {rows:,} {noun}"


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _raise_if_broken(suite: str, result: ExpectationValidationResult) -> None:
    """An expectation that could not be evaluated: a column that is not there, or of another type."""
    faults = [result.exception_info, *result.exception_info.values()]
    messages = [f["exception_message"] for f in faults if isinstance(f, dict) and f.get("raised_exception")]
    if messages:
        raise _bad_suite(suite, f"'{_config(result).type}', which cannot be evaluated: {messages[0]}")


# ── Data Docs ──


def _page(result: ExpectationSuiteValidationResult) -> str:
    """Great Expectations' own page for one suite. Its templates do not escape, so every text is escaped first."""
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    shown = copy.deepcopy(result)
    for found in shown.results:
        found.result = data_docs.escaped(found.result)
        config = _config(found)
        config.kwargs = data_docs.escaped(config.kwargs)
        config.description = data_docs.escaped(config.description)
        config.meta = {}  # our keys; the page would print them
    return DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(shown))
