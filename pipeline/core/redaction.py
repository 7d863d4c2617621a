"""Takes secrets out of what is logged: credentials in URLs, signed queries, values under keys that tell."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "***"

_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/\s\"'?#]+@")
_QUERY = re.compile(r"(?P<address>[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'?#]+)\?[^\s\"'#]+")
_SECRET_KEY = re.compile(r"webhook|password|passwd|secret|token|api_?key|credential", re.IGNORECASE)


def redact(text: str) -> str:
    """Hide the credentials and the query of every URL in ``text``.

    >>> redact("https://me:pw@store.org/weights.pt?signature=abc")
    'https://***@store.org/weights.pt?***'
    """
    return _QUERY.sub(rf"\g<address>?{HIDDEN}", _USERINFO.sub(rf"\g<scheme>{HIDDEN}@", text))


def redacted(value: Any, key: str = "") -> Any:
    """A copy of a JSON-able ``value`` in which every secret is hidden, however deep it lies."""
    if value is not None and _SECRET_KEY.search(key):
        return HIDDEN
    if isinstance(value, dict):
        return {name: redacted(item, str(name)) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(item) for item in value]
    return redact(value) if isinstance(value, str) else value
