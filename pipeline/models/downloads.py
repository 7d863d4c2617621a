"""Checkpoints from elsewhere, brought to a file on this machine whose digest is proven."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import urlsplit

import httpx

from pipeline.core import digests, web
from pipeline.core.errors import ServiceError, WeightsError
from pipeline.core.files import replacing
from pipeline.core.lean_imports import without_compiler
from pipeline.core.progress import Meter
from pipeline.core.redaction import redact
from pipeline.core.secrets import filled
from pipeline.core.web import Remedies, Rules
from pipeline.data.preprocessing import Preprocessing
from pipeline.models.backbones import Backbone
from pipeline.models.checkpoints import SUFFIXES, verify

TIMEOUT_S = 30.0
"""Longest wait for a connection or for the next bytes; a whole download may take longer."""

WHOLE_S = 4 * 3600.0
"""Longest time for a whole download: a server that sends a byte now and then must not hold a run for ever."""

MAX_BYTES = 8 * 10**9
"""Largest checkpoint that is fetched; the largest that torchvision publishes has 4.9 GB."""

MAX_HOPS = 5
"""How often a server may send us on."""

AS_IT_IS = {"accept-encoding": "identity"}
"""An answer that the server has packed may be a thousand times larger when it is unpacked."""

LONGEST_NAME = 200
"""Characters of a file's name that every file system takes."""

MLFLOW_SCHEMES = ("runs", "models", "mlflow-artifacts")
"""Those that stay with the tracking store; MLflow would ask any address under the others."""


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
    with without_compiler():
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
    url, digest = checkpoint.url, checkpoint.digest_prefix
    return _hub_copy(checkpoint) or from_url(url, digest, cache, where, remedies=_of_torchvision(url))


def torchvision_is_here(checkpoint: Published, cache: Path) -> bool:
    """Whether :func:`from_torchvision` would find the file on this machine."""
    return _hub_copy(checkpoint) is not None or kept_at(checkpoint.url, checkpoint.digest_prefix, cache).is_file()


def torchvision_bytes(checkpoint: Published, where: str) -> int | None:
    """As :func:`size_of` says of the checkpoint's address."""
    return size_of(checkpoint.url, where, remedies=_of_torchvision(checkpoint.url))


def _hub_copy(checkpoint: Published) -> Path | None:
    import torch

    copy = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(checkpoint.url).path).name
    return copy if copy.is_file() and digests.of_file(copy).startswith(checkpoint.digest_prefix) else None


def _of_torchvision(url: str) -> Remedies:
    """Of an address that torchvision names, not the user: there is nothing to set beside it."""
    by_hand = "download the file yourself and set weights: {file: PATH}"
    return Remedies(
        scheme=f"The server sends us on to another address: {by_hand}.",
        private=f"If a mirror of your own is meant, set weights: {{url: '{url}', sha256: …, allow_private: true}}; "
        f"otherwise {by_hand}.",
        hops=f"The server sends us on too often: {by_hand}.",
    )


def _of_url(insecure: bool) -> Remedies:
    return Remedies(
        scheme="Correct the url: it begins with https:// or http://, then a host."
        if insecure
        else "Use https, or set insecure: true beside the url for a server of your own "
        "(the sha256 is checked all the same).",
        private="If that server is yours and meant, set allow_private: true beside the url.",
    )


def from_url(
    url: str,
    sha256: str,
    cache: Path,
    where: str,
    *,
    insecure: bool = False,
    allow_private: bool = False,
    max_bytes: int = MAX_BYTES,
    remedies: Remedies | None = None,
) -> Path:
    """Download ``url`` once; later calls find it in ``cache`` under its digest.

    ``$NAME`` in the address is taken from the environment. Each redirect is checked as the address itself is.

    Args:
        insecure: http too.
        allow_private: servers on this machine and in private networks too.
        max_bytes: a larger file is not fetched.
        remedies: of an address that is refused; None: those of ``{url: …}`` in params.yaml.

    Raises:
        WeightsError: an address that may not be asked, a refusal by the server, too large, or not the digest asked for.
        ParamsError: a variable that the address names is not set.
        ServiceError: the server cannot be reached, or takes too long.
    """
    address, rules = _terms(url, where, insecure, allow_private, remedies)
    web.check_scheme(address, rules)
    kept = kept_at(url, sha256, cache)
    if not kept.is_file():
        with replacing(kept) as fresh:
            _stream(address, fresh, rules, max_bytes)
            verify(fresh, sha256, where)
    verify(kept, sha256, where)
    return kept


