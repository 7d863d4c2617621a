"""params.yaml as one frozen model, and the sentences for what is wrong with it."""

from __future__ import annotations

import copy
import difflib
import json
import re
import shlex
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from pydantic import Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pipeline.core import plugins
from pipeline.core.errors import ParamsError, WorkspaceError
from pipeline.core.files import replacing, write_text
from pipeline.core.params import ChosenByName, Params
from pipeline.core.redaction import redact
from pipeline.flow_params import Notify, Publish, Tracking
from pipeline.scale.options import Scale
from pipeline.stages import backbone as backbone_stage
from pipeline.stages import domains as domains_stage
from pipeline.stages import evaluate as evaluate_stage
from pipeline.stages import explain as explain_stage
from pipeline.stages import export as export_stage
from pipeline.stages import features as features_stage
from pipeline.stages import gate as gate_stage
from pipeline.stages import ingest as ingest_stage
from pipeline.stages import package as package_stage
from pipeline.stages import train as train_stage
from pipeline.stages import validate as validate_stage

FILE = "params.yaml"
SCHEMA_FILE = "params.schema.json"

UNION_BRANCH = re.compile(r"^(literal\[.*\]|(constrained-)?(int|float|str))$")
"""What pydantic puts into a problem's place for a value that may be of several types."""

YAML_TAGS = "tag:yaml.org,2002:"

SECRET_KEYS = ("notify.webhook", "tracking.uri")
"""Their values stay out of messages: a URL may hold a token."""


class Runtime(Params):
    """How to compute, never what: nothing here is in a stage's key."""

    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|(cuda|xpu)(:\d+)?)$",
        description="auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:1, mps",
    )
    workers: int = Field(0, ge=0, description="threads that decode images; 0 = one per core that may be used")


class Settings(Params):
    """Everything in params.yaml: a section per stage, named as the stage, and what the flow needs beyond them."""

    model: str = Field(
        "digits",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        description="name in the model registry: a letter or digit, then these and any of . _ -",
    )
    seed: int = Field(0, ge=0, description="one seed for everything random")
    runtime: Runtime = Runtime()
    scale: Scale = Scale()
    ingest: ingest_stage.Params = ingest_stage.Params()
    validate_: validate_stage.Params = Field(validate_stage.Params(), alias="validate")
    backbone: backbone_stage.Params = backbone_stage.Params()
    features: features_stage.Params = features_stage.Params()
    domains: domains_stage.Params = domains_stage.Params()
    train: train_stage.Params = train_stage.Params()
    export: export_stage.Params = export_stage.Params()
    evaluate: evaluate_stage.Params = evaluate_stage.Params()
    explain: explain_stage.Params = explain_stage.Params()
    gate: gate_stage.Params = gate_stage.Params()
    package: package_stage.Params = package_stage.Params()
    tracking: Tracking = Tracking()
    publish: Publish = Publish()
    notify: Notify = Notify()

    def section(self, stage: str) -> Params:
        """The parameters of one stage. (``validate`` is a method of the base class, hence the other name.)"""
        return getattr(self, "validate_" if stage == "validate" else stage)

    def value(self, key: str) -> Any:
        """The value under a dotted key, e.g. ``train.strategy.name``; None where a part of it is null or, as
        some plug-ins have keys that others lack, not there."""
        value: Any = self
        for part in key.split("."):
            name = "validate_" if value is self and part == "validate" else part
            value = None if value is None else getattr(value, name, None)
        return value


def load(workspace: Path) -> Settings:
    """Read and check ``params.yaml``.

    Raises:
        WorkspaceError: there is none.
        ParamsError: a key is unknown or a value does not fit; the message names the nearest key.
    """
    return parse(_document(workspace / FILE), where=str(workspace / FILE))


def parse(raw: dict[str, Any], where: str) -> Settings:
    """Check a mapping as if it were the content of params.yaml."""
    try:
        return Settings.model_validate(_unadorned(raw))
    except ValidationError as error:
        raise _explained(error, raw, where) from None


