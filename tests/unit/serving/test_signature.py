"""The signature of a bundle: what holds is proven, and everything else is refused with its name."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature

from pipeline.core import digests
from pipeline.core.errors import BundleError, ParamsError
from pipeline.serving import signature, signing_key
from pipeline.serving.signing_key import PublicKey


@pytest.fixture(scope="module")
def workspaces(tmp_path_factory):
    """Two of them, each with a key of its own."""
    folders = [tmp_path_factory.mktemp(name) for name in ("ours", "theirs")]
    for folder in folders:
        signing_key.ensure(folder, None)
    return folders


@pytest.fixture
def ours(workspaces):
    return workspaces[0]


@pytest.fixture
def key(ours):
    return PublicKey.load(signing_key.public(ours))


@pytest.fixture
def folder(tmp_path, ours):
    """A signed folder; what its files hold is nobody's concern here."""
    path = tmp_path / "a bündle"
    (path / "golden").mkdir(parents=True)
    (path / "model.onnx").write_bytes(b"model")
    (path / "labels.txt").write_text("a\nb\n")
    (path / "golden/inputs.npz").write_bytes(b"inputs")
    signature.sign(path, ours / signing_key.OWN)
    return path


def refused(folder, key) -> BundleError:
    with pytest.raises(BundleError) as problem:
        signature.verify(folder, key)
    assert problem.value.remedy
    return problem.value


# -- what holds --------------------------------------------------------------------------------------------------------


def test_a_signed_folder_verifies(folder, key, ours):
    """Every file is counted, and the key is named as ``sha256sum`` names its public half."""
    signed = signature.verify(folder, key)
    assert (3, digests.of_file(signing_key.public(ours))) == (signed.files, signed.fingerprint)


def test_a_copy_verifies_wherever_it_lies(folder, key, tmp_path):
    """Under another name, and through the pointer ``current``."""
    copy = shutil.copytree(folder, tmp_path / "elsewhere/v7")
    (tmp_path / "current").symlink_to(copy)
    assert 3 == signature.verify(tmp_path / "current", key).files


def test_the_content_has_one_digest_whatever_the_signature(folder, ours):
    """ECDSA signatures are random: two differ, and neither is part of what is compared with the stages' bundle."""
    unsigned = shutil.copytree(folder, folder.with_name("unsigned"))
    (unsigned / "model.sig").unlink()
    first = (folder / "model.sig").read_bytes()
    signature.sign(folder, ours / signing_key.OWN)
    assert first != (folder / "model.sig").read_bytes()
    assert digests.of_path(unsigned) == signature.digest_of_content(folder)


def test_the_tool_of_the_format_agrees(folder, ours):
    """``model_signing verify key``, as docs/signing.md tells whoever has nothing of Graftline."""
    command = [sys.executable, "-m", "model_signing", "verify", "key", folder, "--no-ignore-git-paths"]
    command += ["--signature", folder / "model.sig", "--public_key", signing_key.public(ours)]
    assert 0 == subprocess.run(command, capture_output=True).returncode
    (folder / "labels.txt").write_text("a\nc\n")
    assert 0 != subprocess.run(command, capture_output=True).returncode


@pytest.mark.parametrize("curve", ["SECP256R1", "SECP384R1", "SECP521R1"])
def test_every_curve_of_the_format_signs_and_verifies(folder, tmp_path, curve):
    """Each has a digest of its own."""
    from cryptography.hazmat.primitives.asymmetric import ec

    place = tmp_path / "key.pem"
    place.write_bytes(as_pem(ec.generate_private_key(getattr(ec, curve)())))
    place.chmod(0o600)
    signature.sign(folder, signing_key.ensure(tmp_path, "key.pem"))
    assert 3 == signature.verify(folder, PublicKey.load(signing_key.public(tmp_path))).files
    by_the_library(folder, tmp_path)


def by_the_library(folder: Path, workspace: Path) -> None:
    """Verify with OpenSSF's own code; it raises whatever it likes."""
    from model_signing import hashing, verifying

    every_file = hashing.Config().set_ignored_paths(paths=["model.sig"], ignore_git_paths=False)
    verifier = verifying.Config().use_elliptic_key_verifier(public_key=signing_key.public(workspace))
    verifier.set_hashing_config(every_file).verify(folder, folder / "model.sig")


def as_pem(private) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def test_neither_signing_nor_verifying_asks_the_network(folder, key, ours, monkeypatch):
    """The key is local; nothing is told to a transparency log."""

    def connect(*_):
        raise AssertionError("it called out")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    signature.sign(folder, ours / signing_key.OWN)
    signature.verify(folder, key)


# -- what does not -----------------------------------------------------------------------------------------------------


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