def size_of(
    url: str,
    where: str,
    *,
    insecure: bool = False,
    allow_private: bool = False,
    max_bytes: int = MAX_BYTES,
    remedies: Remedies | None = None,
) -> int | None:
    """Ask for the file, and how many bytes it has, without fetching it; None where the server does not say.

    The request is a download's that ends after the headers: an address with a signature in it may allow no other.

    Raises:
        WeightsError, ParamsError, ServiceError: what :func:`from_url` would raise by then.
    """
    address, rules = _terms(url, where, insecure, allow_private, remedies)
    with _answer(address, rules) as response:
        return _told_size(response, _Limit(max_bytes, rules.show(address), where)) or None


def kept_at(url: str, sha256: str, cache: Path) -> Path:
    """Where a download lies."""
    return cache / "downloads" / sha256.lower() / _file_name(url)


def _terms(url: str, where: str, insecure: bool, allow_private: bool, remedies: Remedies | None) -> tuple[str, Rules]:
    """The address with its variables filled in, and by which rules it is asked."""
    address = filled(url, where)

    def shown(hop: str) -> str:
        """The address as it is written, and of others the host: a path may hold a secret as well as a query."""
        return web.without_secrets(url if hop == address else hop, path=hop == address)

    return address, Rules(
        WeightsError,
        where,
        remedies or _of_url(insecure),
        schemes=("https", "http") if insecure else ("https",),
        private=allow_private,
        hops=MAX_HOPS,
        wait_s=TIMEOUT_S,
        whole_s=WHOLE_S,
        shown=shown,
    )


def _file_name(url: str) -> str:
    """The last part of the address's path; never one that leads elsewhere."""
    name = Path(urlsplit(url).path).name
    return name if name not in ("", "..") and len(name) <= LONGEST_NAME else "weights"


def _stream(url: str, path: Path, rules: Rules, max_bytes: int) -> None:
    with _answer(url, rules) as response, path.open("wb") as file:
        _receive(response, file, _Limit(max_bytes, rules.show(url), rules.where))


@contextmanager
def _answer(url: str, rules: Rules) -> Iterator[httpx.Response]:
    """A file's server's answer; what goes wrong with it, also in the block, is told as a fault of the weights."""
    shown = rules.show(url)
    try:
        with web.answer("GET", url, rules, headers=AS_IT_IS) as response:
            response.raise_for_status()
            yield response
    except httpx.HTTPStatusError as error:
        raise WeightsError(
            expected="a file to download",
            found=f"status {error.response.status_code} from {shown}",
            where=rules.where,
            remedy="Correct the address, or download the file yourself and set weights: {file: PATH}.",
        ) from None  # httpx's message has the whole address
    except httpx.InvalidURL:
        raise WeightsError(
            expected="an https:// address", found=f"'{shown}'", where=rules.where, remedy="Correct the address."
        ) from None
    except (httpx.HTTPError, web.TooSlowError) as error:
        raise ServiceError(
            f"Could not download {shown}: {redact(str(error)) or type(error).__name__}.\n"
            "  remedy: try again, or download the file elsewhere and set backbone.weights: {file: PATH}."
        ) from None


class _Limit(NamedTuple):
    """The largest file that is fetched."""

    bytes: int
    shown: str
    where: str

    def check(self, size: int, found: str) -> None:
        if size > self.bytes:
            raise WeightsError(
                expected=f"a file of at most {self.bytes / 1e6:,.0f} MB",
                found=f"{found} from {self.shown}",
                where=self.where,
                remedy="Correct the address, or download the file yourself and set weights: {file: PATH}.",
            )