def _unadorned(value: Any, made: dict[int, Any] | None = None) -> Any:
    """Plain dicts and lists. Those of the YAML reader are classes of their own, that remember comments: pydantic reads
    them by calls into Python, and takes a Ctrl-C in the middle of one for a mapping that is not valid.

    What several aliases stand for is one object here, too: ten lines of them may stand for ten billion words.
    """
    made = {} if made is None else made
    if id(value) in made or not isinstance(value, (dict, list)):
        return made.get(id(value), value)
    plain: Any = made.setdefault(id(value), {} if isinstance(value, dict) else [])
    if isinstance(value, dict):
        plain.update((key, _unadorned(inner, made)) for key, inner in value.items())
    else:
        plain.extend(_unadorned(inner, made) for inner in value)
    return plain


def assign(workspace: Path, assignments: list[str]) -> list[str]:
    """Write ``--set key=value`` pairs into params.yaml, comments kept; the file changes only if all of them are valid.

    Returns one ``key: old → new`` line for each value that changed.
    """
    path = workspace / FILE
    document = read(path)
    before = _valid(path)
    changes = [change for text in assignments if (change := _assign(document, text, before or Settings()))]
    parse(document, where="--set" if assignments and before else str(path))
    if changes:
        with replacing(path) as fresh:
            dump(document, fresh)
    return changes


def _valid(path: Path) -> Settings | None:
    """The file as it stands; None where it is not right, so that a fault need not come from ``--set``."""
    try:
        return load(path.parent)
    except ParamsError:
        return None


def json_schema() -> dict[str, Any]:
    """The schema that editors use to complete and check params.yaml."""
    return Settings.model_json_schema(by_alias=True)


def write_schema(workspace: Path) -> bool:
    """Write :func:`json_schema` beside params.yaml, whose first line names it; says whether it was another before."""
    path, text = workspace / SCHEMA_FILE, json.dumps(json_schema(), indent=2) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8", errors="replace") == text:
        return False
    write_text(path, text)
    return True


def _yaml() -> YAML:
    yaml = YAML()  # round trip: safe loading, comments and order kept
    yaml.preserve_quotes = True
    yaml.width = 120
    return yaml


def dump(document: dict[str, Any], path: Path) -> None:
    """Write what :func:`read` returned; comments and order are kept."""
    _yaml().dump(document, path)


def read(path: Path) -> dict[str, Any]:
    """A YAML file as it stands: a mapping, its keys and values unchecked.

    Raises:
        WorkspaceError: there is none.
        ParamsError: it is not YAML, or not a mapping.
    """
    return copy.deepcopy(_document(path))


def _document(path: Path) -> dict[str, Any]:
    """What :func:`read` copies: kept for whoever reads the same text next, so to be left as it is."""
    if not path.is_file():
        raise no_workspace(path.parent)
    try:
        text = path.read_text(encoding="utf-8")
        tag, document = _parsed_text(text)
    except UnicodeDecodeError as error:
        raise _no_yaml(f"bytes that are not UTF-8 ({error.reason})", path, "Save the file as UTF-8.") from None
    except YAMLError as error:
        advice = "Mend that line (a missing space after ':' or an unclosed quote or bracket is usual)."
        raise _no_yaml(_yaml_problem(error), path, advice) from None
    except NotImplementedError as error:  # of ruamel, which could not write those comments back
        line = re.search(r"line: (\d+)", str(error))
        found = "a value below its key, behind which there is a comment" + (
            f", in line {int(line[1]) + 1}" if line else ""
        )
        advice = "Write `key: value` on one line, or `name: value` below a key that has a section."
        raise _no_yaml(found, path, advice) from None
    if tag:
        raise _no_yaml(f"the tag {tag}", path, "Take it out: plain values stand here, and no objects are made of them.")
    if document is not None and not isinstance(document, dict):
        raise _no_yaml(f"{document!r}", path, "Write sections, such as `train:`, with `key: value` lines below them.")
    return {} if document is None else document