TOUCHED = {
    "a changed byte": (lambda path: flip_a_bit(path / "model.onnx"), "model.onnx, which was changed"),
    "an added file": (lambda path: (path / "golden/x").write_text(""), "golden/x, which was added"),
    "an added hidden file": (lambda path: (path / ".gitignore").write_text("*"), ".gitignore, which was added"),
    "a missing file": (lambda path: (path / "labels.txt").unlink(), "labels.txt, which is missing"),
    "a renamed file": (
        lambda path: (path / "labels.txt").rename(path / "classes.txt"),
        "labels.txt, which is missing (and 1 more)",
    ),
    "a pipe": (lambda path: os.mkfifo(path / "pipe"), "pipe, which is no plain file"),
    "a link instead": (
        lambda path: (path / "labels.txt").rename(path.parent / "x") and (path / "labels.txt").symlink_to("../x"),
        "labels.txt, which is no plain file",
    ),
}


@pytest.mark.parametrize(("touch", "found"), TOUCHED.values(), ids=TOUCHED)
def test_a_touched_file_is_named(folder, key, ours, touch, found):
    """What was done to it, and where. OpenSSF's library refuses it too."""
    touch(folder)
    with pytest.raises(ValueError):
        by_the_library(folder, ours)
    error = refused(folder, key)
    assert (found, str(folder)) == (error.found, error.where)
    assert f"every file as the key {key.fingerprint[:12]}… has signed it" == error.expected


def test_a_missing_signature_is_told_as_such(folder, key):
    """With how a bundle comes by one."""
    (folder / "model.sig").unlink()
    error = refused(folder, key)
    assert ("no model.sig", str(folder)) == (error.found, error.where)
    assert "graftline promote VERSION" in error.remedy


def test_another_key_is_told_as_such(folder, workspaces):
    """Both keys are named, so that they can be compared."""
    ours, theirs = (PublicKey.load(signing_key.public(workspace)) for workspace in workspaces)
    error = refused(folder, theirs)
    assert f"a signature by the key {theirs.fingerprint[:12]}…" == error.expected
    assert f"one by another key, {ours.fingerprint[:12]}…" == error.found
    assert "--key FILE" in error.remedy


def test_a_key_cannot_be_claimed(folder, key, ours, workspaces):
    """Signed with another key, under the name of ours: the name is not what is believed."""
    signature.sign(folder, workspaces[1] / signing_key.OWN)
    edit(folder, lambda document: document["verificationMaterial"]["publicKey"].update(hint=key.fingerprint))
    with pytest.raises(InvalidSignature):
        by_the_library(folder, ours)
    assert "one that is damaged, or of another form" == refused(folder, key).found


def test_a_rewritten_list_of_files_is_refused(folder, key, ours):
    """The file was changed and the signature's own list with it."""
    (folder / "labels.txt").write_text("b\na\n")
    edit(folder, lambda document: relist(document, folder))
    with pytest.raises(InvalidSignature):
        by_the_library(folder, ours)
    assert "one that is damaged, or of another form" == refused(folder, key).found


def test_a_signature_of_another_kind_is_told_as_such(folder, key):
    """Keyless signatures are checked with the format's own tool."""
    edit(folder, lambda document: document.update(verificationMaterial={"certificate": {"rawBytes": ""}}))
    error = refused(folder, key)
    assert "one that was not made with a key (keyless, or with a certificate)" == error.found
    assert "docs/signing.md" in error.remedy


def edit(folder: Path, change) -> None:
    document = json.loads((folder / "model.sig").read_text())
    change(document)
    (folder / "model.sig").write_text(json.dumps(document))


