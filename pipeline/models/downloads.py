"""Checkpoints from elsewhere, brought to a file on this machine whose digest is proven."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

import httpx

from pipeline.core import digests
from pipeline.core.errors import ServiceError, WeightsError
from pipeline.core.files import replacing
from pipeline.core.progress import Meter
from pipeline.data.preprocessing import Preprocessing
from pipeline.models.backbones import Backbone
from pipeline.models.checkpoints import SUFFIXES, verify

TIMEOUT_S = 30.0
"""Longest wait for a connection or for the next bytes; a whole download may take longer."""


class Published(NamedTuple):
    """One of torchvision's checkpoints."""

    url: str
    digest_prefix: str
    """First digits of the sha256, which torchvision writes into the file's name."""
    preprocessing: Preprocessing


def published(row: Backbone, weights_name: str, where: str) -> Published:
    """Look up torchvision's checkpoint ``weights_name`` for a backbone, with the sizes it was measured at.

    Raises:
        WeightsError: torchvision has no such checkpoint; the message lists those it has.
    """
    from torchvision import models

    known = models.get_model_weights(row.name).__members__ if row.home == "torchvision" else {}
    if weights_name not in known:
        raise WeightsError(
            expected=f"weights of {row.name}, one of: {', '.join(['pretrain', 'none', *known])}",
            found=f"'{weights_name}'",
            where=where,
            remedy="Use one of those, or {file: PATH}, {url: …, sha256: …} or {mlflow: …, sha256: …}.",
        )
    entry = known[weights_name]
    recipe = entry.transforms()
    prefix = re.search(r"-([0-9a-f]{8,})\.pth$", entry.url)
    if prefix is None:
        raise WeightsError(
            expected="a file name that carries its sha256",
            found=entry.url,
            where=where,
            remedy="Download it yourself and set weights: {file: PATH, sha256: …}.",
        )
    sizes = {"size_px": recipe.crop_size[0], "resize_px": recipe.resize_size[0]}
    return Published(entry.url, prefix.group(1), row.preprocessing.model_copy(update=sizes))


def from_torchvision(checkpoint: Published, cache: Path, where: str) -> Path:
    """The checkpoint's file: torch.hub's copy if this machine has one, else downloaded."""
    import torch

    hub_copy = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(checkpoint.url).path).name
    if hub_copy.is_file() and digests.of_file(hub_copy).startswith(checkpoint.digest_prefix):
        return hub_copy
    return from_url(checkpoint.url, checkpoint.digest_prefix, cache, where)


def from_url(url: str, sha256: str, cache: Path, where: str, *, insecure: bool = False) -> Path:
    """Download ``url`` once; later calls find it in ``cache`` under its digest.

    Raises:
        WeightsError: not https (and not ``insecure``), refused by the server, or not the digest asked for.
        ServiceError: the server cannot be reached.
    """
    _check_scheme(url, where, insecure=insecure)
    kept = cache / "downloads" / sha256.lower() / (Path(urlsplit(url).path).name or "weights")
    if not kept.is_file():
        with replacing(kept) as fresh:
            _stream(url, fresh, where)
            verify(fresh, sha256, where)
    verify(kept, sha256, where)
    return kept


def _check_scheme(url: str, where: str, *, insecure: bool) -> None:
    scheme = urlsplit(url).scheme
    if scheme != "https" and not (insecure and scheme == "http"):
        raise WeightsError(
            expected="an https:// address",
            found=_without_secrets(url),
            where=where,
            remedy="Use https, or set insecure: true for a server of your own (the sha256 is checked all the same).",
        )


def _stream(url: str, path: Path, where: str) -> None:
    try:
        with (
            httpx.stream("GET", url, follow_redirects=True, timeout=TIMEOUT_S) as response,
            path.open("wb") as file,
        ):
            response.raise_for_status()
            meter = Meter(what="download", unit="kB", total=int(response.headers.get("content-length", 0)) // 1000)
            for block in response.iter_bytes(1 << 20):
                file.write(block)
                meter.advance(len(block) // 1000)
            meter.close()
    except httpx.HTTPStatusError as error:
        raise WeightsError(
            expected="a file to download",
            found=f"status {error.response.status_code} from {_without_secrets(url)}",
            where=where,
            remedy="Correct the address, or download the file yourself and set weights: {file: PATH}.",
        ) from error
    except httpx.HTTPError as error:
        raise ServiceError(
            f"Could not download {_without_secrets(url)}: {error or type(error).__name__}.\n"
            "  remedy: try again, or download the file elsewhere and set backbone.weights: {file: PATH}."
        ) from error


def _without_secrets(url: str) -> str:
    """The address without user, password and query, which may hold tokens."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=host, query="", fragment=""))


def from_mlflow(uri: str, sha256: str, cache: Path, where: str, *, tracking_uri: str | None) -> Path:
    """A checkpoint kept as an MLflow artifact: ``runs:/…/weights.safetensors``, ``models:/name/3/…``.

    It is looked for in the store at ``tracking_uri``, a resolved address. Fetched once; later calls find it in
    ``cache`` under its digest.

    Raises:
        WeightsError: no store is named, it has nothing there, a folder that does not hold exactly one checkpoint, or
            not the digest asked for.
    """
    if tracking_uri is None:
        raise WeightsError(
            expected=f"a tracking store to look for {_without_secrets(uri)} in",
            found="none",
            where=where,
            remedy="Set tracking.uri in params.yaml, or MLFLOW_TRACKING_URI.",
        )
    kept = cache / "downloads" / f"mlflow-{sha256.lower()}"
    if not kept.is_dir():
        with replacing(kept) as fresh:
            _download_artifacts(uri, fresh, where, tracking_uri)
            verify(_only_checkpoint(fresh, uri, where), sha256, where)
    found = _only_checkpoint(kept, uri, where)
    verify(found, sha256, where)
    return found


def _download_artifacts(uri: str, into: Path, where: str, tracking_uri: str) -> None:
    from mlflow import artifacts
    from mlflow.exceptions import MlflowException

    try:
        # Both addresses are named: MLflow would else make a database of its own in the current folder.
        artifacts.download_artifacts(
            artifact_uri=uri, dst_path=os.fspath(into), tracking_uri=tracking_uri, registry_uri=tracking_uri
        )
    except (MlflowException, OSError) as error:
        shown, said = _without_secrets(uri), (str(error).splitlines() or [type(error).__name__])[0]
        said = said.replace(uri, shown).replace(tracking_uri, _without_secrets(tracking_uri))
        raise WeightsError(
            expected="an MLflow artifact",
            found=f"nothing usable at {shown} ({said})",
            where=where,
            remedy="Check the address, and tracking.uri in params.yaml.",
        ) from error


def _only_checkpoint(folder: Path, uri: str, where: str) -> Path:
    files = sorted(entry for entry in folder.rglob("*") if entry.is_file())
    found = files if len(files) == 1 else [file for file in files if file.suffix in SUFFIXES]
    if len(found) != 1:
        raise WeightsError(
            expected="one checkpoint file",
            found=f"{len(found)} below {_without_secrets(uri)}",
            where=where,
            remedy="Add the file's name to the address.",
        )
    return found[0]