@lru_cache(maxsize=8)
def _parsed_text(text: str) -> tuple[str | None, Any]:
    """The first tag, if there is one, else the document. A run reads its params.yaml some fifteen times."""
    tag = _tag(text) if "!" in text else None
    return tag, None if tag else _yaml().load(text)


def _tag(text: str) -> str | None:
    """The first tag, such as ``!!python/name:os.system``; the loader would leave that of a mapping out and go on."""
    tags = (getattr(event, "tag", None) for event in _yaml().parse(text))
    return next((str(tag).replace(YAML_TAGS, "!!") for tag in tags if tag is not None), None)


def no_workspace(folder: Path) -> WorkspaceError:
    """What to say of a folder without ``params.yaml``, or of none."""
    return WorkspaceError(
        expected=f"a Graftline workspace with {FILE}",
        found=f"no {FILE} in {folder}" if folder.is_dir() else f"no such folder: {folder}",
        where="the current folder, or -C",
        remedy=f"Correct the path, or make one with: graftline init {shlex.quote(str(folder))}",
    )


def _no_yaml(found: str, path: Path, remedy: str) -> ParamsError:
    return ParamsError(expected="a YAML mapping", found=found, where=str(path), remedy=remedy)


def _yaml_problem(error: YAMLError) -> str:
    """What is wrong in a clause, with the line where the parser knows it."""
    if not isinstance(error, MarkedYAMLError) or error.problem is None:
        return str(error).splitlines()[0]
    line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
    return error.problem.removeprefix("found ") + line


def _assign(document: dict[str, Any], text: str, before: Settings) -> str | None:
    key, equals, value = text.partition("=")
    if not equals:
        raise ParamsError(
            expected="key=value",
            found=f"'{text}'",
            where="--set",
            remedy="For example: --set train.strategy.name=probe",
        )
    *parents, last = key.strip().split(".")
    section = document
    for parent in parents:
        if not isinstance(section.get(parent), dict):
            section[parent] = {}
        section = section[parent]
    parsed = _parsed(key, value)
    old, dropped = section.get(last), ""
    if last == "name" and old is not None and old != parsed and _plugin_package(parents):
        if others := [name for name in section if name != last]:
            dropped = f" ({old}'s own {', '.join(others)} removed)"
        section.clear()  # another plug-in: the old one's values do not apply to it
    section[last] = parsed
    was = old
    if old is None and not _is_of_another(section, parents, before):
        default = before.value(key)  # what was in force, where nothing was written
        was = default if isinstance(default, str | int | float) else None
    if was == parsed:
        return None
    if key in SECRET_KEYS:
        return f"{key}: changed"
    return f"{key}: {redact(_plain(was))} → {redact(_plain(parsed))}{dropped}"


def _is_of_another(section: dict[str, Any], parents: Sequence[str], before: Settings) -> bool:
    """Is this the section of a plug-in that was chosen just now, and has defaults of its own?"""
    return bool(_plugin_package(parents)) and section.get("name") != before.value(".".join([*parents, "name"]))


def _parsed(key: str, value: str) -> Any:
    try:
        return YAML(typ="safe").load(value) if value else None
    except YAMLError as error:
        raise ParamsError(
            expected="a YAML value after the '='",
            found=f"something else after '{key}=' ({_yaml_problem(error)})",  # unshown: it may hold a secret
            where="--set",
            remedy="Close every bracket and quote; quote a text with special characters: --set 'key=\"a: b\"'.",
        ) from None


def _plain(value: Any) -> str:
    return "null" if value is None else str(value)


