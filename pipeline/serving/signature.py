"""The signature of a published bundle: who vouches for which bytes.

``model.sig`` lies in the bundle and is what OpenSSF model signing writes: a Sigstore bundle around a DSSE envelope
around an in-toto statement, which lists the sha256 of every other file, signed with an elliptic-curve key. Any tool
that reads the format can check it, see ``docs/signing.md``.

OpenSSF's library signs. It would verify too, but takes over a second of imports to do so (keyless signing comes with
them), and ``graftline predict`` verifies each time; the little that a local key asks for is written out here, and tests
hold it against the library. It is the stricter of the two: no file may be left out, and no older form is read.

>>> from pipeline.serving import signing_key
>>> sign(folder, private_key)                                      # doctest: +SKIP
>>> verify(folder, signing_key.PublicKey.load(public_file)).files  # doctest: +SKIP
18
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Base64Bytes, BaseModel, Field, ValidationError

from pipeline.core import digests
from pipeline.core.errors import BundleError
from pipeline.serving.layout import MODEL, SIGNATURE

if TYPE_CHECKING:
    from pipeline.serving.signing_key import PublicKey

STATEMENT = "application/vnd.in-toto+json"


class Signed(NamedTuple):
    """What :func:`verify` has proven."""

    files: int
    """Every file of the bundle but the signature."""
    fingerprint: str
    """Of the key that signed it."""


def sign(folder: Path, private_key: Path) -> None:
    """Write ``model.sig`` over every other file in ``folder``; one that is there is replaced."""
    from model_signing import hashing, signing

    # by default it would leave out git's files, so that one could be added unnoticed
    every_file = hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
    signer = signing.Config().use_elliptic_key_signer(private_key=private_key).set_hashing_config(every_file)
    signer.sign(folder, folder / SIGNATURE)


def is_signed(folder: Path) -> bool:
    """Whether it holds a signature; nothing is said of what that is worth."""
    return (folder / SIGNATURE).is_file()


def verify(folder: Path, key: PublicKey) -> Signed:
    """Prove that ``key`` has signed exactly the files in ``folder``. None of them is parsed, but the signature.

    Raises:
        BundleError: there is no signature, it is damaged or another key's, or a file was changed, added or removed.
    """
    folder = folder.resolve()
    if not is_signed(folder):
        raise unsigned(folder)
    listed = _listed(folder, key)
    differences = _differences(folder, listed)
    if differences:
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        raise BundleError(
            expected=f"every file as {key.shown} has signed it",
            found=differences[0] + more,
            where=str(folder),
            remedy="Do not use the bundle; copy it again from where it was published.",
        )
    return Signed(len(listed), key.fingerprint)


def digest_of_content(folder: Path) -> str:
    """:func:`pipeline.core.digests.of_path` of the bundle without its signature, which is another each time."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / SIGNATURE]
    return digests.of_json([(path.relative_to(folder).as_posix(), digests.of_file(path)) for path in files])


def unsigned(folder: Path) -> BundleError:
    """What to say of a bundle without a signature."""
    return BundleError(
        expected=f"a signed bundle, with {SIGNATURE} beside {MODEL}",
        found=f"no {SIGNATURE}",
        where=str(folder),
        remedy="A bundle is signed when it is handed off: graftline run, or graftline promote VERSION for one that an "
        "older Graftline has published.",
    )


# -- the file's form, in the format's names; what else it may hold is of no concern here -------------------------------


class _Hint(BaseModel):
    hint: str


class _Material(BaseModel):
    publicKey: _Hint | None = None


class _OneSignature(BaseModel):
    sig: Base64Bytes


class _Envelope(BaseModel):
    payload: Base64Bytes
    payloadType: Literal["application/vnd.in-toto+json"]
    signatures: list[_OneSignature] = Field(min_length=1, max_length=1)


class _Document(BaseModel):
    verificationMaterial: _Material
    dsseEnvelope: _Envelope


class _Resource(BaseModel):
    name: str
    algorithm: Literal["sha256"]
    digest: str


class _Serialization(BaseModel):
    method: Literal["files"]


class _Predicate(BaseModel):
    resources: list[_Resource]
    serialization: _Serialization


class _Statement(BaseModel):
    predicateType: Literal["https://model_signing/signature/v1.0"]
    predicate: _Predicate


def _listed(folder: Path, key: PublicKey) -> dict[str, str]:
    """The sha256 of each file as ``key`` has signed it; nothing of the list is read before that is proven."""
    try:
        document = _Document.model_validate_json((folder / SIGNATURE).read_bytes())
        _check_signer(folder, document.verificationMaterial.publicKey, key)
        payload = document.dsseEnvelope.payload
        if not key.has_signed(_as_signed(payload), document.dsseEnvelope.signatures[0].sig):
            raise _damaged(folder)
        resources = _Statement.model_validate_json(payload).predicate.resources
    except ValidationError:
        raise _damaged(folder) from None
    return {resource.name: resource.digest for resource in resources}


def _as_signed(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding (https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md)."""
    return f"DSSEv1 {len(STATEMENT)} {STATEMENT} {len(payload)} ".encode() + payload


def _check_signer(folder: Path, signer: _Hint | None, key: PublicKey) -> None:
    """Whose signature it says it is: told before the proof, which would say only that it failed."""
    if signer is None:
        raise BundleError(
            expected=f"a signature by {key.shown}",
            found="one that was not made with a key (keyless, or with a certificate)",
            where=str(folder / SIGNATURE),
            remedy="Check it with model_signing, as docs/signing.md tells.",
        )
    if signer.hint != key.fingerprint:
        raise BundleError(
            expected=f"a signature by {key.shown}",
            found=f"one by another key, {signer.hint[:12]}…",
            where=str(folder / SIGNATURE),
            remedy="If you trust that key, give its public half with --key FILE; if not, do not use the bundle.",
        )


def _differences(folder: Path, listed: dict[str, str]) -> list[str]:
    """How the files differ from those that were signed, in words. A link's target would not be in the bundle."""
    inside = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
    present = {path.relative_to(folder).as_posix(): path for path in inside if path != folder / SIGNATURE}
    odd = [name for name, path in present.items() if path.is_symlink() or not path.is_file()]
    return [
        *(f"{name}, which is no plain file" for name in odd),
        *(f"{name}, which is missing" for name in sorted(listed.keys() - present.keys())),
        *(f"{name}, which was added" for name in sorted(present.keys() - listed.keys() - set(odd))),
        *(
            f"{name}, which was changed"
            for name in sorted((present.keys() & listed.keys()) - set(odd))
            if digests.of_file(present[name]) != listed[name]
        ),
    ]


def _damaged(folder: Path) -> BundleError:
    return BundleError(
        expected=f"a whole {SIGNATURE}, as it was written when the bundle was handed off",
        found="one that is damaged, or of another form",
        where=str(folder / SIGNATURE),
        remedy="Do not use the bundle; copy it again from where it was published.",
    )
