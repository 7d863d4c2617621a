"""Secrets in addresses: they stand in the environment, and params.yaml names the variable.

params.yaml is committed, and DVC copies its sections into dvc.lock; an address written there must hold none.
"""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qsl, urlsplit

from pipeline.core.errors import ParamsError

VARIABLE = re.compile(r"\$(?:\{([A-Z_][A-Z0-9_]*)\}|([A-Z_][A-Z0-9_]*))")
"""``$NAME`` or ``${NAME}``, in capitals: what may stand in an address otherwise is left alone."""

_TELLING = re.compile(
    r"token|secret|password|passwd|credential|signature|(?<![a-z])(sig|auth|key)(?![a-z])|(api|access)key",
    re.IGNORECASE,
)
"""Names of query values that are secrets: ``token``, ``X-Amz-Signature``, ``sig``, ``api_key``; not ``design``."""


def filled(text: str, where: str) -> str:
    """``text`` with each ``$NAME`` replaced by that variable of the environment.

    Raises:
        ParamsError: a variable is not set, or is empty.
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1) or match.group(2)
        if not os.environ.get(name):
            raise ParamsError(
                expected=f"a value in the environment variable {name}",
                found="no such variable",
                where=where,
                remedy=f"export {name}=… where the run starts, or write the address without it.",
            )
        return os.environ[name]

    return VARIABLE.sub(value, text)


def has_secret(url: str) -> bool:
    """Is a password or a token written out in the address, rather than named as ``$NAME``? A user's name without a
    password may be a token, as git hosts take it.

    >>> [has_secret(url) for url in ("https://h/w?token=abc", "https://h/w?token=$TOKEN", "https://h/w?download=1")]
    [True, False, False]
    >>> [has_secret(url) for url in ("https://abc@h/w", "https://$TOKEN@h/w", "https://h/w?design=3")]
    [True, False, False]
    """
    parts = urlsplit(VARIABLE.sub("", url))
    user, is_asked, password = parts.netloc.rpartition("@")[0].partition(":")
    return bool(password or (user and not is_asked)) or any(
        value and _TELLING.search(name) for name, value in parse_qsl(parts.query)
    )