def _receive(response: httpx.Response, file: BinaryIO, limit: _Limit) -> None:
    """Write the body block by block, and stop where it grows too large, whatever its header says."""
    packed = response.headers.get("content-encoding", "identity")
    if packed != "identity":
        raise WeightsError(
            expected="the file as it is",
            found=f"one that the server has packed ({packed}) from {limit.shown}",
            where=limit.where,
            remedy="Download the file yourself and set weights: {file: PATH}.",
        )
    meter, received = Meter(what="download", unit="kB", total=_told_size(response, limit) // 1000), 0
    try:
        for block in response.iter_raw():
            received += len(block)
            limit.check(received, f"more than {limit.bytes / 1e6:,.0f} MB")
            file.write(block)
            meter.advance(received // 1000 - meter.done)
    finally:
        meter.close()


def _told_size(response: httpx.Response, limit: _Limit) -> int:
    """Bytes, by the header; 0 where there is none."""
    told = response.headers.get("content-length", "")
    size = int(told) if told.isdecimal() else 0
    limit.check(size, f"{size / 1e6:,.0f} MB")
    return size


def mlflow_is_here(sha256: str, cache: Path) -> bool:
    """Whether :func:`from_mlflow` would find the file on this machine."""
    return _mlflow_copy(sha256, cache).is_dir()


def _mlflow_copy(sha256: str, cache: Path) -> Path:
    return cache / "downloads" / f"mlflow-{sha256.lower()}"


def from_mlflow(uri: str, sha256: str, cache: Path, where: str, *, tracking_uri: str | None) -> Path:
    """A checkpoint kept as an MLflow artifact: ``runs:/…/weights.safetensors``, ``models:/name/3/…``.

    It is looked for in the store at ``tracking_uri``, a resolved address. Fetched once; later calls find it in
    ``cache`` under its digest.

    Raises:
        WeightsError: an address that leads away from the store, no store is named, it has nothing there, a folder that
            does not hold exactly one checkpoint, or not the digest asked for.
    """
    _check_artifact(uri, where, tracking_uri)
    if tracking_uri is None:
        raise WeightsError(
            expected=f"a tracking store to look for {web.without_secrets(uri)} in",
            found="none",
            where=where,
            remedy="Set tracking.uri in params.yaml, or MLFLOW_TRACKING_URI.",
        )
    kept = _mlflow_copy(sha256, cache)
    if not kept.is_dir():
        with replacing(kept) as fresh:
            _download_artifacts(uri, fresh, where, tracking_uri)
            verify(_only_checkpoint(fresh, uri, where), sha256, where)
    found = _only_checkpoint(kept, uri, where)
    verify(found, sha256, where)
    return found


def _check_artifact(uri: str, where: str, tracking_uri: str | None) -> None:
    """The artifact lies with the store: MLflow would follow other addresses to wherever they lead."""
    parts = urlsplit(uri)
    store = urlsplit(tracking_uri or "").netloc.rpartition("@")[2]
    is_elsewhere = parts.scheme == "mlflow-artifacts" and parts.netloc not in ("", store)
    if parts.scheme not in MLFLOW_SCHEMES or is_elsewhere:
        raise WeightsError(
            expected="an artifact of the tracking store: runs:/…, models:/… or mlflow-artifacts:/…",
            found=web.without_secrets(uri),
            where=where,
            remedy="Use one of those, or {file: PATH} or {url: …, sha256: …}.",
        )


def _download_artifacts(uri: str, into: Path, where: str, tracking_uri: str) -> None:
    from mlflow import artifacts
    from mlflow.exceptions import MlflowException

    try:
        # Both addresses are named: MLflow would else make a database of its own in the current folder.
        artifacts.download_artifacts(
            artifact_uri=uri, dst_path=os.fspath(into), tracking_uri=tracking_uri, registry_uri=tracking_uri
        )
    except (MlflowException, OSError) as error:
        shown, said = web.without_secrets(uri), (str(error).splitlines() or [type(error).__name__])[0]
        said = said.replace(uri, shown).replace(tracking_uri, web.without_secrets(tracking_uri))
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
            found=f"{len(found)} below {web.without_secrets(uri)}",
            where=where,
            remedy="Add the file's name to the address.",
        )
    return found[0]
