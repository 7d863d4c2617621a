"""Who signs what this workspace hands off."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from pipeline.core.errors import BundleError
from pipeline.serving import signature, signing_key


class Signer:
    """Signs with the key that params.yaml names, or with the workspace's own; that one is made when it is first needed.

    Args:
        workspace: the workspace.
        named: ``publish.signing_key``; None for the workspace's own.
    """

    def __init__(self, workspace: Path, named: str | None) -> None:
        self._workspace, self._named = workspace, named

    def sign(self, bundle: Path) -> None:
        """Sign every file in the folder.

        Raises:
            ParamsError: there is no key to sign with, or it cannot be used.
        """
        signature.sign(bundle, self._private_key)

    def has_signed(self, bundle: Path) -> bool:
        """Whether the folder is, to the byte, what this signer has signed."""
        if not signature.is_signed(bundle):
            return False
        try:
            signature.verify(bundle, self._public_key)
        except BundleError:
            return False
        return True

    @cached_property
    def _private_key(self) -> Path:
        return signing_key.ensure(self._workspace, self._named)

    @property
    def _public_key(self) -> signing_key.PublicKey:
        _ = self._private_key  # its public half is brought in step
        return signing_key.PublicKey.load(signing_key.public(self._workspace))
