"""Versions of one registered model and the aliases ``champion``, ``challenger`` and ``previous``.

A version is an ONNX file as an ``mlflow.onnx`` model; what is stored is byte for byte the file that was judged, and its
sha256 is a tag that every load checks. ``mlflow models serve -m models:/NAME@champion`` answers from it.

MLflow's aliases are last-write-wins. Every change here compares before it swaps, under a lock that all workspaces of
the registry share: :mod:`pipeline.tracking.alias_lock`.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from pipeline.core import digests
from pipeline.core.errors import ChampionMovedError, RegistryError
from pipeline.tracking.alias_lock import alias_lock, lock_file
from pipeline.tracking.session import Session, asking_mlflow

if TYPE_CHECKING:
    import numpy as np
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature
    from onnx import ModelProto

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
HELD_TAG = "held"
"""A version's tag: why it was not promoted."""

MODEL_FILE = "model.onnx"
EXAMPLE_SIDE_PX = 32


@dataclass(frozen=True)
class Version:
    """One registered version; ``tags`` holds at least ``sha256``."""

    number: int
    sha256: str
    aliases: tuple[str, ...]
    run_id: str
    created: datetime
    tags: Mapping[str, str]

    def __str__(self) -> str:
        return f"v{self.number}"


def that_is(alias: str, versions: Iterable[Version]) -> Version | None:
    """The one of ``versions`` that an alias points at, or None."""
    return next((version for version in versions if alias in version.aliases), None)


