"""What stages read that no stage has made: the user's images, suites and checkpoint files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.core import plugins
from pipeline.core.errors import DataError, InputError, ParamsError, WeightsError
from pipeline.core.files import escaped, is_unicode, kind_of
from pipeline.graph.table import SOURCES, Stage

if TYPE_CHECKING:
    from pipeline.params import Settings


MISNAMED = "a name that is not UTF-8"
NOWHERE = "a link that leads nowhere"


class Place(NamedTuple):
    """A file or folder that a stage depends on, and the key in params.yaml that names it."""

    key: str
    path: str
    error: type[InputError]


def places(stage: Stage, settings: Settings) -> list[Place]:
    """The places that a stage reads under these settings; empty for most stages."""
    found: list[Place] = []
    if stage.name == "ingest":
        for domain in ("target", "source"):
            source = getattr(settings.ingest, domain)
            path = None if source is None else plugins.load(SOURCES, source.name).location(source)
            if path is not None:
                found.append(Place(f"ingest.{domain}.path", path, DataError))
    if stage.name == "validate" and settings.validate_.suites:
        found.append(Place("validate.suites", settings.validate_.suites, ParamsError))
    for key, choice in settings.backbone.checkpoints if stage.name == "backbone" else ():
        file = getattr(choice.weights, "file", None)
        place = file and Place(f"{key}.file", str(file.expanduser()), WeightsError)
        if place and place.path not in [other.path for other in found]:  # one file may be two candidates, at two sizes
            found.append(place)
    if stage.name == "train":
        files = getattr(settings.train.strategy, "statistics", ())
        found += [Place("train.strategy.statistics", str(file.expanduser()), DataError) for file in files]
    return found


def check_kinds(workspace: Path, stage: Stage, settings: Settings) -> None:
    """Files and folders with names in UTF-8 only, none of them the workspace: DVC, which reads them all, waits for a
    named pipe without end, and fails at a link that leads nowhere, at any other name, and at a folder around its own.

    Raises:
        DataError, WeightsError, ParamsError: with the key that names the place, and what lies there.
    """
    for place in places(stage, settings):
        _check_beside(workspace, place)
        for path, kind in _oddities(workspace / place.path):
            if kind == MISNAMED:
                raise place.error(
                    expected="files and folders whose names are UTF-8",
                    found=f"one whose name is not, {escaped(path)}",
                    where=f"{place.key} in params.yaml",
                    remedy="Rename it (convmv -r -f latin1 -t utf8 renames a whole folder of names in Latin-1).",
                )
            raise place.error(
                expected="files and folders",
                found=f"{kind}, {path}",
                where=f"{place.key} in params.yaml",
                remedy="Remove it, or point it at what is there."
                if kind == NOWHERE
                else "Remove it, or move it elsewhere.",
            )


def _oddities(place: Path) -> Iterator[tuple[str, str]]:
    """What is neither a file nor a folder, with what it is instead, and what cannot be named; links are followed as far
    as they lead to files."""
    waiting = [os.fspath(place)]
    while waiting:
        path = waiting.pop()
        try:
            if (kind := kind_of(os.stat(path).st_mode)) is not None:
                yield path, kind
            elif os.path.isdir(path):
                with os.scandir(path) as entries:
                    inside = list(entries)
                yield from ((entry.path, MISNAMED) for entry in inside if not is_unicode(entry.name))
                waiting += [entry.path for entry in inside if not _is_harmless(entry)]
        except OSError:  # gone meanwhile, or forbidden: who reads it will say so
            if os.path.islink(path):
                yield path, NOWHERE


def _is_harmless(entry: os.DirEntry[str]) -> bool:
    """A file, as known without asking again for most; or a linked folder, which may lead in a circle."""
    return entry.is_file() or (entry.is_symlink() and entry.is_dir())


def check(workspace: Path, stage: Stage, settings: Settings) -> None:
    """Every place is there, and none of them holds the workspace: DVC would stop at it with words of its own.

    Raises:
        DataError, WeightsError, ParamsError: with the key that names the place.
    """
    for place in places(stage, settings):
        path = (workspace / place.path).resolve()
        if not path.exists():
            raise place.error(
                expected="an existing file or folder",
                found=f"'{place.path}', which does not exist",
                where=f"{place.key} in params.yaml",
                remedy="Check the path; if DVC tracks it and it is not here yet: dvc pull.",
            )
        _check_beside(workspace, place)


def holds(place: Path, workspace: Path) -> bool:
    """Whether the workspace is ``place`` or lies below it; a loop of links holds nothing."""
    return Path(os.path.realpath(workspace)).is_relative_to(os.path.realpath(place))


def _check_beside(workspace: Path, place: Place) -> None:
    if holds(workspace / place.path, workspace):
        raise place.error(
            expected="a place beside the workspace's own files",
            found=f"'{place.path}', which holds the workspace itself",
            where=f"{place.key} in params.yaml",
            remedy="Move the images into a folder of their own, such as data/target, and name that.",
        )
