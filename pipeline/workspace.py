"""Making a workspace."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline import params
from pipeline.core import files
from pipeline.core.errors import ParamsError, WorkspaceError
from pipeline.graph import dvcfile, outside

TEMPLATES = Path(__file__).parent / "templates"
PRESETS = ("digits", "photos")
TABLES = (".csv", ".parquet")


def create(
    folder: Path, *, target: str | None, source: str | None, preset: str | None, version_data: bool
) -> Iterator[str]:
    """Make a workspace in ``folder``, yielding a line for each thing done. Never overwrites one.

    Raises:
        WorkspaceError: there is one already, or the folder cannot be written to.
        ParamsError: no such preset.
        DataError: ``target`` or ``source`` does not exist.
    """
    name = preset or ("photos" if target else "digits")
    if name not in PRESETS:
        raise ParamsError(
            expected=f"a preset: {', '.join(PRESETS)}", found=f"'{name}'", where="--from", remedy="Name one of them."
        )
    _refuse_existing(folder)
    places = {
        domain: _checked(path, domain, folder)
        for domain, path in (("target", target), ("source", source))
        if path is not None
    }
    _make(folder)
    yield from _initialise_git_and_dvc(folder)
    if version_data:
        places = {domain: _under_dvc(folder, path, domain) for domain, path in places.items()}
    _write_files(folder, name, places)
    yield f"workspace made in {folder}: params.yaml (start here), dvc.yaml, prefect.yaml"
    if source is not None and params.load(folder).train.strategy.name == "probe":
        yield (
            "note: train.strategy.name is probe, which learns from the target's labels where there are any; "
            "auto tries what learns from both"
        )
    yield f"next: graftline doctor -C {_quoted(folder)}, then graftline run -C {_quoted(folder)}"


def _refuse_existing(folder: Path) -> None:
    if (folder / params.FILE).exists():
        raise WorkspaceError(
            expected="a folder that is not yet a workspace",
            found=f"{params.FILE} in {folder}",
            where="graftline init",
            remedy=f"Run it as it is (graftline run -C {_quoted(folder)}), or choose another folder.",
        )


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise WorkspaceError(
            expected="a folder that can be written to",
            found=f"{folder}: {error.strerror or error}",
            where="graftline init",
            remedy="Choose another folder, or change its owner or mode.",
        ) from error


def _checked(path: str, domain: str, folder: Path) -> Path:
    from pipeline.core.errors import DataError

    place = Path(path).expanduser().resolve()
    if not path or not place.exists():
        raise DataError(
            expected="a folder of images, or a CSV or Parquet table",
            found=f"'{path}', which does not exist" if path else "an empty path",
            where=f"--{domain}",
            remedy="Check the path.",
        )
    if place.is_file() and place.suffix.lower() not in TABLES:
        raise DataError(
            expected="a folder of images, or a CSV or Parquet table",
            found=f"the file '{path}'",
            where=f"--{domain}",
            remedy="Unpack an archive first, and name the folder.",
        )
    watched = place.parent if place.is_file() else place
    if outside.holds(watched, folder):
        raise DataError(
            expected="a workspace outside the folder of the images or of their table: each run changes the one and "
            "looks for changes in all of the other",
            found=f"the workspace {folder} inside {watched}",
            where=f"--{domain}",
            remedy="Make the workspace somewhere else, or move the images into a folder of their own inside it.",
        )
    return place


def _initialise_git_and_dvc(folder: Path) -> Iterator[str]:
    if not _succeeds(["git", "rev-parse", "--git-dir"], folder):
        _call(["git", "init", "--quiet"], folder)
        yield "git initialised"
    if not (folder / ".dvc").exists():
        is_top = (folder / ".git").exists()
        _call([sys.executable, "-m", "dvc", "init", "--quiet", *([] if is_top else ["--subdir"])], folder)
        _call([sys.executable, "-m", "dvc", "config", "core.analytics", "false"], folder)
        yield "DVC initialised"


def _under_dvc(folder: Path, place: Path, domain: str) -> Path:
    """Put the images under DVC: added where they are inside the workspace, imported where they are not."""
    if place.is_relative_to(folder.resolve()):
        _call([sys.executable, "-m", "dvc", "add", "--quiet", str(place)], folder)
        return place
    imported = folder.resolve() / "data" / domain  # DVC is called in the folder
    imported.parent.mkdir(parents=True, exist_ok=True)
    _call([sys.executable, "-m", "dvc", "import-url", "--quiet", str(place), str(imported)], folder)
    return imported


def _write_files(folder: Path, preset: str, places: dict[str, Path]) -> None:
    from pipeline.release.pin import ensure_pins

    document = _filled(folder, preset, places)
    model = document["model"]
    with files.replacing(folder / params.FILE) as fresh:
        params.dump(document, fresh)
    params.write_schema(folder)
    prefect = (TEMPLATES / "prefect.yaml").read_text(encoding="utf-8")
    named = prefect.replace("retrain/digits", f"retrain/{model}").replace("name: digits ", f'name: "{model}" ')
    files.write_text(folder / "prefect.yaml", named)
    _append(folder / ".gitignore", TEMPLATES / "gitignore")
    _append(folder / ".dvcignore", TEMPLATES / "dvcignore")
    ensure_pins(folder)
    dvcfile.write(folder, params.load(folder))


def _filled(folder: Path, preset: str, places: dict[str, Path]) -> Any:
    """The preset's params.yaml, comments kept, with the user's places in it."""
    document = params.read(TEMPLATES / f"{preset}.yaml")
    if places:
        document["model"] = re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.resolve().name).strip("-._") or "model"
        document["ingest"]["source"] = None
    for domain, place in places.items():
        inside = place.is_relative_to(folder.resolve())
        path = place.relative_to(folder.resolve()).as_posix() if inside else str(place)
        kind = "table" if place.suffix.lower() in TABLES else "image_folder"
        document["ingest"][domain] = {"name": kind, "path": path}
    params.parse(document, where=f"preset {preset}")
    return document


def _append(path: Path, template: Path) -> None:
    """Add the template's lines that the file does not have yet."""
    present = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    missing = [line for line in template.read_text(encoding="utf-8").splitlines() if line not in present]
    files.write_text(path, "\n".join([*present, *missing]) + "\n")


def _succeeds(command: list[str], folder: Path) -> bool:
    try:
        return subprocess.run(command, cwd=folder, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def _call(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        done = None
    if done is None or done.returncode:
        raise WorkspaceError(
            expected=f"`{' '.join(command[:4])}` to succeed",
            found=_said(done) if done else f"no command '{command[0]}'",
            where=str(folder),
            remedy="Mend what it says (git must be installed, the folder writable), then run graftline init again.",
        )


def _said(done: subprocess.CompletedProcess[str]) -> str:
    """What a command that failed gave as its reason; some give none where they are to be quiet."""
    return (done.stderr.strip() or done.stdout.strip()) or f"exit code {done.returncode}, and no word"


def _quoted(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))
