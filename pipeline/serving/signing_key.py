"""The elliptic-curve key that signs bundles: where its halves lie, and making one.

The private half is a file that only its owner may read. A workspace that names none gets one of its own on first
need, in the folder that git and DVC pass over. The public half lies there too; it is what others verify by.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

from pipeline.core import digests
from pipeline.core.errors import BundleError, ParamsError
from pipeline.core.files import replacing, write_bytes

OWN = ".graftline/signing_key.pem"
"""Where a workspace keeps its own, if params.yaml names no other."""

PUBLIC = ".graftline/signing_key.pub"
"""The public half of whichever key the workspace signs with."""

CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""Those that the signature's format knows, as ``openssl ecparam -list_curves`` names them."""

OTHERS = 0o077
"""What a mode must not grant: anything to the group or to others."""


@dataclass(frozen=True)
class PublicKey:
    """A public key to verify by."""

    key: EllipticCurvePublicKey
    fingerprint: str
    """sha256 of the key as PEM, 64 hex digits: what ``sha256sum`` says of the file that Graftline writes."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read it.

        Raises:
            BundleError: nothing is there, or it is not the public half of an elliptic-curve key.
        """
        if not path.is_file():
            raise BundleError(
                expected="the public key of who signed the bundle",
                found="nothing there",
                where=str(path),
                remedy="Give it with --key FILE, or name the workspace that signed it with -C.",
            )
        key = _public_half(path)
        return cls(key, digests.of_bytes(_as_pem(key)))

    def has_signed(self, content: bytes, signature: bytes) -> bool:
        """ECDSA, over the digest that the format has with each curve."""
        digest = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384(), "secp521r1": hashes.SHA512()}
        try:
            self.key.verify(signature, content, ec.ECDSA(digest[self.key.curve.name]))
        except InvalidSignature:
            return False
        return True

    @property
    def shown(self) -> str:
        return f"the key {self.fingerprint[:12]}…"


def ensure(workspace: Path, named: str | None) -> Path:
    """The private key of this workspace, made where it has none; its public half is written beside the state.

    Args:
        workspace: the workspace.
        named: ``publish.signing_key``; None for the workspace's own.

    Raises:
        ParamsError: the key that params.yaml names is not there, or either cannot be signed with.
    """
    check(workspace, named)
    place = _place(workspace, named)
    if not place.exists():
        _make(place)
    public, pem = workspace / PUBLIC, _as_pem(_private_half(place).public_key())
    if not public.is_file() or public.read_bytes() != pem:
        write_bytes(public, pem)
    return place


def check(workspace: Path, named: str | None) -> None:
    """See that a bundle will be signed, and make nothing: better known before hours of training than after.

    Raises:
        ParamsError: as :func:`ensure`.
    """
    place = _place(workspace, named)
    if place.exists():
        _check_private(place)
        _private_half(place)
    elif named is not None:
        raise _unusable(place, "nothing there", f"Put the key there, or make one: {_recipe(place)}")
    elif (workspace / PUBLIC).exists():
        # a new one would sign in another name, and everybody who verifies by the old one would be turned away
        raise _unusable(
            place,
            f"only its public half ({PUBLIC})",
            f"Bring the private half back from a backup; or remove {PUBLIC}, and the next run makes a new key.",
        )


def public(workspace: Path) -> Path:
    """Where the public half of the workspace's key lies."""
    return workspace / PUBLIC


def _place(workspace: Path, named: str | None) -> Path:
    return workspace / (OWN if named is None else Path(named).expanduser())  # an absolute one stays as it is


def _make(place: Path) -> None:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with (
        replacing(place) as fresh,
        os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
    ):
        file.write(pem)


def _check_private(place: Path) -> None:
    mode = place.stat().st_mode & 0o777
    if mode & OTHERS:
        raise _unusable(place, f"one that others may read (mode {mode:04o})", f"chmod 600 {place}")


def _private_half(place: Path) -> EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(place.read_bytes(), password=None)
    except (ValueError, TypeError):  # TypeError: it is encrypted
        raise _unusable(place, "another file, or an encrypted key", f"Make one: {_recipe(place)}") from None
    if getattr(getattr(key, "curve", None), "name", "") not in CURVES:
        raise _unusable(place, "a key of another kind", f"Make one: {_recipe(place)}")
    return key  # type: ignore[return-value]  # it has one of the curves


def _public_half(path: Path) -> EllipticCurvePublicKey:
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except ValueError:
        key = None
    if getattr(getattr(key, "curve", None), "name", "") not in CURVES:
        raise BundleError(
            expected=f"the public half of an elliptic-curve key ({', '.join(CURVES)}), as PEM",
            found="something else",
            where=str(path),
            remedy=f"Give the {Path(PUBLIC).name} of the workspace that signed the bundle.",
        )
    return key  # type: ignore[return-value]  # it has one of the curves


def _as_pem(key: EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _recipe(place: Path) -> str:
    return f"openssl ecparam -name prime256v1 -genkey -noout -out {place} && chmod 600 {place}"


def _unusable(place: Path, found: str, remedy: str) -> ParamsError:
    return ParamsError(
        expected="an elliptic-curve private key (PEM, unencrypted, mode 0600) to sign bundles with",
        found=found,
        where=f"{place} (publish.signing_key in params.yaml)",
        remedy=remedy,
    )