class Registry:
    """The versions of the model ``name``."""

    def __init__(self, session: Session, name: str) -> None:
        self.session, self.name = session, name
        self._client = session.client

    # -- reading -------------------------------------------------------------------------------------------------------

    @asking_mlflow("list the versions")
    def versions(self) -> list[Version]:
        """All versions, oldest first; empty where nothing was registered yet."""
        aliases = self._aliases()
        found = self._client.search_model_versions(f"name='{self.name}'", max_results=10_000)
        return sorted((_version(entry, aliases) for entry in found), key=lambda version: version.number)

    def version(self, number: int) -> Version:
        """One version by its number.

        Raises:
            RegistryError: there is no such version; the message lists those there are.
        """
        versions = self.versions()
        for version in versions:
            if version.number == number:
                return version
        known = ", ".join(str(version) for version in versions) or "none yet"
        raise RegistryError(
            expected=f"a version of '{self.name}' ({known})",
            found=f"v{number}",
            where=f"the registry at {self.session.shown_uri}",
            remedy="graftline models lists them; graftline run makes a new one.",
        )

    def at(self, alias: str) -> Version | None:
        """The version an alias points at, or None."""
        return that_is(alias, self.versions())

    def require(self, alias: str) -> Version:
        """The version an alias points at.

        Raises:
            RegistryError: the alias is not set.
        """
        version = self.at(alias)
        if version is None:
            raise RegistryError(
                expected=f"a {alias} of '{self.name}'",
                found="none" if self.versions() else f"no version of '{self.name}' at all",
                where=f"the registry at {self.session.shown_uri}",
                remedy="graftline models lists the versions; graftline run makes one, graftline promote VERSION "
                "makes one the champion.",
            )
        return version

    @asking_mlflow("hand out the model file")
    def fetch(self, version: Version, into: Path) -> Path:
        """Copy the version's ONNX file to ``into/model.onnx`` and check its digest.

        Raises:
            RegistryError: the stored file is not there, or not the one that was registered.
        """
        from mlflow import MlflowException
        from mlflow.artifacts import download_artifacts

        stored = self._client.get_model_version_download_uri(self.name, str(version.number))
        try:
            path = download_artifacts(
                artifact_uri=f"{stored}/{MODEL_FILE}", dst_path=str(into), tracking_uri=self.session.uri
            )
        except (MlflowException, OSError) as error:
            raise self._unusable(version, stored, f"nothing usable there ({type(error).__name__})") from None
        found = digests.of_file(Path(path))
        if found != version.sha256:
            raise self._unusable(version, stored, f"a file with sha256 {found[:12]}…")
        return Path(path)

    def _unusable(self, version: Version, stored: str, found: str) -> RegistryError:
        return RegistryError(
            expected=f"the model of {self.name} {version}, sha256 {version.sha256[:12]}…",
            found=found,
            where=stored,
            remedy="Put the stored file back from a backup (was the workspace moved?), or register it again with "
            "graftline run.",
        )

    # -- registering ---------------------------------------------------------------------------------------------------

    def register(self, model: Path, run_id: str, tags: Mapping[str, str]) -> Version:
        """The version that holds exactly this ONNX file, made if there is none; ``tags`` are set on it either way.

        Args:
            model: a self-contained ONNX file.
            run_id: the run that made it.
            tags: what is known of it, e.g. ``verdict``, ``data_digest``.
        """
        sha256 = digests.of_file(model)
        with FileLock(lock_file(self.session)):
            number = self._number_of(sha256) or self._create(model, sha256, run_id)
            number = self._first_of(sha256, number)
            self.tag(number, tags)
            return self.version(number)

    def _number_of(self, sha256: str) -> int | None:
        return next((version.number for version in self.versions() if version.sha256 == sha256), None)

    @asking_mlflow("remove a version that was registered twice")
    def _first_of(self, sha256: str, number: int) -> int:
        """On a server another workspace may have registered the same file at the same time. Numbers are given in order,
        so that the later one sees the earlier one: that one stays, and the later removes its own."""
        first = self._number_of(sha256)
        if first is None or first == number:
            return number
        self._client.delete_model_version(self.name, str(number))
        return first

    @asking_mlflow("register the model")
    def _create(self, model: Path, sha256: str, run_id: str) -> int:
        self._ensure_model()
        logged = self._client.create_logged_model(
            self.session.experiment_id, name=self.name, source_run_id=run_id, tags={"sha256": sha256}, model_type="onnx"
        )
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch, "model")
            _save_flavour(model, folder, logged.model_id, run_id, logged.artifact_location)
            self._client.log_model_artifacts(logged.model_id, str(folder))
        self._client.finalize_logged_model(logged.model_id, "READY")
        # A database store looks models:/ up through MLflow's process-wide URI, which is not ours: give it the place.
        source = f"models:/{logged.model_id}" if self.session.is_server else logged.artifact_location
        created = self._client.create_model_version(
            self.name, source, run_id=run_id, tags={"sha256": sha256}, model_id=logged.model_id
        )
        return int(created.version)

    def _ensure_model(self) -> None:
        from mlflow import MlflowException

        try:
            self._client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    @asking_mlflow("tag the version")
    def tag(self, number: int, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self._client.set_model_version_tag(self.name, str(number), key, value)

    @asking_mlflow("remove a tag of the version")
    def untag(self, number: int, *keys: str) -> None:
        for key in set(keys) & set(self.version(number).tags):
            self._client.delete_model_version_tag(self.name, str(number), key)

    # -- aliases -------------------------------------------------------------------------------------------------------

    def challenge(self, number: int) -> None:
        """Point ``challenger`` at a version, unless that is the champion already."""
        with alias_lock(self.session, self.name) as check:
            if CHAMPION not in self.version(number).aliases:
                check()
                self._point(CHALLENGER, number)

    def crown(self, champion: int | None, previous: int | None, *, expected_champion: int | None) -> None:
        """Point ``champion`` and ``previous`` at these versions (None removes an alias); a champion that was the
        challenger is challenger no more.

        Compare-and-swap: nothing changes unless the champion is still the expected one, or already the wanted one: a
        call that was interrupted between two aliases is finished by repeating it.

        Raises:
            RegistryError: a version does not exist.
            ChampionMovedError: the champion is another than expected.
        """
        with alias_lock(self.session, self.name) as check:
            for number in {champion, previous} - {None}:
                self.version(number)  # type: ignore[arg-type]
            self.compare(champion, expected_champion)
            for alias, number in ((PREVIOUS, previous), (CHAMPION, champion)):
                check()
                self._point(alias, number)
            if champion is not None and self._number_at(CHALLENGER) == champion:
                check()
                self._point(CHALLENGER, None)

    def unalias(self, alias: str, number: int) -> None:
        """Remove an alias if it points at this version."""
        with alias_lock(self.session, self.name) as check:
            if self._number_at(alias) == number:
                check()
                self._point(alias, None)

    def compare(self, *expected: int | None) -> None:
        """See that the champion is one of the expected versions; the last one is named in the message.

        Raises:
            ChampionMovedError: it is another.
        """
        found = self._number_at(CHAMPION)
        if found not in expected:
            raise self.moved(expected[-1], found)

    def moved(self, expected: int | None, found: int | None) -> ChampionMovedError:
        """The error for a decision against a champion of yesterday."""
        return ChampionMovedError(
            expected=f"{_shown(expected)} as champion of '{self.name}', the one this was decided against",
            found=_shown(found),
            where=f"the registry at {self.session.shown_uri}",
            remedy="Somebody moved the alias meanwhile; graftline run compares with the champion of now.",
        )

    def _number_at(self, alias: str) -> int | None:
        version = self.at(alias)
        return version.number if version else None

    @asking_mlflow("move an alias")
    def _point(self, alias: str, number: int | None) -> None:
        if number is not None:
            self._client.set_registered_model_alias(self.name, alias, str(number))
        elif alias in self._aliases():
            self._client.delete_registered_model_alias(self.name, alias)

    def _aliases(self) -> dict[str, int]:
        from mlflow import MlflowException

        try:
            aliases = self._client.get_registered_model(self.name).aliases
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return {}
            raise
        return {alias: int(number) for alias, number in aliases.items()}


def _shown(number: int | None) -> str:
    return "none" if number is None else f"v{number}"


def _version(entry: ModelVersion, aliases: Mapping[str, int]) -> Version:
    number = int(entry.version)
    return Version(
        number=number,
        sha256=entry.tags.get("sha256", ""),
        aliases=tuple(sorted(alias for alias, target in aliases.items() if target == number)),
        run_id=entry.run_id or "",
        created=datetime.fromtimestamp(entry.creation_timestamp / 1000, tz=UTC),
        tags=dict(entry.tags),
    )


# -- the mlflow.onnx flavour -------------------------------------------------------------------------------------------


def _save_flavour(model: Path, folder: Path, model_id: str, run_id: str, location: str) -> None:
    """Lay out ``folder`` as an ``mlflow.onnx`` model around the very bytes of ``model``.

    ``save_model`` writes the parsed file again, which need not give the same bytes, and with its defaults moves the
    weights out and leaves the object empty; so the original is put over what it wrote.
    """
    import mlflow.onnx
    import onnx
    from mlflow.models import Model

    proto = onnx.load(model)
    mlflow.onnx.save_model(
        proto,
        str(folder),
        mlflow_model=Model(artifact_path=location, run_id=run_id, model_id=model_id, model_uuid=model_id),
        signature=signature_of(proto),
        input_example={"images": _example()},
        pip_requirements=_requirements(),
        onnx_execution_providers=["CPUExecutionProvider"],  # the default asks for CUDA and warns where there is none
        save_as_external_data=False,
    )
    shutil.copyfile(model, folder / MODEL_FILE)


def signature_of(model: ModelProto) -> ModelSignature:
    """Names, types and shapes of an ONNX graph's inputs and outputs; an open dimension is -1."""
    from mlflow.models import ModelSignature
    from mlflow.types import Schema

    return ModelSignature(
        inputs=Schema([_tensor(value) for value in model.graph.input]),
        outputs=Schema([_tensor(value) for value in model.graph.output]),
    )


def _tensor(value: Any) -> Any:
    import onnx
    from mlflow.types import TensorSpec

    tensor = value.type.tensor_type
    shape = tuple(size.dim_value if size.HasField("dim_value") else -1 for size in tensor.shape.dim)
    return TensorSpec(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape, value.name)


def _example() -> np.ndarray:
    """What a request looks like: one black image, uint8 [1, height, width, 3]."""
    import numpy as np

    return np.zeros((1, EXAMPLE_SIDE_PX, EXAMPLE_SIDE_PX, 3), dtype=np.uint8)


def _requirements() -> list[str]:
    """What a server needs to answer, at the versions that were tried here."""
    return [f"{name}=={importlib.metadata.version(name)}" for name in ("mlflow", "onnx", "onnxruntime", "numpy")]