def _explained(error: ValidationError, raw: dict[str, Any], where: str) -> ParamsError:
    """The first problem as one message; how many more there are is said too."""
    problems = error.errors(include_url=False)
    # A mistyped key is often a missing one too; the typo is what there is to mend.
    first, *others = sorted(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    key = _key(first)
    branches = [problem for problem in problems if _key(problem) == key]
    others = [problem for problem in others if problem not in branches]
    more = f" ({len(others)} more problem{'s' * (len(others) > 1)} after this one.)" if others else ""
    cause = first.get("ctx", {}).get("error")
    if first["type"] == "extra_forbidden":
        return _unknown_key(first["loc"], raw, where, more)
    if isinstance(cause, plugins.UnknownNameError):
        expected, found = f"one of: {', '.join(cause.known)}", f"'{cause.name}'"
        return ParamsError(expected=expected, found=found, where=f"{key} in {where}", remedy=cause.advice + more)
    return ParamsError(
        expected=" or ".join(dict.fromkeys(map(_expectation, branches))),
        found="nothing" if first["type"] == "missing" else _shown(key, first["input"]),
        where=f"{key} in {where}",
        remedy=f"Set {key} to such a value.{more}",
    )


def _key(problem: Any) -> str:
    """The dotted key, without the branch of a union (``'auto'`` or a number) that the problem belongs to."""
    return ".".join(str(part) for part in problem["loc"] if not UNION_BRANCH.match(str(part)))


def _shown(key: str, value: Any) -> str:
    """What was found, unless it is a secret."""
    if key in SECRET_KEYS:
        return "another value (not shown: it may hold a secret)"
    return "null" if value is None else redact(repr(value))


def _expectation(problem: Any) -> str:
    """Pydantic's message, as a clause that fits after "expected"; a few of them in our words."""
    ours = {
        "missing": "a value for it",
        "model_type": "a mapping of `key: value` lines",
        "dict_type": "a mapping of `key: value` lines",
        "list_type": "a list, each entry after a dash",
        "string_pattern_mismatch": _described(problem["loc"]) or f"a text like {problem.get('ctx', {}).get('pattern')}",
    }
    text = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ").removesuffix(".")
    return ours.get(problem["type"], text)


def _described(location: tuple[int | str, ...]) -> str | None:
    """What the field at this place says of itself, which for a text of some form is that form in words."""
    model: Any = Settings
    field: Any = None
    for part in location:
        field = _field(model, part)
        model = getattr(field, "annotation", None)
    return getattr(field, "description", None)


def _unknown_key(location: tuple[int | str, ...], raw: dict[str, Any], where: str, more: str) -> ParamsError:
    *parents, last = location
    known = _known_keys(parents, raw)
    nearest = difflib.get_close_matches(str(last), known, n=1)
    advice = f"Did you mean '{nearest[0]}'?" if nearest else "Remove it."
    there = ".".join(str(part) for part in parents) or "the top level"
    return ParamsError(
        expected=f"one of the keys of {there}" + (f" ({', '.join(known)})" if known else ""),
        found=f"the unknown key '{last}'",
        where=f"{'.'.join(str(part) for part in location)} in {where}",
        remedy=advice + more,
    )


def _known_keys(parents: list[int | str], raw: dict[str, Any]) -> list[str]:
    """The keys at a place in the settings; inside a plug-in, those of the one that ``raw`` names there."""
    model: Any = Settings
    package = _plugin_package(parents)
    if package:
        for parent in parents:
            raw = raw[str(parent)]
        model = plugins.load(package, raw["name"]).Params
        return sorted(model.model_fields)
    for parent in parents:
        is_place = isinstance(parent, int)  # in a list, whose members have one type
        model = next(iter(get_args(model)), None) if is_place else getattr(_field(model, parent), "annotation", None)
    return sorted("validate" if name == "validate_" else name for name in getattr(model, "model_fields", ()))


def _plugin_package(parents: Sequence[int | str]) -> str | None:
    """The package whose plug-in is chosen at this place by its ``name``; None elsewhere."""
    model: Any = Settings
    field: Any = None
    for parent in parents:
        field = _field(model, parent)
        model = getattr(field, "annotation", None)
    inner = [getattr(option, "__metadata__", ()) for option in get_args(model)]  # of `chosen_by_name(…) | None`
    marks = [*getattr(field, "metadata", ()), *(mark for marks in inner for mark in marks)]
    return next((mark.package for mark in marks if isinstance(mark, ChosenByName)), None)


def _field(model: Any, name: int | str) -> Any:
    return getattr(model, "model_fields", {}).get("validate_" if name == "validate" else str(name))