def relist(document: dict, folder: Path) -> None:
    envelope = document["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    for entry in statement["predicate"]["resources"]:
        entry["digest"] = digests.of_file(folder / entry["name"])
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()


DAMAGED = {
    "empty": b"",
    "cut off": None,
    "not JSON": b"\x00\xff",
    "another document": b"{}",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "nothing signed": b'{"verificationMaterial": {"publicKey": {"hint": "KEY"}}}',
    "no signatures": b'{"verificationMaterial": {"publicKey": {"hint": "KEY"}}, "dsseEnvelope": {"signatures": []}}',
    "a wrong envelope": b'{"verificationMaterial": {"publicKey": {"hint": "KEY"}}, "dsseEnvelope": 7}',
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_signature_is_told_as_such(folder, key, content):
    """Whatever is in the file: one message, and no other exception."""
    file = folder / "model.sig"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content is None else content.replace(b"KEY", key.fingerprint.encode()))
    error = refused(folder, key)
    assert ("one that is damaged, or of another form", str(file)) == (error.found, error.where)


def test_a_list_that_leaves_files_out_is_refused(folder, key, ours):
    """The library's option to ignore a file: whoever adds one later must not find it open."""
    from model_signing import hashing, signing

    some = hashing.Config().set_ignored_paths(paths=["model.sig", "labels.txt"])
    signer = signing.Config().use_elliptic_key_signer(private_key=ours / signing_key.OWN).set_hashing_config(some)
    signer.sign(folder, folder / "model.sig")
    assert "labels.txt, which was added" == refused(folder, key).found


def test_no_single_changed_byte_of_the_signature_passes_for_another_list_of_files(folder, key):
    """Every 7th byte in turn. What still verifies verifies the same files: JSON has more than one spelling."""
    file, whole = folder / "model.sig", (folder / "model.sig").read_bytes()
    refusals = 0
    for position in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[position] ^= 1
        file.write_bytes(changed)
        try:
            assert 3 == signature.verify(folder, key).files
        except BundleError:
            refusals += 1
    assert refusals > len(whole) / 7 * 0.95


# -- keys --------------------------------------------------------------------------------------------------------------


def test_a_key_is_made_once_and_is_its_owners(tmp_path):
    """Mode 0600, also under a generous umask; the next need finds it."""
    mask = os.umask(0)
    try:
        place = signing_key.ensure(tmp_path, None)
    finally:
        os.umask(mask)
    content = place.read_bytes()
    assert 0o600 == place.stat().st_mode & 0o777
    assert tmp_path / ".graftline/signing_key.pem" == place
    assert (place, content) == (signing_key.ensure(tmp_path, None), place.read_bytes())
    assert ["signing_key.pem", "signing_key.pub"] == sorted(path.name for path in place.parent.iterdir())


def test_checking_makes_nothing(tmp_path):
    """A run looks before its stages; the key is made when there is something to sign."""
    signing_key.check(tmp_path, None)
    assert [] == list(tmp_path.iterdir())


def test_a_named_key_signs(tmp_path, folder):
    """With ``publish.signing_key``, relative to the workspace; its public half lies where it always lies."""
    theirs = tmp_path / "keys/shop.pem"
    theirs.parent.mkdir()
    shutil.copy(signing_key.ensure(tmp_path / "other", None), theirs)
    signature.sign(folder, signing_key.ensure(tmp_path, "keys/shop.pem"))
    public = PublicKey.load(signing_key.public(tmp_path))
    assert 3 == signature.verify(folder, public).files
    assert not (tmp_path / signing_key.OWN).exists()


def _missing(place: Path) -> None:
    place.unlink()


def _readable(place: Path) -> None:
    place.chmod(0o640)


def _no_key(place: Path) -> None:
    place.write_text("hello")


def _of_another_kind(place: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ed25519

    place.write_bytes(as_pem(ed25519.Ed25519PrivateKey.generate()))


def _encrypted(place: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    private = serialization.load_pem_private_key(place.read_bytes(), None)
    place.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )


@pytest.mark.parametrize(
    ("spoil", "found", "remedy"),
    [
        (_missing, "nothing there", "openssl ecparam -name prime256v1 -genkey"),
        (_readable, "one that others may read (mode 0640)", "chmod 600"),
        (_no_key, "another file, or an encrypted key", "openssl ecparam"),
        (_encrypted, "another file, or an encrypted key", "openssl ecparam"),
        (_of_another_kind, "a key of another kind", "openssl ecparam"),
    ],
)
@pytest.mark.parametrize("ask", [signing_key.check, signing_key.ensure])
def test_a_named_key_that_cannot_sign_is_refused(tmp_path, spoil, found, remedy, ask):
    """None is made in its place: a mount that failed must not end in a signature that nobody knows."""
    place = tmp_path / "key.pem"
    shutil.copy(signing_key.ensure(tmp_path / "other", None), place)
    spoil(place)
    with pytest.raises(ParamsError) as problem:
        ask(tmp_path, str(place))
    assert (found, f"{place} (publish.signing_key in params.yaml)") == (problem.value.found, problem.value.where)
    assert remedy in problem.value.remedy
    assert not signing_key.public(tmp_path).exists()


@pytest.mark.parametrize("ask", [signing_key.check, signing_key.ensure])
def test_a_lost_private_half_is_not_replaced_in_silence(tmp_path, ask):
    """Those who verify by the public half would be turned away, and would not know why."""
    signing_key.ensure(tmp_path, None).unlink()
    with pytest.raises(ParamsError) as problem:
        ask(tmp_path, None)
    assert "only its public half (.graftline/signing_key.pub)" == problem.value.found
    assert "from a backup" in problem.value.remedy


@pytest.mark.parametrize("content", [None, b"hello", b""])
def test_a_public_key_that_is_none_is_refused(tmp_path, content, ours):
    """Missing, another file; and the private half is not asked for."""
    file = tmp_path / "key.pub"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BundleError) as problem:
        PublicKey.load(file)
    assert ("nothing there" if content is None else "something else", str(file)) == (
        problem.value.found,
        problem.value.where,
    )
    with pytest.raises(BundleError, match="found something else"):
        PublicKey.load(ours / signing_key.OWN)


def test_the_fingerprint_is_the_keys_and_not_the_files(key, ours, tmp_path):
    """The same key with other line ends."""
    file = tmp_path / "key.pub"
    file.write_bytes(signing_key.public(ours).read_bytes().replace(b"\n", b"\r\n"))
    assert key.fingerprint == PublicKey.load(file).fingerprint
